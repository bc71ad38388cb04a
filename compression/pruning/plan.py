"""Which channels go until the target is met: the least important, by the cost they save where that makes sense."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from compression.errors import MethodError
from compression.network import Network
from compression.pruning.channel_map import ChannelMap, Product, Width
from compression.pruning.importance import Scores
from compression.pruning.numbers import Ids

Measure = Literal["macs", "parameters"]


@dataclass
class _Queue:
    """The units of one width, least important first; `removed` of them are gone."""

    units: list[int]
    at_once: int
    channels_each: int  # of the width's first producer
    removed: int = 0
    price: float | None = None  # of the next block, while nothing changed that it depends on

    def next_block(self, multiple_of: int) -> list[int]:
        left = len(self.units) - self.removed
        surplus = (left * self.channels_each) % multiple_of // self.channels_each if multiple_of > 1 else 0
        count = surplus or self.at_once
        return self.units[self.removed : self.removed + count] if left > count else []


class CostModel:
    """What a network costs by how much is left of its axes: a sum of products, one a tensor or a multiplication."""

    def __init__(self, network: Network, channels: ChannelMap, measure: Measure, elsewhere: int = 0) -> None:
        self.measure = measure
        self.channels = channels
        self.elsewhere = elsewhere  # cost of everything that pruning doesn't touch
        self.products = channels.products if measure == "macs" else _tensors(network, channels)
        arrays = {id(ids): ids for product in self.products for ids in product.axes}
        arrays |= {id(ids): ids for ids in channels.producers.values()}
        self.lengths = {key: len(ids) for key, ids in arrays.items()}
        self.alive: dict[int, NDArray[np.bool_]] = {key: np.ones(len(ids), dtype=bool) for key, ids in arrays.items()}
        self.left = dict(self.lengths)
        self.uses: dict[int, list[tuple[int, Ids]]] = {}  # unit → (array, places in it)
        for key, ids in arrays.items():
            places, units = channels.members(ids)
            order = np.argsort(units, kind="stable")
            bounds = np.flatnonzero(np.diff(units[order])) + 1
            for group in np.split(order, bounds):
                if len(group):
                    self.uses.setdefault(int(units[group[0]]), []).append((key, places[group]))
        self.of_array: dict[int, list[Product]] = {}
        for product in self.products:
            for key in {id(ids) for ids in product.axes}:
                self.of_array.setdefault(key, []).append(product)
        self.costs = {id(product): float(product.macs) for product in self.products}
        self.names = {id(ids): name for name, ids in channels.producers.items()}

    def total(self) -> float:
        return sum(self.costs.values()) + self.elsewhere

    def _cost(self, product: Product, left: Mapping[int, int]) -> float:
        cost = float(product.macs)
        for ids in product.axes:
            cost *= left[id(ids)] / self.lengths[id(ids)]
        return cost

    def lost(self, block: list[int]) -> dict[int, Ids]:
        """The places of each array that would go with a block of units."""
        found: dict[int, list[Ids]] = {}
        for unit in block:
            for key, places in self.uses.get(unit, ()):
                found.setdefault(key, []).append(places)
        lost = {key: np.unique(np.concatenate(parts)) if len(parts) > 1 else parts[0] for key, parts in found.items()}
        return {key: places[self.alive[key][places]] for key, places in lost.items()}

    def saving(self, block: list[int]) -> float:
        """What removing the units of a block would save."""
        left = self.left | {key: self.left[key] - len(places) for key, places in self.lost(block).items()}
        changed = [key for key in left if left[key] != self.left[key]]
        touched = {id(product): product for key in changed for product in self.of_array.get(key, ())}
        return sum(self.costs[key] - self._cost(product, left) for key, product in touched.items())

    def leaves(self, block: list[int], floors: Mapping[str, int]) -> bool:
        """Whether every layer keeps at least its floor of channels when the block is gone."""
        return all(
            self.left[key] - len(places) >= floors[self.names[key]]
            for key, places in self.lost(block).items()
            if key in self.names
        )

    def remove(self, block: list[int]) -> set[int]:
        """Takes the units of a block away: the arrays that changed, and those that are multiplied with them."""
        changed = self.lost(block)
        for key, places in changed.items():
            self.alive[key][places] = False
            self.left[key] -= len(places)
        touched = [product for key in changed for product in self.of_array.get(key, ())]
        self.costs |= {id(product): self._cost(product, self.left) for product in touched}
        return {id(ids) for product in touched for ids in product.axes} | {*changed}

    def arrays(self, units: Ids) -> set[int]:
        return {key for unit in units.tolist() for key, _ in self.uses.get(unit, ())}


def _tensors(network: Network, channels: ChannelMap) -> list[Product]:
    """Each parameter that shrinks as a product of its axes; `macs` are its numbers."""
    parameters = dict(network.module.named_parameters(remove_duplicate=False))
    return [
        Product(parameters[name].numel(), tuple(axes.values()))
        for name, axes in channels.slices.items()
        if isinstance(parameters.get(name), nn.Parameter)
    ]


def choose(
    channels: ChannelMap,
    scores: Scores,
    cost: CostModel,
    target: float,
    *,
    by_saving: bool,
    widths: list[Width],
    floors: Mapping[str, int],
    multiple_of: int,
) -> list[int]:
    """The units to remove so that the cost falls to `target` or just below.

    `by_saving`: importance lost for each unit of cost won decides; else the mean importance of what is removed. Scores
    that estimate a loss can be weighed against cost, norms can't. Of `widths` at least one unit is left each;
    each layer keeps at least `floors` of its outputs.
    Raises MethodError when the limits don't let the target be reached.
    """
    queues = [_queue(channels, scores, width, multiple_of) for width in widths]
    arrays = [cost.arrays(width.units) for width in widths]
    removed: list[int] = []
    while cost.total() > target:
        for queue in queues:
            if queue.price is None:
                queue.price = _price(queue, scores, cost, floors, multiple_of, by_saving=by_saving)
        best = min(queues, key=lambda queue: math.inf if queue.price is None else queue.price, default=None)
        if best is None or best.price == math.inf:
            raise MethodError(
                f"the target can't be reached: {cost.total():,.0f} {cost.measure} are left of {target:,.0f} wanted "
                "when every layer is as narrow as allowed; raise max_layer_ratio, the target, or select more layers "
                "or parts",
                cost.measure,
            )
        block = best.next_block(multiple_of)
        best.removed += len(block)
        removed += block
        changed = cost.remove(block)
        for queue, own in zip(queues, arrays, strict=True):
            if queue is best or own & changed:
                queue.price = None
    return removed


def _price(
    queue: _Queue, scores: Scores, cost: CostModel, floors: Mapping[str, int], multiple_of: int, *, by_saving: bool
) -> float:
    """Of the queue's next block: infinite where there is none."""
    block = queue.next_block(multiple_of)
    saved = cost.saving(block) if block and cost.leaves(block, floors) else 0.0
    if saved <= 0:
        return math.inf
    return float(scores[block].sum()) / (saved if by_saving else len(block))


def _queue(channels: ChannelMap, scores: Scores, width: Width, multiple_of: int) -> _Queue:
    first = channels.producers[width.names[0]]
    each = max(1, int(np.isin(channels.units[first], width.units).any(axis=1).sum()) // len(width.units))
    ordered = width.units[np.argsort(scores[width.units], kind="stable")].tolist()
    return _Queue(ordered, max(1, math.ceil(multiple_of / each)), each)
