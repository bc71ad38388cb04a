"""One option for each layer, within a budget: the multiple-choice knapsack, solved exactly.

Dynamic programming over what the layers so far can come to (Nemhauser & Ullmann 1969): of equal size only the cheapest
matters, and a larger one only if it is cheaper. What a Lagrangian bound (Kellerer et al. 2004, chapter 11) shows to be
no better than a solution that is known already isn't followed, so that few are left also where sizes are many.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
HALVINGS = 100


def cheapest(sizes: Sequence[Sequence[int]], costs: Sequence[Sequence[float]], budget: int) -> list[int] | None:
    """The option of each layer with the least sum of costs whose sizes sum to `budget` at most; `sizes` and `costs`
    have a row for each layer. None: not even the smallest ones fit."""
    own_sizes = [np.asarray(row, np.int64) for row in sizes]
    own_costs = [np.asarray(row, np.float64) for row in costs]
    least_left = _sums_from(own_sizes)
    if least_left[0] > budget:
        return None
    price, known = _priced(own_sizes, own_costs, budget)
    bound_left = _sums_from([cost + price * size for size, cost in zip(own_sizes, own_costs, strict=True)])
    slack = 1e-9 * (abs(known) + sum(float(np.abs(row).max()) for row in own_costs) + price * budget)
    totals, sums = np.zeros(1, np.int64), np.zeros(1)
    trail: list[tuple[Array, int]] = []
    for index, (size, cost) in enumerate(zip(own_sizes, own_costs, strict=True), 1):
        next_totals = (totals[:, None] + size).ravel()
        next_sums = (sums[:, None] + cost).ravel()
        bound = next_sums + bound_left[index] - price * (budget - next_totals)
        places = np.flatnonzero((next_totals + least_left[index] <= budget) & (bound <= known + slack))
        places = places[np.lexsort((next_sums[places], next_totals[places]))]
        before = np.concatenate([[np.inf], np.minimum.accumulate(next_sums[places])[:-1]])
        places = places[next_sums[places] < before]
        totals, sums = next_totals[places], next_sums[places]
        trail.append((places, len(size)))
    return _followed_back(trail, int(sums.argmin()))


def _followed_back(trail: Sequence[tuple[Array, int]], last: int) -> list[int]:
    chosen = []
    for places, options in reversed(trail):
        last, option = divmod(int(places[last]), options)
        chosen.append(option)
    return chosen[::-1]


def _sums_from(rows: Sequence[Array]) -> list[Any]:
    """The sum of the rows' least entries from each row on; 0 behind the last."""
    return list(accumulate((row.min() for row in reversed(rows)), initial=0))[::-1]


def _priced(sizes: Sequence[Array], costs: Sequence[Array], budget: int) -> tuple[float, float]:
    """The price of a unit of size at which each layer, left to itself, chooses so that all fit; and what that costs
    when the room that is left is used, too."""

    def choice(price: float) -> list[int]:
        return [int(np.lexsort((size, cost + price * size))[0]) for size, cost in zip(sizes, costs, strict=True)]

    def total(places: Sequence[int]) -> int:
        return sum(int(size[place]) for size, place in zip(sizes, places, strict=True))

    if total(free := choice(0.0)) <= budget:
        return 0.0, _cost(costs, free)
    # Above the span of the costs a unit less is worth any of them: each layer takes its smallest.
    low, high = 0.0, max(float(np.ptp(row)) for row in costs) * 2 + 1e-300
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if total(choice(middle)) <= budget else (middle, high)
    places = choice(high)
    _fill(sizes, costs, places, budget - total(places))
    return high, _cost(costs, places)


def _cost(costs: Sequence[Array], places: Sequence[int]) -> float:
    return sum(float(cost[place]) for cost, place in zip(costs, places, strict=True))


def _fill(sizes: Sequence[Array], costs: Sequence[Array], places: list[int], room: int) -> None:
    """Changes one layer's option after the other, in place: always that which gains most of those that there is room
    for."""
    while True:
        best, gain = (0, 0), 0.0
        for layer, (size, cost) in enumerate(zip(sizes, costs, strict=True)):
            gains = np.where(size - size[places[layer]] <= room, cost[places[layer]] - cost, -np.inf)
            option = int(gains.argmax())
            if gains[option] > gain:
                best, gain = (layer, option), float(gains[option])
        if not gain:
            return
        layer, option = best
        room -= int(sizes[layer][option] - sizes[layer][places[layer]])
        places[layer] = option
