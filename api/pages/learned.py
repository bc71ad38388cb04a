"""What a distillation taught, drawn: how alike the classes look to teacher and student ("a 1 looks a little like a 7").

The engine gives mean softened rows (`compression/distillation/findings.py`): row k is the mean of the probabilities of
the samples of class k; of very many classes the pairs that look most alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from api.pages.figures import Json, at, entries, number, text

SHADES = 10
MOST_CLASSES = 64  # more columns than a page can show; the engine gives 32
MOST_PAIRS = 50


@dataclass(frozen=True)
class Cell:
    """A probability in percent; `shade` from 0 to SHADES; `likest`: the highest of the row but for the class's own."""

    percent: str
    shade: int
    likest: bool = False


@dataclass(frozen=True)
class Rows:
    """A heat map as a table: for each class its name and a cell for each class."""

    title: str
    rows: Sequence[tuple[str, Sequence[Cell]]]


@dataclass(frozen=True)
class Learned:
    """`maps` over `classes`, or `pairs`: two classes, and a cell for each of `columns`."""

    classes: Sequence[str] = ()
    maps: Sequence[Rows] = ()
    columns: Sequence[str] = ()
    pairs: Sequence[tuple[str, str, Sequence[Cell]]] = ()


def learned(facts: Any) -> Learned | None:
    """From a step's facts; None where they tell of no such thing."""
    found = at(facts, "learned")
    temperature = number(found, "temperature")
    if temperature is None:
        return None
    titles = {
        f"{who.lower()}_at_{key}": f"{who} at T = {t:g}"
        for who in ("Teacher", "Student")
        for key, t in (("t", temperature), ("1", 1.0))
    }
    if temperature == 1:
        titles = {key: title for key, title in titles.items() if key.endswith("_1")}
    pairs = entries(found, "pairs")
    if pairs:
        alike = [(text(pair, "class"), text(pair, "looks_like"), _cells(pair, list(titles))) for pair in pairs]
        return Learned(columns=list(titles.values()), pairs=alike[:MOST_PAIRS])
    named = at(found, "classes")
    classes = [entry for entry in named if isinstance(entry, str)] if isinstance(named, list) else []
    maps = [Rows(title, rows) for key, title in titles.items() if (rows := _rows(found, key, classes))]
    return Learned(classes, maps) if maps and len(classes) <= MOST_CLASSES else None


def _rows(found: Json, key: str, classes: Sequence[str]) -> list[tuple[str, Sequence[Cell]]]:
    """Nothing where the matrix isn't square over the classes."""
    matrix = at(found, key)
    if not isinstance(matrix, list) or [len(row) if isinstance(row, list) else 0 for row in matrix] != [
        len(classes)
    ] * len(classes):
        return []
    rows: list[tuple[str, Sequence[Cell]]] = []
    for own, name in enumerate(classes):
        values = [number(matrix, own, place) for place in range(len(classes))]
        others = [value for place, value in enumerate(values) if place != own and value]
        most = max(others, default=None)
        cells = [
            _cell(value, place != own and value is not None and value == most) for place, value in enumerate(values)
        ]
        rows.append((name, cells))
    return rows


def _cells(pair: Json, keys: Sequence[str]) -> list[Cell]:
    return [_cell(number(pair, key)) for key in keys]


def _cell(value: float | None, likest: bool = False) -> Cell:
    """Shaded by the root of the probability: what is drawn is the little that other classes get."""
    if value is None:
        return Cell("–", 0)
    return Cell(f"{100 * value:.1f}", round(SHADES * min(1.0, max(0.0, value)) ** 0.5), likest)
