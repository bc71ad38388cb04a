"""Numbers that are products: an axis taken apart and joined again is itself, and units are what can go."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from compression.pruning.numbers import Numbers


def units_of(numbers: Numbers) -> list[set[int]]:
    units, _, _ = numbers.settle()
    return [set(row[row >= 0].tolist()) for row in units]


@given(st.integers(2, 4), st.integers(2, 5))
def test_taken_apart_and_joined_is_the_same(rows: int, columns: int) -> None:
    numbers = Numbers()
    ids = numbers.new(rows * columns)
    first, second = numbers.split(ids, rows, columns)
    joined = numbers.merge(first, second, rows, columns)
    found = units_of(numbers)
    assert joined is not None
    assert [found[number] for number in joined] == [found[number] for number in ids]
    assert [found[number] for number in ids] == [
        {int(row), int(column)}
        for row in first
        for column in second  # type: ignore[union-attr]
    ]


@given(st.integers(2, 4), st.integers(2, 5))
def test_an_axis_that_stays_is_found_again(rows: int, columns: int) -> None:
    numbers = Numbers()
    ids = numbers.new(columns)
    tiled = numbers.merge(None, ids, rows, columns)
    repeated = numbers.merge(ids, None, columns, rows)
    assert tiled is not None
    assert repeated is not None
    none, same = numbers.split(tiled, rows, columns)
    assert none is None
    assert np.array_equal(same, ids)  # type: ignore[arg-type]
    same, none = numbers.split(repeated, columns, rows)
    assert none is None
    assert np.array_equal(same, ids)  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=8))
def test_whatever_is_united_lives_and_dies_together(pairs: list[tuple[int, int]]) -> None:
    """Also products with one another, with free numbers and with their own factors."""
    numbers = Numbers()
    ids = numbers.new(12)
    numbers.split(ids[:6], 2, 3)
    numbers.split(ids[4:10], 3, 2)
    for left, right in pairs:
        numbers.unite(ids[[left]], ids[[right]])
    found = units_of(numbers)
    assert all(found)
    for left, right in pairs:
        assert found[left] == found[right]


def test_what_is_frozen_holds_every_unit_that_it_lives_by() -> None:
    numbers = Numbers()
    ids = numbers.new(6)
    rows, columns = numbers.split(ids, 2, 3)
    numbers.freeze(ids[:1], "why")
    numbers.mark(rows, "heads")  # type: ignore[arg-type]
    _, reasons, kinds = numbers.settle()
    assert reasons == {int(rows[0]): "why", int(columns[0]): "why"}  # type: ignore[index]
    assert kinds == {int(row): frozenset({"heads"}) for row in rows}  # type: ignore[union-attr]
