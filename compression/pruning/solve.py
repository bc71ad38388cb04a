"""Which widths and whole blocks go, so that a cost that isn't smooth falls to a target at the least importance lost.

Time falls in steps: eight channels less may win nothing, sixteen a third. So a move may take a width to any of its
options at once. Greedy first: the move that loses the least importance for each unit of cost won, all prices taken
anew after each. Then the plan is mended: single moves and pairs of moves, back and forth, while they lose less and keep
the target. On small cases it is compared with all plans there are (`tests/engine/pruning/test_solve.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from compression.errors import MethodError
from compression.pruning.channel_map import ChannelMap
from compression.pruning.numbers import Ids

MOST_FOR_PAIRS = 160  # single moves; with more, pairs of them would take too long


@dataclass(frozen=True)
class Shrinkable:
    """A width: its units, least important first; `losses[k]` is lost without the first k. `options`: the k that may be,
    0 among them, ascending. `nodes`: the calls of the layers that produce it."""

    units: tuple[int, ...]
    losses: tuple[float, ...]
    options: tuple[int, ...]
    nodes: frozenset[str]


@dataclass(frozen=True)
class Removable:
    """A residual block as a whole: `loss` is lost without it, and the calls `nodes` are gone."""

    name: str
    nodes: frozenset[str]
    loss: float


@dataclass(frozen=True)
class Term:
    """A part of the cost, by what is left of each of `axes`; zero once all of the calls `nodes` are gone."""

    nodes: frozenset[str]
    axes: tuple[Ids, ...]
    cost: Callable[[tuple[int, ...]], float]


@dataclass(frozen=True)
class Plan:
    """`counts`: how many units of each width go; `blocks`: the places of the blocks that go."""

    counts: tuple[int, ...]
    blocks: frozenset[int] = frozenset()


@dataclass
class Problem:
    """`elsewhere`: the cost that nothing changes. `floors`: the least that is left of a layer's outputs."""

    channels: ChannelMap
    widths: list[Shrinkable]
    blocks: list[Removable]
    terms: list[Term]
    elsewhere: float = 0.0
    floors: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.group = np.full(len(self.channels.units), -1, dtype=np.int64)
        self.rank = np.zeros(len(self.channels.units), dtype=np.int64)
        for place, width in enumerate(self.widths):
            self.group[list(width.units)] = place
            self.rank[list(width.units)] = np.arange(len(width.units))
        producers = [(ids, self.floors.get(name, 1)) for name, ids in self.channels.producers.items()]
        self._floors = [(ids, floor, self._widths_of((ids,))) for ids, floor in producers]
        self._of_term = [self._widths_of(term.axes) for term in self.terms]
        self._costs: list[dict[tuple[int, ...], float]] = [{} for _ in self.terms]
        self._lefts: dict[tuple[int, tuple[int, ...]], int] = {}

    def cost(self, plan: Plan) -> float:
        gone = self._gone(plan)
        return self.elsewhere + sum(self._term(index, plan, gone) for index in range(len(self.terms)))

    def loss(self, plan: Plan) -> float:
        """The sum of what is lost; widths inside a block that goes are lost with it."""
        gone = self._gone(plan)
        lost = sum(self.blocks[place].loss for place in plan.blocks)
        for width, count in zip(self.widths, plan.counts, strict=True):
            if not width.nodes or not width.nodes <= gone:
                lost += width.losses[count]
        return lost

    def allowed(self, plan: Plan) -> bool:
        """Whether every layer keeps at least its floor."""
        return all(
            self._left(ids, places, plan) >= floor
            for ids, floor, places in self._floors
            if any(plan.counts[place] for place in places)
        )

    def moves(self, plan: Plan) -> Iterator[Plan]:
        """Every plan that differs in one width, or in one block, and is allowed."""
        for place, width in enumerate(self.widths):
            for count in width.options:
                if count != plan.counts[place]:
                    moved = Plan((*plan.counts[:place], count, *plan.counts[place + 1 :]), plan.blocks)
                    if self.allowed(moved):
                        yield moved
        for place in range(len(self.blocks)):
            yield Plan(plan.counts, plan.blocks ^ {place})

    def units(self, plan: Plan) -> list[int]:
        """The units to cut; those inside a block that goes stay for the block."""
        gone = self._gone(plan)
        chosen = zip(self.widths, plan.counts, strict=True)
        return [unit for w, count in chosen if not (w.nodes and w.nodes <= gone) for unit in w.units[:count]]

    def _gone(self, plan: Plan) -> frozenset[str]:
        return frozenset().union(*(self.blocks[place].nodes for place in plan.blocks))

    def _widths_of(self, axes: tuple[Ids, ...]) -> tuple[int, ...]:
        units = np.concatenate([self.channels.members(ids)[1] for ids in axes]) if axes else np.empty(0, dtype=np.int64)
        return tuple(sorted({place for place in self.group[units].tolist() if place >= 0}))

    def _term(self, index: int, plan: Plan, gone: frozenset[str]) -> float:
        term, places = self.terms[index], self._of_term[index]
        if term.nodes and term.nodes <= gone:
            return 0.0
        key = tuple(plan.counts[place] for place in places)
        if key not in self._costs[index]:
            left = tuple(self._left(ids, places, plan) for ids in term.axes)
            self._costs[index][key] = term.cost(left)
        return self._costs[index][key]

    def _left(self, ids: Ids, places: tuple[int, ...], plan: Plan) -> int:
        key = id(ids), tuple(plan.counts[place] for place in places)
        if key not in self._lefts:
            units = self.channels.units[ids]
            group = np.where(units >= 0, self.group[units], -1)
            cut = (group >= 0) & (self.rank[units] < np.array([*plan.counts, 0])[group])
            self._lefts[key] = int((~cut.any(axis=1)).sum())
        return self._lefts[key]


def solve(problem: Problem, target: float, what: str) -> Plan:
    """The plan whose cost is `target` or less. MethodError (`where`: `what`): no plan that was found reaches it."""
    plan = Plan((0,) * len(problem.widths))
    cost, loss = problem.cost(plan), problem.loss(plan)
    while cost > target:
        best: tuple[float, float, Plan] | None = None
        for moved in problem.moves(plan):
            won = cost - problem.cost(moved)
            if won > 1e-9 * cost:
                price = (problem.loss(moved) - loss) / won
                if best is None or (price, -won) < best[:2]:
                    best = price, -won, moved
        if best is None:
            raise MethodError(
                f"the target can't be reached: {cost:,.0f} {what} are left of {target:,.0f} wanted when every layer is "
                "as narrow as allowed; raise max_layer_ratio, the target, or select more layers or parts",
                what,
            )
        plan = best[2]
        cost, loss = problem.cost(plan), problem.loss(plan)
    return _mended(problem, plan, target)


def _mended(problem: Problem, plan: Plan, target: float) -> Plan:
    """The plan after every single move and pair of moves that loses less and still reaches the target."""
    loss = problem.loss(plan)
    while True:
        better = _better(problem, plan, target, loss, pairs=False) or _better(problem, plan, target, loss, pairs=True)
        if better is None:
            return plan
        plan, loss = better, problem.loss(better)


def _better(problem: Problem, plan: Plan, target: float, loss: float, *, pairs: bool) -> Plan | None:
    """The best of the plans one move away, or two: the least loss that is below `loss` by more than rounding."""
    found: Plan | None = None
    least = loss - 1e-12 * max(1.0, math.fabs(loss))
    singles = list(problem.moves(plan))
    if pairs and len(singles) > MOST_FOR_PAIRS:
        return None
    steps = (second for first in singles for second in problem.moves(first)) if pairs else iter(singles)
    for moved in steps:
        lost = problem.loss(moved)
        if lost < least and problem.cost(moved) <= target:
            found, least = moved, lost
    return found
