"""A class that the student never saw: its logit's bias, put right afterwards.

Hinton et al. 2015, section 3, set it by hand on the test set; here the validation split decides, never the test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from compression.errors import MethodError
from compression.network import Network, as_tuple

SWEEPS = 20
FOLDS = 5


def by_labels(logits: Tensor, labels: Tensor, classes: Sequence[int]) -> Tensor:
    """What to add to each logit (zero but for `classes`) so that the most of `labels` (N) are met by `logits` (N × C).

    With one class this is exact: as its bias grows, samples change over to it one by one, and the middle of the best
    interval is taken (of intervals that tie, the one nearest to zero). Several classes take turns.
    """
    added = torch.zeros(logits.shape[1], dtype=torch.float64)
    logits = logits.double()
    for _ in range(SWEEPS if len(classes) > 1 else 1):
        before = added.clone()
        for index in classes:
            added[index] = _best_bias(logits + added.where(torch.arange(len(added)) != index, 0), labels, index)
        if torch.equal(before, added):
            break
    return added


def _best_bias(logits: Tensor, labels: Tensor, index: int) -> float:
    others = logits.clone()
    others[:, index] = -torch.inf
    margins, order = torch.sort(others.max(1).values - logits[:, index], stable=True)  # a larger bias says `index`
    gained = (labels == index).long() - (others.argmax(1) == labels).long()
    correct = torch.cat([torch.zeros(1, dtype=torch.long), gained[order].cumsum(0)])
    edges = torch.cat([margins[:1] - 1, margins, margins[-1:] + 1])
    lows, highs = edges[:-1], edges[1:]
    open_ = highs > lows  # equal margins change over together
    best = correct[open_].max()
    middles = ((lows + highs) / 2)[open_ & (correct == best)]
    return float(middles[middles.abs().argmin()])


def by_prior(logits: Tensor, teacher: Tensor, classes: Sequence[int]) -> Tensor:
    """What to add to each logit so that the mean probability of each of `classes` over these samples (N × C, data in
    which the classes occur) is the teacher's. No labels are needed."""
    added = torch.zeros(logits.shape[1], dtype=torch.float64)
    logits, wanted = logits.double(), torch.softmax(teacher.double(), 1).mean(0)
    for _ in range(SWEEPS if len(classes) > 1 else 1):
        for index in classes:
            low, high = -100.0, 100.0
            for _ in range(60):
                added[index] = (low + high) / 2
                if float(torch.softmax(logits + added, 1)[:, index].mean()) < float(wanted[index]):
                    low = float(added[index])
                else:
                    high = float(added[index])
    return added


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
