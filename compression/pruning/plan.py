"""Which channels go until the target is met: the least important, by the cost they save where that makes sense."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from compression.errors import MethodError
from compression.pruning.channel_map import ChannelMap, Layer
from compression.pruning.importance import Scores, dimensions

Measure = Literal["macs", "parameters"]


@dataclass
class _Width:
    """A set of interchangeable classes, least important first; `removed` of them are gone."""

    classes: list[int]
    unit: int  # classes removed at once
    channels_each: int  # channels of each class in its first producer
    removed: int = 0

    def next_block(self, multiple_of: int) -> list[int]:
        left = len(self.classes) - self.removed
        surplus = (left * self.channels_each) % multiple_of // self.channels_each if multiple_of > 1 else 0
        count = surplus or self.unit
        return self.classes[self.removed : self.removed + count] if left > count else []


class CostModel:
    """Cost of the convolution, linear and norm layers by how many channels they have left."""

    def __init__(self, channels: ChannelMap, measure: Measure, elsewhere: int) -> None:
        self.measure = measure
        self.elsewhere = elsewhere  # cost of everything that pruning doesn't touch
        self.layers = channels.layers
        self.inputs = {name: len(layer.inputs) for name, layer in channels.layers.items()}
        self.outputs = {name: len(layer.outputs) for name, layer in channels.layers.items()}
        self.norms = {name: len(ids) for name, ids in channels.norms.items()}
        self.norm_parameters = channels.norm_parameters
        self.uses: dict[int, Counter[tuple[str, str]]] = {}
        for kind, entries in (
            ("inputs", {name: layer.inputs for name, layer in channels.layers.items()}),
            ("outputs", {name: layer.outputs for name, layer in channels.layers.items()}),
            ("norms", channels.norms),
        ):
            for name, ids in entries.items():
                for representative, count in Counter(channels.classes[ids].tolist()).items():
                    self.uses.setdefault(representative, Counter())[kind, name] += count

    def of_layer(self, layer: Layer, inputs: int, outputs: int) -> float:
        weights = layer.kernel * outputs * (1 if layer.depthwise else inputs / layer.groups)
        if self.measure == "macs":
            return weights * layer.positions
        return weights + (outputs if layer.bias else 0)

    def total(self) -> float:
        layers = sum(self.of_layer(layer, self.inputs[name], self.outputs[name]) for name, layer in self.layers.items())
        return layers + self.elsewhere + (self._of_norms(self.norms) if self.measure == "parameters" else 0)

    def _of_norms(self, counts: Mapping[str, int]) -> int:
        return sum(count * self.norm_parameters[name] for name, count in counts.items())

    def saving(self, block: list[int]) -> float:
        """What removing the classes of a block would save."""
        lost = sum((self.uses[representative] for representative in block), Counter[tuple[str, str]]())
        saved = 0.0
        for name in {name for kind, name in lost if kind != "norms"}:
            layer, inputs, outputs = self.layers[name], self.inputs[name], self.outputs[name]
            after = self.of_layer(layer, inputs - lost["inputs", name], outputs - lost["outputs", name])
            saved += self.of_layer(layer, inputs, outputs) - after
        if self.measure == "parameters":
            saved += self._of_norms({name: count for (kind, name), count in lost.items() if kind == "norms"})
        return saved

    def leaves(self, block: list[int], floors: Mapping[str, int]) -> bool:
        """Whether every layer keeps at least its floor of channels when the block is gone."""
        lost = sum((self.uses[representative] for representative in block), Counter[tuple[str, str]]())
        return all(
            self.outputs[name] - count >= floors[name] for (kind, name), count in lost.items() if kind == "outputs"
        )

    def remove(self, block: list[int]) -> None:
        counts = {"inputs": self.inputs, "outputs": self.outputs, "norms": self.norms}
        for representative in block:
            for (kind, name), count in self.uses[representative].items():
                counts[kind][name] -= count


def choose(
    channels: ChannelMap,
    scores: Scores,
    cost: CostModel,
    target: float,
    *,
    by_saving: bool,
    selected: set[str],
    floors: Mapping[str, int],
    multiple_of: int,
) -> list[int]:
    """Representatives of the classes to remove so that the cost falls to `target` or just below.

    `by_saving`: importance lost for each unit of cost won decides; else the mean importance of what is removed. Scores
    that estimate a loss can be weighed against cost, norms can't. `selected` layers may lose channels;
    each layer keeps at least `floors` of its outputs.
    Raises MethodError when the limits don't let the target be reached.
    """
    widths = _widths(channels, scores, selected, multiple_of)
    removed: list[int] = []
    while cost.total() > target:
        best: tuple[float, _Width, list[int]] | None = None
        for width in widths:
            block = width.next_block(multiple_of)
            saved = cost.saving(block) if block and cost.leaves(block, floors) else 0.0
            if saved <= 0:
                continue
            price = float(scores[block].sum()) / (saved if by_saving else len(block))
            if best is None or price < best[0]:
                best = (price, width, block)
        if best is None:
            raise MethodError(
                f"the target can't be reached: {cost.total():,.0f} {cost.measure} are left of {target:,.0f} wanted "
                "when every layer is as narrow as allowed; raise max_layer_ratio, the target, or select more layers",
                cost.measure,
            )
        _, width, block = best
        width.removed += len(block)
        removed += block
        cost.remove(block)
    return removed


def _widths(
    channels: ChannelMap,
    scores: Scores,
    selected: set[str],
    multiple_of: int,
) -> list[_Width]:
    widths = []
    for names, classes in dimensions(channels).items():
        if not set(names) <= selected:
            continue
        first = channels.layers[names[0]]
        each = max(1, int(np.isin(channels.classes[first.outputs], classes).sum()) // len(classes))
        unit = max(1, math.ceil(multiple_of / each))
        ordered = classes[np.argsort(scores[classes], kind="stable")].tolist()
        widths.append(_Width(ordered, unit, each))
    return widths
