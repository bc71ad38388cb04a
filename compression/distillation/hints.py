"""Hints: inner layers of the student that are trained to tell what inner layers of the teacher say.

Romero et al. 2015 (FitNets): a regressor maps the student's features to the teacher's, and is dropped after training.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation uses
from torch import Tensor, fx, nn

from compression.errors import MethodError
from compression.intake.shapes import shapes
from compression.network import Network, as_tuple

BATCH = 3
PAIRS = 4


@dataclass(frozen=True)
class Pair:
    """Names of two nodes whose values have the same lengths but for their channels."""

    student: str
    teacher: str
    student_channels: int
    teacher_channels: int
    image: bool


@dataclass(frozen=True)
class _Feature:
    node: str
    shape: tuple[int, ...]  # with the batch
    depth: float  # share of the layers before it

    @property
    def channel_axis(self) -> int:
        """Images have channels first, sequences and vectors last."""
        return 1 if len(self.shape) == 4 else len(self.shape) - 1

    @property
    def places(self) -> tuple[int, ...]:
        return self.shape[: self.channel_axis] + self.shape[self.channel_axis + 1 :]


def match(student: Network, teacher: Network) -> list[Pair]:
    """At most four pairs. Where both have images of one size, the last value of that size; where no size is shared
    (perceptrons, transformers), values at the same share of the depth. MethodError: nothing matches."""
    ours, theirs = _features(student), _features(teacher)
    last = {entry.places: entry for entry in ours if len(entry.shape) == 4}
    last_of_teacher = {entry.places: entry for entry in theirs if len(entry.shape) == 4}
    pairs = [_pair(last[places], last_of_teacher[places]) for places in last if places in last_of_teacher]
    if not pairs:
        for entry in ours:
            alike = [other for other in theirs if other.places == entry.places and len(other.shape) == len(entry.shape)]
            if alike:
                pairs.append(_pair(entry, min(alike, key=lambda other: abs(other.depth - entry.depth))))
    if not pairs:
        raise MethodError("no inner layers of student and teacher have the same size: leave hints at 0", "hints")
    if len(pairs) <= PAIRS:
        return pairs
    return [pairs[round(index * (len(pairs) - 1) / (PAIRS - 1))] for index in range(PAIRS)]


def _pair(ours: _Feature, theirs: _Feature) -> Pair:
    axis = ours.channel_axis
    return Pair(ours.node, theirs.node, ours.shape[axis], theirs.shape[axis], len(ours.shape) == 4)


def _features(network: Network) -> list[_Feature]:
    """What layers with weights lead to: the last value before the next such layer, outputs left out."""
    values = shapes(network.module, network.signature.inputs, BATCH)
    layers = network.layers()
    found: list[_Feature] = []
    passed, total = 0, max(1, sum(str(node.target) in layers for node in network.module.graph.nodes))
    ends = _ends(network.module)
    current: fx.Node | None = None
    for node in network.module.graph.nodes:
        if node.op == "call_module" and str(node.target) in layers and not _is_norm(layers[str(node.target)]):
            if current is not None:
                found.append(_Feature(current.name, tuple(values[current].shape), passed / total))
            current = None
        passed += node.op == "call_module" and str(node.target) in layers
        value = values.get(node)
        if passed and node not in ends and isinstance(value, Tensor) and _is_feature(value):
            current = node
    return found


def _is_norm(layer: nn.Module) -> bool:
    return isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm)


def _is_feature(value: Tensor) -> bool:
    return value.is_floating_point() and 2 <= value.dim() <= 4 and value.shape[0] == BATCH


def _ends(module: fx.GraphModule) -> set[fx.Node]:
    return set(module.graph.output_node().all_input_nodes)


def tapped(module: fx.GraphModule, nodes: Sequence[str]) -> fx.GraphModule:
    """A module that shares the other's layers and returns the values of `nodes` after its outputs, in one tuple."""
    graph = copy.deepcopy(module.graph)
    by_name = {node.name: copied for node, copied in zip(module.graph.nodes, graph.nodes, strict=True)}
    output = graph.output_node()
    output.args = ((*as_tuple(output.args[0]), *(by_name[name] for name in nodes)),)
    return fx.GraphModule(module, graph)


class Regressors(nn.Module):
    """A 1 × 1 convolution (for sequences and vectors a linear layer) for each pair, from the student's channels to the
    teacher's, drawn from `seed`."""

    def __init__(self, pairs: Sequence[Pair], seed: int) -> None:
        super().__init__()
        self.pairs = pairs
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layers = nn.ModuleList(
                nn.Conv2d(pair.student_channels, pair.teacher_channels, 1)
                if pair.image
                else nn.Linear(pair.student_channels, pair.teacher_channels)
                for pair in pairs
            )

    def loss(self, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Tensor:
        """Mean over pairs of the mean squared error, in units of the teacher's mean square: a share of its energy."""
        losses = [
            F.mse_loss(layer(value), target) / target.square().mean().clamp_min(1e-12)
            for layer, value, target in zip(self.layers, ours, theirs, strict=True)
        ]
        return sum(losses[1:], losses[0]) / len(losses)
