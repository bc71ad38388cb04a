"""The multiple-choice knapsack, against trying everything."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compression.knapsack import cheapest


def tried(sizes: list[list[int]], costs: list[list[float]], budget: int) -> float | None:
    """The least cost of all combinations."""
    found = [
        sum(row[option] for row, option in zip(costs, options, strict=True))
        for options in product(*(range(len(row)) for row in sizes))
        if sum(row[option] for row, option in zip(sizes, options, strict=True)) <= budget
    ]
    return min(found, default=None)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_it_is_the_best_of_all_combinations(data: st.DataObject) -> None:
    layers = data.draw(st.integers(1, 6))
    options = [data.draw(st.integers(1, 5 if layers < 5 else 4)) for _ in range(layers)]
    sizes = [data.draw(st.lists(st.integers(0, 40), min_size=n, max_size=n)) for n in options]
    numbers = st.floats(-2, 10, allow_nan=False) | st.sampled_from([0.0, 1.0, 1.0, 3.0])
    costs = [data.draw(st.lists(numbers, min_size=n, max_size=n)) for n in options]
    budget = data.draw(st.integers(0, 40 * layers))
    best = tried(sizes, costs, budget)
    chosen = cheapest(sizes, costs, budget)
    if best is None:
        assert chosen is None
        return
    assert chosen is not None
    assert sum(row[option] for row, option in zip(sizes, chosen, strict=True)) <= budget
    assert sum(row[option] for row, option in zip(costs, chosen, strict=True)) == pytest.approx(best, abs=1e-6)


def test_many_layers_of_real_sizes_against_a_table_of_all_budgets() -> None:
    """60 layers, 7 options each, no two sizes alike: against the textbook's table over every whole size."""
    random = np.random.default_rng(0)
    counts = random.integers(1, 60, 60)
    sizes = [[int(count) * bits for bits in range(2, 9)] for count in counts]
    costs = [sorted(random.exponential(4.0 ** -np.arange(7)), reverse=True) for _ in counts]
    budget = int(counts.sum() * 3.3)
    best = np.full(budget + 1, np.inf)
    best[0] = 0.0
    for row, prices in zip(sizes, costs, strict=True):
        following = np.full_like(best, np.inf)
        for size, cost in zip(row, prices, strict=True):
            following[size:] = np.minimum(following[size:], best[: budget + 1 - size] + cost)
        best = following
    chosen = cheapest(sizes, costs, budget)
    assert chosen is not None
    found = sum(row[option] for row, option in zip(costs, chosen, strict=True))
    assert found == pytest.approx(float(best.min()), rel=1e-9)


def test_greedy_is_not_enough() -> None:
    """Per byte the second layer gains more, but then the first has no room."""
    sizes, costs = [[1, 10], [1, 3]], [[10.0, 0.0], [4.0, 1.0]]
    assert cheapest(sizes, costs, 11) == [1, 0]
    assert cheapest(sizes, costs, 1) is None
