"""Channel numbers, who is tied to whom, and which numbers are a product of two others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


class Numbers:
    """Channel numbers as a union-find forest: numbers of one tree live and die together.

    A number can also be a *product* (row, column): it lives while both do. That is how an axis of heads × head_dim
    channels comes apart: a channel goes with its head, or with its place in every head. Numbers that are no product are
    *units*: what can be removed.
    """

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._factors: dict[int, tuple[int, int]] = {}  # of a tree's root
        self._products: dict[tuple[int, int], int] = {}
        self._reasons: dict[int, str] = {}  # number → why it can't go
        self._kinds: dict[int, set[str]] = {}

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
            self._join(one, other)

    def _join(self, one: int, other: int) -> None:
        """Two products that must agree agree in both factors: more than needed, and safe."""
        waiting = [(one, other)]
        while waiting:
            a, b = (self.find(number) for number in waiting.pop())
            if a == b:
                continue
            root, leaf = min(a, b), max(a, b)
            self._parent[leaf] = root
            moved, kept = self._factors.pop(leaf, None), self._factors.get(root)
            if moved is not None and kept is not None:
                waiting += [(moved[0], kept[0]), (moved[1], kept[1])]
            elif moved is not None:
                self._factors[root] = moved

    def _product(self, row: int, column: int) -> int:
        key = (self.find(row), self.find(column))
        if key not in self._products:
            number = int(self.new(1)[0])
            self._factors[number] = key
            self._products[key] = number
        return self._products[key]

    def merge(self, rows: Ids | None, columns: Ids | None, row_count: int, column_count: int) -> Ids | None:
        """Numbers along the axis that two neighbouring axes become (row-major); None: that axis must stay."""
        if rows is None:
            return None if columns is None else np.tile(columns, row_count)
        if columns is None:
            return np.repeat(rows, column_count)
        found = [self._product(row, column) for row in rows.tolist() for column in columns.tolist()]
        return np.array(found, dtype=np.int64)

    def split(self, ids: Ids, row_count: int, column_count: int) -> tuple[Ids | None, Ids | None]:
        """Numbers along the two axes (row-major) that an axis becomes: the inverse of `merge`. Numbers that were free
        become products, so that from now on whole rows or whole columns go."""
        roots = np.array([self.find(number) for number in ids.tolist()]).reshape(row_count, column_count)
        grid = ids.reshape(row_count, column_count)
        if row_count > 1 and bool((roots == roots[:1]).all()):
            return None, grid[0]
        if column_count > 1 and bool((roots == roots[:, :1]).all()):
            return grid[:, 0], None
        rows, columns = self.new(row_count), self.new(column_count)
        for row, entries in zip(rows.tolist(), grid.tolist(), strict=True):
            for column, entry in zip(columns.tolist(), entries, strict=True):
                self._join(entry, self._product(row, column))
        return rows, columns

    def freeze(self, ids: Ids, reason: str) -> None:
        for number in ids.tolist():
            self._reasons.setdefault(number, reason)

    def mark(self, ids: Ids, kind: str) -> None:
        for number in ids.tolist():
            self._kinds.setdefault(number, set()).add(kind)

    def settle(self) -> tuple[Ids, dict[int, str], dict[int, frozenset[str]]]:
        """For each number (row) its units, padded with −1; the reasons and the kinds of units."""
        found = [self._units(number) for number in range(len(self._parent))]
        units = np.full((len(found), max(map(len, found), default=1)), -1, dtype=np.int64)
        for row, entries in zip(units, found, strict=True):
            row[: len(entries)] = entries
        reasons: dict[int, str] = {}
        for number, reason in self._reasons.items():
            for unit in found[number]:
                reasons.setdefault(unit, reason)
        kinds: dict[int, set[str]] = {}
        for number, marked in self._kinds.items():
            for unit in found[number]:
                kinds.setdefault(unit, set()).update(marked)
        return units, reasons, {unit: frozenset(marked) for unit, marked in kinds.items()}

    def _units(self, number: int) -> list[int]:
        found: dict[int, None] = {}
        seen: set[int] = set()
        waiting = [self.find(number)]
        while waiting:
            root = waiting.pop()
            if root in seen:
                continue  # a product that was united with its own factor
            seen.add(root)
            if root in self._factors:
                waiting += [self.find(factor) for factor in self._factors[root][::-1]]
            else:
                found[root] = None
        return list(found) or [self.find(number)]
