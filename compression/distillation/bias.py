"""A class that the student never saw: its logit's bias, put right afterwards.

Hinton et al. 2015, section 3, set it by hand on the test set; here the validation split decides, never the test.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from compression.errors import MethodError
from compression.network import Network, as_tuple

SWEEPS = 20
FOLDS = 5


def by_labels(logits: Tensor, labels: Tensor, classes: Sequence[int]) -> Tensor:
    """What to add to each logit (zero but for `classes`) so that `labels` (N) are met by `logits` (N × C).

    As the bias of one class grows, samples change over to it one by one. How many are then right is coarse where there
    are few samples: of the biases within one standard error of the most right, the likeliest (of the least
    cross-entropy) is taken, as the training loop chooses an epoch. Several classes take turns.
    """
    return _in_turns(logits, classes, lambda others, index: _best_bias(others, labels, index))


def _in_turns(logits: Tensor, classes: Sequence[int], bias: Callable[[Tensor, int], float]) -> Tensor:
    """Each class's `bias`, from logits to which those of the other classes are added, until none changes any more."""
    added = torch.zeros(logits.shape[1], dtype=torch.float64)
    logits = logits.double()
    for _ in range(SWEEPS if len(classes) > 1 else 1):
        before = added.clone()
        for index in classes:
            added[index] = bias(logits + added.where(torch.arange(len(added)) != index, 0), index)
        if torch.equal(before, added):
            break
    return added


def _best_bias(logits: Tensor, labels: Tensor, index: int) -> float:
    others = logits.clone()
    others[:, index] = -torch.inf
    margins, order = torch.sort(others.max(1).values - logits[:, index], stable=True)  # a larger bias says `index`
    mine, lost = labels == index, others.argmax(1) == labels
    correct = lost.sum() + torch.cat([torch.zeros(1), (mine.double() - lost.double())[order].cumsum(0)])
    edges = torch.cat([margins[:1] - 1, margins, margins[-1:] + 1])
    right = float(correct.max()) / len(labels)
    near = correct >= correct.max() - math.sqrt(max(right * (1 - right), 1 / len(labels)) * len(labels))
    kept = near & (edges[1:] > edges[:-1])  # equal margins change over together
    lows, highs = edges[:-1][kept], edges[1:][kept]
    likeliest = _with_mean(logits, index, float(mine.double().mean()))
    away = torch.maximum(lows - likeliest, likeliest - highs)
    nearest = int(away.argmin())
    return likeliest if away[nearest] < 0 else float(lows[nearest] + highs[nearest]) / 2


def _with_mean(logits: Tensor, index: int, wanted: float) -> float:
    """The bias of one class at which its mean probability is `wanted`. Where that is the share of its samples, the
    cross-entropy is the least: its derivative by the bias is the difference of the two."""
    low, high = -100.0, 100.0
    added = torch.zeros(logits.shape[1], dtype=torch.float64)
    for _ in range(60):
        added[index] = (low + high) / 2
        if float(torch.softmax(logits + added, 1)[:, index].mean()) < wanted:
            low = float(added[index])
        else:
            high = float(added[index])
    return float(added[index])


def by_prior(logits: Tensor, teacher: Tensor, classes: Sequence[int]) -> Tensor:
    """What to add to each logit so that the mean probability of each of `classes` over these samples (N × C, data in
    which the classes occur) is the teacher's. No labels are needed."""
    wanted = torch.softmax(teacher.double(), 1).mean(0)
    return _in_turns(logits, classes, lambda others, index: _with_mean(others, index, float(wanted[index])))


def cross_fitted(logits: Tensor, known: Tensor, fit: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The logits (N × C), each with what `fit` finds from the other four fifths of the samples: figures of these aren't
    flattered by samples that chose their own correction. `known`: what `fit` needs of each sample, N × …."""
    place = torch.randperm(len(logits), generator=torch.Generator().manual_seed(0)) % FOLDS
    found = logits.double().clone()
    for fold in range(min(FOLDS, len(logits))):
        others = place != fold
        found[~others] += fit(logits[others], known[others])
    return found


def with_added_bias(network: Network, added: Tensor, output: int) -> Network:
    """A copy whose output number `output` has `added` (C) in its last layer's bias. MethodError: there is no such
    layer, or its bias may not be any number."""
    network = network.copy()
    node: Any = as_tuple(network.module.graph.output_node().args[0])[output]
    layer = network.module.get_submodule(str(node.target)) if node.op == "call_module" else None
    if not isinstance(layer, nn.Linear) or f"{node.target}.bias" in network.encodings:
        raise MethodError("the bias of a class can only be corrected in a linear layer at the end", str(node.name))
    before: nn.Parameter | None = layer.bias
    layer.bias = nn.Parameter(added.float() if before is None else before.detach() + added.float())
    return network
