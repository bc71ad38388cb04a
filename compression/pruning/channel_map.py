"""What is known of a network's channels: who makes and who reads them, and what has to change when one goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from compression.pruning.numbers import Ids

Part = Literal["channels", "neurons", "heads", "head_dim", "width"]
Labels: TypeAlias = Mapping[int, Ids]
"""The numbers along each axis of a tensor; an axis that isn't there stays as it is."""


@dataclass(frozen=True)
class Layer:
    """A convolution's or linear layer's numbers: `inputs` of all groups, one after the other. A `transposed`
    convolution's weight has its inputs along axis 0; every other's has its outputs there."""

    name: str
    inputs: Ids
    outputs: Ids
    groups: int = 1
    transposed: bool = False

    @property
    def depthwise(self) -> bool:
        return self.groups > 1 and self.groups == len(self.inputs)


@dataclass(frozen=True)
class Recurrent:
    """A recurrent layer's numbers: `inputs`, and `hidden` of one direction, which the other shares."""

    name: str
    inputs: Ids
    hidden: Ids


@dataclass(frozen=True)
class Read:
    """Where channels are summed over: `ids` along `axis` (from the end: −1 is the last) of the argument of `node` at
    `path` ((0,) is the first, (1, 0) the first of a list that is the second). Of a recurrent layer the arguments are
    those of `recurrent.stepped`: its weights are among them."""

    node: str
    path: tuple[int, ...]
    axis: int
    ids: Ids


@dataclass(frozen=True)
class Average:
    """A norm (node) whose statistics run over its channels `ids`: all of them, or those of each of `groups`."""

    node: str
    ids: Ids
    groups: Ids | None


@dataclass(frozen=True)
class Product:
    """Multiplications of `node`: `macs` in all, in proportion to what is left of each of `axes`."""

    macs: int
    axes: tuple[Ids, ...]
    node: str = ""


@dataclass(frozen=True)
class Width:
    """Interchangeable units, which `names` produce: what a network diagram shows as one number."""

    names: tuple[str, ...]
    parts: frozenset[Part]
    units: Ids


@dataclass
class ChannelMap:
    """`slices`: each tensor's axes that shrink. `attributes` of modules, `literals` in node arguments (node, path) and
    `splits` count what is left of these numbers; `scales` of attention stay what they were while numbers are lost.

    `units[number]` are the units that a number lives by, padded with −1; `kinds` and `reasons` (frozen) are by unit.
    """

    layers: dict[str, Layer] = field(default_factory=dict)
    recurrent: dict[str, Recurrent] = field(default_factory=dict)
    producers: dict[str, Ids] = field(default_factory=dict)  # layers, recurrent layers and embeddings
    norms: dict[str, Ids] = field(default_factory=dict)
    slices: dict[str, dict[int, Ids]] = field(default_factory=dict)
    attributes: dict[tuple[str, str], Ids] = field(default_factory=dict)
    literals: dict[tuple[str, tuple[int, ...]], Ids] = field(default_factory=dict)
    splits: dict[str, list[Ids]] = field(default_factory=dict)
    scales: dict[str, tuple[float, Ids]] = field(default_factory=dict)
    reads: list[Read] = field(default_factory=list)
    averages: dict[str, Average] = field(default_factory=dict)
    products: list[Product] = field(default_factory=list)
    convolutions: set[str] = field(default_factory=set)
    units: Ids = field(default_factory=lambda: np.empty((0, 1), dtype=np.int64))
    reasons: dict[int, str] = field(default_factory=dict)
    kinds: dict[int, frozenset[str]] = field(default_factory=dict)

    def kept(self, removed: list[int]) -> NDArray[np.bool_]:
        """Which numbers are left without the units `removed`."""
        return ~np.asarray(np.isin(self.units, removed).any(axis=1), dtype=np.bool_)

    def members(self, ids: Ids) -> tuple[Ids, Ids]:
        """(places in `ids`, units): each place once for each unit that it lives by."""
        units = self.units[ids]
        places, columns = np.nonzero(units >= 0)
        return places, units[places, columns]

    def open_units(self, ids: Ids) -> list[int]:
        """The units of `ids` that may go, in their order."""
        return [unit for unit in dict.fromkeys(self.members(ids)[1].tolist()) if unit not in self.reasons]

    @property
    def frozen_by(self) -> dict[str, str]:
        """For each producer with a channel that can't go, what holds it."""
        found: dict[str, str] = {}
        for name, ids in self.producers.items():
            for units in self.units[ids].tolist():
                held = [self.reasons.get(unit) for unit in units if unit >= 0]
                if all(reason is not None for reason in held):
                    found[name] = str(held[0])
                    break
        return found

    def prunable(self, name: str) -> bool:
        return bool(self.open_units(self.producers[name]))

    def widths(self) -> list[Width]:
        """All units that may go, by the layers that produce them, what they are, and where else they occur."""
        producers: dict[int, list[str]] = {}
        for name, ids in self.producers.items():
            for unit in self.open_units(ids):
                producers.setdefault(unit, []).append(name)
        places = self._places()
        found: dict[tuple[tuple[str, ...], frozenset[Part], frozenset[tuple[int, int]]], list[int]] = {}
        for unit, names in producers.items():
            key = tuple(names), self.parts(unit, names), frozenset(places.get(unit, ()))
            found.setdefault(key, []).append(unit)
        return [
            Width(names, parts, np.array(sorted(units), dtype=np.int64)) for (names, parts, _), units in found.items()
        ]

    def parts(self, unit: int, names: list[str]) -> frozenset[Part]:
        marked: frozenset[Part] = self.kinds.get(unit, frozenset())  # type: ignore[assignment]
        if marked:
            return marked
        return frozenset({"channels" if self.convolutions & set(names) else "neurons"})

    def _places(self) -> dict[int, set[tuple[int, int]]]:
        """Which tensors and readers, by a number each, hold a unit, and how often: units that occur alike are
        interchangeable, a group of channels and a place in every group aren't."""
        arrays = [read.ids for read in self.reads] + [ids for axes in self.slices.values() for ids in axes.values()]
        arrays += [ids for product in self.products for ids in product.axes]
        found: dict[int, set[tuple[int, int]]] = {}
        for place, ids in enumerate(arrays):
            units, counts = np.unique(self.members(ids)[1], return_counts=True)
            for unit, count in zip(units.tolist(), counts.tolist(), strict=True):
                found.setdefault(unit, set()).add((place, count))
        return found
