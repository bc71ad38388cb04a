"""The plan that `solve` finds against all plans there are, and what a plan's cost and loss are made of."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from compression.errors import MethodError
from compression.measure.cost import cost_of
from compression.network import Network
from compression.pruning.channels import map_channels
from compression.pruning.cut import cut
from compression.pruning.importance import magnitude
from compression.pruning.residual import bypass, residual_blocks
from compression.pruning.solve import Plan, Problem, Removable, Term, solve
from compression.pruning.terms import count_terms, shrinkable
from compression.zoo.catalog import zoo_network
from tests.engine.nets import Chain, Depthwise, Residual, network_of


def problem_of(seed: int) -> Problem:
    """A residual network of 9 blocks with drawn scores, and a drawn time for each number of blocks of four channels."""
    random = np.random.default_rng(seed)
    network = network_of(Residual(), 1, 8, 8) if seed % 2 else network_of(Chain(), 1, 8, 8)
    channels = map_channels(network)
    scores = random.exponential(size=len(channels.units)) ** 2
    widths = shrinkable(network, channels, channels.widths(), scores, 2 if seed % 2 else 4)
    found = [Removable(b.name, b.nodes, float(random.exponential() * 4)) for b in residual_blocks(network)]
    terms = []
    for term in count_terms(network, channels, "macs"):
        steps = 1 + random.random(2)

        def time(left: tuple[int, ...], steps: np.ndarray = steps) -> float:
            return float(np.prod([np.ceil(rest / 4) * step for rest, step in zip(left, steps, strict=False)]) + 1)

        terms.append(Term(term.nodes, term.axes, time))
    return Problem(channels, widths, found, terms, elsewhere=1.0)


def every_plan(problem: Problem) -> list[Plan]:
    places = range(len(problem.blocks))
    subsets = [frozenset(p for p in places if mask >> p & 1) for mask in range(2 ** len(problem.blocks))]
    counts = product(*(width.options for width in problem.widths))
    return [plan for c in counts for blocks in subsets if problem.allowed(plan := Plan(c, blocks))]


@pytest.mark.parametrize("share", [0.75, 0.5, 0.3])
def test_the_plan_is_the_best_of_all(share: float) -> None:
    """Exhaustively, on twenty small cases: never above the target, and no plan loses less."""
    for seed in range(20):
        problem = problem_of(seed)
        plans = every_plan(problem)
        nothing = Plan((0,) * len(problem.widths))
        target = problem.cost(nothing) * share
        reaching = [problem.loss(plan) for plan in plans if problem.cost(plan) <= target]
        if not reaching:
            with pytest.raises(MethodError, match="can't be reached"):
                solve(problem, target, "microseconds")
            continue
        plan = solve(problem, target, "microseconds")
        assert problem.cost(plan) <= target
        assert problem.loss(plan) <= min(reaching) * (1 + 1e-9)


@pytest.mark.parametrize("net", [Chain, Depthwise, Residual])
@pytest.mark.parametrize("measure", ["macs", "parameters"])
def test_a_plans_cost_is_that_of_the_network_it_makes(net: type, measure: str) -> None:
    network = network_of(net(), 1, 8, 8)
    channels = map_channels(network)
    widths = shrinkable(network, channels, channels.widths(), magnitude(network, channels), 1)
    blocks = residual_blocks(network)
    problem = Problem(
        channels,
        widths,
        [Removable(b.name, b.nodes, 1.0) for b in blocks],
        count_terms(network, channels, measure),  # type: ignore[arg-type]
    )
    nothing = Plan((0,) * len(widths))
    before = getattr(cost_of(network), measure)
    elsewhere = before - problem.cost(nothing)
    random = np.random.default_rng(0)
    for gone in [frozenset[int](), frozenset(range(len(blocks)))]:
        plan = Plan(tuple(int(random.choice(width.options)) for width in widths), gone)
        smaller = cut(network, channels, problem.units(plan), reason={})
        if gone:
            smaller = bypass(smaller, [blocks[place] for place in gone], reason={})
        assert problem.cost(plan) + elsewhere == pytest.approx(getattr(cost_of(smaller), measure))


def test_widths_inside_a_block_that_goes_are_lost_with_it() -> None:
    network = network_of(Residual(), 1, 8, 8)
    channels = map_channels(network)
    widths = shrinkable(network, channels, channels.widths(), np.ones(len(channels.units)), 1)
    inner = next(place for place, width in enumerate(widths) if width.nodes == {"inner"})
    block = residual_blocks(network)[0]
    problem = Problem(channels, widths, [Removable(block.name, block.nodes, 2.5)], [])
    counts = tuple(3 if place == inner else 0 for place in range(len(widths)))
    assert problem.loss(Plan(counts)) == pytest.approx(3.0)
    assert problem.loss(Plan(counts, frozenset({0}))) == pytest.approx(2.5)
    assert problem.units(Plan(counts, frozenset({0}))) == []
    assert len(problem.units(Plan(counts))) == 3


def test_a_floor_holds() -> None:
    network = network_of(Chain(), 1, 8, 8)
    channels = map_channels(network)
    widths = shrinkable(network, channels, channels.widths(), np.zeros(len(channels.units)), 1)
    problem = Problem(channels, widths, [], count_terms(network, channels, "macs"), floors={"conv1": 7})
    plan = solve(problem, 0.6 * problem.cost(Plan((0,) * len(widths))), "macs")
    smaller = cut(network, channels, problem.units(plan), reason={})
    assert smaller.layers()["conv1"].out_channels >= 7


def test_blocks_of_a_resnet_are_those_whose_shape_stays() -> None:
    network: Network = zoo_network("resnet20", {"in_channels": 1, "height": 8, "width": 8, "channels": 4}, seed=0)
    assert [block.name for block in residual_blocks(network)] == [f"blocks.{i}" for i in (0, 1, 2, 4, 5, 7, 8)]
