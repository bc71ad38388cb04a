"""Charts, drawn by the server as SVG: here is where everything lies, `charts.html` writes it down.

A chart has a title and a description in words, and each page that shows one gives its numbers as a table too. Colours
are classes (`kind`), so that a stylesheet and dark mode decide on them; lines and points differ in shape as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 400.0, 230.0
LEFT, RIGHT, TOP, BOTTOM = 60.0, 386.0, 12.0, 190.0
MOST_POINTS = 300
MOST_TICKS = 5

Write = Callable[[float, float], str]  # a tick's label, from its value and the distance between two
Span = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """`ticks`: (place in the drawing, label)."""

    label: str
    low: float
    high: float
    start: float
    end: float
    ticks: Sequence[tuple[float, str]]

    def place(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 2)


@dataclass(frozen=True)
class Line:
    """`points` in the figures' own units, in order of x."""

    label: str
    kind: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Point:
    """One thing with two figures; `x_span`, `y_span`: their intervals. Points of one `pair` are joined by a line."""

    label: str
    kind: str
    x: float
    y: float
    x_span: Span | None = None
    y_span: Span | None = None
    pair: str = ""
    hollow: bool = False


@dataclass(frozen=True)
class Mark:
    """A place along x that something begins at."""

    x: float
    label: str


@dataclass(frozen=True)
class Chart:
    """`lines`: (label, kind, SVG's points, last point); `dots`: (point, x, y, x interval, y interval) as drawn;
    `joins`: (kind, points) between the points of a pair."""

    id: str
    title: str
    description: str
    x: Axis
    y: Axis
    lines: Sequence[tuple[str, str, str, tuple[float, float]]] = ()
    dots: Sequence[tuple[Point, float, float, Span | None, Span | None]] = ()
    joins: Sequence[tuple[str, str]] = ()
    marks: Sequence[Mark] = ()


def percent_tick(value: float, step: float) -> str:
    return f"{100 * value:.{_decimals(100 * step)}f} %"


def number_tick(value: float, step: float) -> str:
    return f"{value:.{_decimals(step)}f}" if step >= 1e-5 else f"{value:.1e}"


def written(write: Callable[[float], str]) -> Write:
    """A tick's label in the words of a filter, as bytes and seconds have."""
    return lambda value, _step: write(value) if value else "0"


def axis(label: str, values: Sequence[float], start: float, end: float, write: Write, *, tight: bool = False) -> Axis:
    """An axis over all values, with round ticks; it ends at a tick, or (`tight`) at the highest value."""
    low, high = min(values), max(values)
    if low == high:
        room = abs(low) * 0.1 or 1.0
        low, high = low - room, high + room
    step = _step(high - low)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    places = [round(step * index, 12) for index in range(first, last + 1)]
    low, high = places[0], high if tight else places[-1]
    empty = Axis(label, low, high, start, end, ())
    ticks = [(empty.place(value), write(value, step)) for value in places if value <= high + step * 1e-9]
    return Axis(label, low, high, start, end, ticks)


def line_chart(
    id_: str, title: str, lines: Sequence[Line], *, x: str, y: str, write: Write, marks: Sequence[Mark] = ()
) -> Chart | None:
    """Lines over a common x; None where there are no two points to draw a line between."""
    lines = [Line(line.label, line.kind, _thinned(line.points)) for line in lines if line.points]
    points = [point for line in lines for point in line.points]
    if len({point[0] for point in points}) < 2:
        return None
    across = axis(x, [0.0, *[point[0] for point in points]], LEFT, RIGHT, number_tick, tight=True)
    up = axis(y, [point[1] for point in points], BOTTOM, TOP, write)
    drawn = []
    for line in lines:
        places = [(across.place(point[0]), up.place(point[1])) for point in line.points]
        drawn.append((line.label, line.kind, _path(places), places[-1]))
    said = [f"{line.label}: from {_said(line.points[0], write)} to {_said(line.points[-1], write)}" for line in lines]
    placed = [Mark(across.place(mark.x), mark.label) for mark in marks]
    return Chart(id_, title, f"{y} over {x}. {'; '.join(said)}.", across, up, lines=drawn, marks=placed)


def scatter(
    id_: str, title: str, points: Sequence[Point], *, x: str, y: str, write_x: Write, write_y: Write
) -> Chart | None:
    """Things by two figures each; None where there are none."""
    if not points:
        return None
    across = axis(x, [0.0, *_ends([(point.x, point.x_span) for point in points])], LEFT, RIGHT, write_x)
    up = axis(y, _ends([(point.y, point.y_span) for point in points]), BOTTOM, TOP, write_y)
    dots = [
        (point, across.place(point.x), up.place(point.y), _placed(across, point.x_span), _placed(up, point.y_span))
        for point in points
    ]
    joins = []
    for name in dict.fromkeys(point.pair for point in points if point.pair):
        pair = [(point.kind, place_x, place_y) for point, place_x, place_y, _, _ in dots if point.pair == name]
        joins.append((pair[-1][0], _path([entry[1:] for entry in pair])))
    said = [f"{point.label}: {_exact(point.x, write_x)}, {_exact(point.y, write_y)}" for point in points]
    return Chart(id_, title, f"{y} against {x}. {'; '.join(said)}.", across, up, dots=dots, joins=joins)


@dataclass(frozen=True)
class Bar:
    """`length` in the drawing's units; `label`: the figure in words."""

    kind: str
    length: float
    label: str


@dataclass(frozen=True)
class Bars:
    """Horizontal bars in groups, as long as the figures: `groups` are (name, y, bars)."""

    id: str
    title: str
    description: str
    height: float
    groups: Sequence[tuple[str, float, Sequence[Bar]]]


BAR_LEFT, BAR_ROOM = 130.0, 200.0
BAR_HEIGHT, BAR_GAP = 13.0, 9.0


def bar_chart(
    id_: str,
    title: str,
    groups: Sequence[tuple[str, Sequence[float | None]]],
    kinds: Sequence[tuple[str, str]],
    write: Callable[[float], str],
) -> Bars | None:
    """A group for each name, in it a bar for each of `kinds` (class, word) whose figure isn't None. Nothing at all
    where no figure is above zero."""
    longest = max((value for _, values in groups for value in values if value is not None), default=0.0)
    if longest <= 0:
        return None
    placed, y = [], BAR_GAP / 2
    for name, values in groups:
        bars = [
            Bar(kind, 0.0 if value is None else round(BAR_ROOM * value / longest, 2), _label(value, write))
            for (kind, _), value in zip(kinds, values, strict=True)
        ]
        placed.append((name, y, bars))
        y += len(bars) * BAR_HEIGHT + BAR_GAP
    words = " and ".join(word for _, word in kinds)
    return Bars(id_, title, f"{words}, for each of {len(groups)}; the table below has the numbers.", y, placed)


def _label(value: float | None, write: Callable[[float], str]) -> str:
    return "–" if value is None else write(value)


def _step(extent: float) -> float:
    """The smallest of 1, 2, 5 × 10ⁿ that cuts `extent` into at most MOST_TICKS."""
    power = 10.0 ** math.floor(math.log10(extent / MOST_TICKS))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power * MOST_TICKS >= extent * (1 - 1e-9))


def _decimals(step: float) -> int:
    return max(0, -math.floor(math.log10(step) + 1e-9))


def _exact(value: float, write: Write) -> str:
    """As a tick would be labelled, to three digits."""
    return write(value, abs(value) / 100 or 1.0)


def _said(point: tuple[float, float], write: Write) -> str:
    return _exact(point[1], write)


def _ends(values: Sequence[tuple[float, Span | None]]) -> list[float]:
    return [end for value, span in values for end in (value, *(span or ()))]


def _placed(along: Axis, span: Span | None) -> Span | None:
    return None if span is None else (along.place(span[0]), along.place(span[1]))


def _path(places: Sequence[tuple[float, ...]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in places)


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """Evenly few of many, the last among them."""
    every = math.ceil(len(points) / MOST_POINTS)
    return [*points[:-1:every], points[-1]] if every > 1 else points
