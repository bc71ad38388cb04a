"""What is known of a network's channels: numbers, the layers that make and read them, and who is tied to whom."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Channels:
    """The channel numbers `ids` along `axis` of a tensor."""

    axis: int
    ids: Ids


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer's place in the graph: `inputs` are the numbers along weight axis 1 (of all groups,
    one after the other), `outputs` those along axis 0. `positions` is how often each weight is used for one sample."""

    name: str
    inputs: Ids
    outputs: Ids
    groups: int
    kernel: int
    positions: int
    bias: bool

    @property
    def depthwise(self) -> bool:
        return self.groups > 1 and self.groups == len(self.inputs)


@dataclass
class ChannelMap:
    """The outcome: layers, norms (name → numbers of their channels), and for each number its class and whether it is
    frozen. `frozen_by` says, for the layers with frozen channels, what froze them."""

    layers: dict[str, Layer] = field(default_factory=dict)
    norms: dict[str, Ids] = field(default_factory=dict)
    norm_parameters: dict[str, int] = field(default_factory=dict)  # of each channel of a norm
    classes: Ids = field(default_factory=lambda: np.empty(0, dtype=np.int64))  # number → class representative
    frozen: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, dtype=np.bool_))  # by number
    frozen_by: dict[str, str] = field(default_factory=dict)

    def prunable(self, layer: Layer) -> bool:
        return not bool(self.frozen[layer.outputs].all())


class Numbers:
    """Channel numbers as a union-find forest: numbers of one tree are one class, which lives and dies together."""

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._reasons: dict[int, str] = {}  # number → why it can't go

    def new(self, count: int) -> Ids:
        start = len(self._parent)
        self._parent.extend(range(start, start + count))
        return np.arange(start, start + count, dtype=np.int64)

    def find(self, number: int) -> int:
        while self._parent[number] != number:
            self._parent[number] = self._parent[self._parent[number]]
            number = self._parent[number]
        return number

    def unite(self, left: Ids, right: Ids) -> None:
        for one, other in zip(left.tolist(), right.tolist(), strict=True):
            a, b = self.find(one), self.find(other)
            if a != b:
                self._parent[max(a, b)] = min(a, b)

    def freeze(self, ids: Ids, reason: str) -> None:
        for number in ids.tolist():
            self._reasons.setdefault(number, reason)

    def settle(self, channels: ChannelMap) -> ChannelMap:
        """Writes classes and what is frozen into the map, now that all of the graph was followed."""
        channels.classes = np.array([self.find(number) for number in range(len(self._parent))], dtype=np.int64)
        reason_of = {self.find(number): reason for number, reason in self._reasons.items()}
        channels.frozen = np.isin(channels.classes, list(reason_of))
        for layer in channels.layers.values():
            for number in layer.outputs[channels.frozen[layer.outputs]][:1]:
                channels.frozen_by[layer.name] = reason_of[int(channels.classes[number])]
        return channels
