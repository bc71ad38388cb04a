"""What pruning weights told of itself, drawn: layers that suffer, rounds beside pruning at once, lottery tickets.

Facts come from `prune.weights` and `prune.lottery`. Weights left lie along a logarithmic axis, from all of them on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from api.pages import words
from api.pages.charts import BOTTOM, LEFT, RIGHT, TOP, Chart, Mark, Write, axis, number_tick, percent_tick
from api.pages.figures import Json, at, entries, mapping, number, text

SHADES = 10
MOST_LAYERS = 100
MOST_NAMES = 4  # of layers that share a width
DRAWN = frozenset({"sensitivity", "at_once", "lottery"})
"""Facts that are shown here, and so not listed again."""
ARMS = {
    "dense": ("the whole network", "before"),
    "rewind": ("ticket", "after"),
    "random": ("drawn anew", "second"),
    "scratch_b": ("from scratch for longer", "third"),
    "finetune": ("trained weights trained on", "fourth"),
    "signs": ("signs alone", "second"),
    "random_signs": ("random signs", "third"),
}
Place = tuple[float, float, float, float]
"""x, and y with its lowest and highest."""


@dataclass(frozen=True)
class Numbers:
    """A table: `columns` after the first, whose heading is `first`; cells are (figure, shade from 0 to SHADES)."""

    first: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[tuple[str, int]]]]


@dataclass(frozen=True)
class Part:
    """A title, what is said of it, its charts and its numbers."""

    title: str
    words: str
    charts: Sequence[Chart]
    numbers: Numbers | None


def pruned(facts: Any, index: int) -> list[Part]:
    """From a step's facts; nothing where they tell of no such thing. `index`: of the step, for ids."""
    parts = [_compared(facts, f"at-once-{index}"), _sensitivity(facts)]
    parts += [_cell(cell, f"lottery-{index}-{place}") for place, cell in enumerate(entries(facts, "lottery"))]
    return [part for part in parts if part is not None]


def _sensitivity(facts: Any) -> Part | None:
    rows: list[tuple[str, list[tuple[float, float]], float | None]] = []
    for entry in entries(facts, "sensitivity")[:MOST_LAYERS]:
        curve = at(entry, "curve")
        points = [(number(pair, 0), number(pair, 1)) for pair in curve] if isinstance(curve, list) else []
        known = [(share, loss) for share, loss in points if share is not None and loss is not None]
        layers = at(entry, "layers")
        if isinstance(layers, list):  # of `prune.structured`: a width, by the layers that share it
            name = ", ".join(str(layer) for layer in layers[:MOST_NAMES]) + (" …" if len(layers) > MOST_NAMES else "")
            rows.append((name, known, number(entry, "removed")))
        else:
            rows.append((text(entry, "weight"), known, number(entry, "sparsity")))
    levels = [share for share, _ in rows[0][1]] if rows else []
    if not levels or any([share for share, _ in curve] != levels for _, curve, _ in rows):
        return None
    losses = [loss for _, curve, _ in rows for _, loss in curve]
    least, most = min(losses), max(losses)
    shown = []
    for name, curve, proposed in rows:
        cells = [(f"{loss:.3g}", _shade(loss - least, most - least)) for _, loss in curve]
        shown.append((name, [*cells, ("–" if proposed is None else f"{proposed:.1%}", 0)]))
    columns = [*[f"{share:.0%}" for share in levels], "taken"]
    if any(isinstance(at(entry, "layers"), list) for entry in entries(facts, "sensitivity")):
        said = (
            "Loss on validation data when these layers alone lose such a share of their channels, the least important "
            "first, before any training, and the share that went in the end. The darker, the worse."
        )
        return Part("Which layers suffer", said, (), Numbers("Layers", columns, shown))
    said = (
        "Loss on validation data when this weight alone has such a share of zeros, before any training, and the "
        "share that was taken. The darker, the worse."
    )
    return Part("Which layers suffer", said, (), Numbers("Weight", columns, shown))


def _shade(above: float, most: float) -> int:
    return round(SHADES * math.sqrt(max(0.0, above) / most)) if most > 0 else 0


def _compared(facts: Any, id_: str) -> Part | None:
    """Pruned in rounds, and at once to the same share of zeros in as many epochs."""
    controls, rounds = entries(facts, "at_once"), entries(facts, "rounds")
    metric = next((name for name in ("accuracy", "agreement", "sqnr_db", "mse", "loss") if _all(controls, name)), None)
    if metric is None or len(controls) != len(rounds):
        return None
    sides: list[list[Place]] = [[], []]
    for control, entry in zip(controls, rounds, strict=True):
        sparsity, values = number(control, "sparsity"), (number(_best(entry), metric), number(control, metric))
        if sparsity is None or sparsity >= 1:
            return None
        for side, value in zip(sides, values, strict=True):
            if value is not None:
                side.append((-math.log10(1 - sparsity), value, value, value))
    write = percent_tick if metric in {"accuracy", "agreement"} else number_tick
    lines = [("pruned in rounds", "after", sides[0]), ("pruned at once", "second", sides[1])]
    chart = _chart(id_, "Little by little, or at once", lines, ("weights left", _left), (metric, write))
    cells = [
        (_left(place[0], 0), [(write(place[1], 1e-3), 0), (write(other[1], 1e-3), 0)])
        for place, other in zip(*sides, strict=False)
    ]
    said = "On validation data, after as many epochs of training in all: a round's own and those before it."
    numbers = Numbers("Weights left", [line[0] for line in lines], cells)
    return Part("Little by little, or at once", said, [chart] if chart else [], numbers)


def _all(found: Sequence[Json], name: str) -> bool:
    return bool(found) and all(number(entry, name) is not None for entry in found)


def _best(entry: Json) -> Json:
    """What a round's training came to: the metrics of the epoch that was kept."""
    kept = number(entry, "training", "best_epoch")
    history = entries(entry, "training", "history")
    return next((metrics for metrics in history if number(metrics, "epoch") == kept), {})


def _cell(cell: Json, id_: str) -> Part | None:
    rounds = entries(cell, "rounds")
    if len(rounds) < 2:
        return None
    write = percent_tick if text(cell, "metric") == "accuracy" else number_tick
    judged = text(cell, "metric") or "score"
    left = ("weights left", _left)
    groups = [
        ("scores", f"{judged.capitalize()} by weights left", "score", _present(rounds, "signs", "random_signs"), write),
        ("signs", "What signs alone are worth", "score", _signs(rounds), write),
        ("stops", "Step of the least validation loss", "stopped_at", _present(rounds, "signs", "random_signs"), _whole),
    ]
    charts = [
        _chart(f"{id_}-{name}", title, _by_left(rounds, arms, figure), left, (title_y, tick))
        for name, title, figure, arms, tick in groups
        for title_y in [judged if figure == "score" else "step"]
    ]
    charts.append(_over_iterations(cell, id_, (judged, write)))
    kind = f"{text(cell, 'kind').capitalize()}, {text(cell, 'rate')} learning rate"
    return Part(kind, text(cell, "words"), [chart for chart in charts if chart], _numbers(rounds, write))


def _present(rounds: Sequence[Json], *but: str) -> list[str]:
    return [arm for arm in ARMS if arm not in but and (arm == "dense" or arm in mapping(rounds[-1], "arms"))]


def _signs(rounds: Sequence[Json]) -> list[str]:
    arms = _present(rounds, "random", "scratch_b", "finetune")
    return arms if "signs" in arms or "random_signs" in arms else []


def _by_left(rounds: Sequence[Json], arms: Sequence[str], figure: str) -> list[tuple[str, str, list[Place]]]:
    """A line for each arm, from the whole network on, whose own goes across."""
    places = [-math.log10(share) if (share := number(entry, "weights_left")) else None for entry in rounds]
    lines = []
    for arm in arms:
        points: list[Place] = []
        for x, entry in zip(places, rounds, strict=True):
            source, who = (rounds[0], "dense") if arm == "dense" or entry is rounds[0] else (entry, arm)
            values = [number(source, "arms", who, figure, place) for place in range(3)]
            if x is not None and None not in values:
                points.append((x, *values))  # type: ignore[arg-type]
        lines.append((*ARMS[arm], points))
    return lines


def _over_iterations(cell: Json, id_: str, y: tuple[str, Write]) -> Chart | None:
    lines, marks = [], []
    for arm in ("dense", "rewind", "random", "scratch_b"):
        found = mapping(cell, "over_iterations").get(arm)
        points = [[number(entry, place) for place in range(4)] for entry in found] if isinstance(found, list) else []
        label, kind = ARMS[arm]
        lines.append((label, kind, [tuple(point) for point in points if None not in point]))
        passed = number(cell, "passes_dense_at", arm)
        if passed is not None:
            marks.append((passed, label))
    return _chart(f"{id_}-steps", "At the smallest size, step by step", lines, ("steps", _whole), y, marks)  # type: ignore[arg-type]


def _chart(
    id_: str,
    title: str,
    lines: Sequence[tuple[str, str, Sequence[Place]]],
    x: tuple[str, Write],
    y: tuple[str, Write],
    marks: Sequence[tuple[float, str]] = (),
) -> Chart | None:
    """Lines with their spread as whiskers; None where there are no two points to draw a line between."""
    lines = [line for line in lines if line[2]]
    places = [place for _, _, points in lines for place in points]
    if len({place[0] for place in places}) < 2:
        return None
    across = axis(x[0], [0.0, *[place[0] for place in places]], LEFT, RIGHT, x[1])
    up = axis(y[0], [value for place in places for value in place[1:]], BOTTOM, TOP, y[1])
    drawn, whiskers, said = [], [], []
    for label, kind, points in lines:
        spots = [(across.place(place[0]), up.place(place[1])) for place in points]
        drawn.append((label, kind, " ".join(f"{a:g},{b:g}" for a, b in spots), spots[-1]))
        for (a, _), place in zip(spots, points, strict=True):
            if place[3] > place[2] and len(points) <= 30:
                whiskers.append((kind, f"{a:g},{up.place(place[2]):g} {a:g},{up.place(place[3]):g}"))
        said.append(f"{label}: from {y[1](points[0][1], 1e-3)} to {y[1](points[-1][1], 1e-3)}")
    shown = [Mark(across.place(step), label) for step, label in marks]
    description = f"{y[0]} over {x[0]}. {'; '.join(said)}. Vertical lines: the spread over seeds."
    return Chart(id_, title, description, across, up, lines=drawn, joins=whiskers, marks=shown)


def _numbers(rounds: Sequence[Json], write: Write) -> Numbers:
    arms = [arm for arm in ARMS if arm == "dense" or arm in mapping(rounds[-1], "arms")]
    rows = []
    for entry in rounds:
        share = number(entry, "weights_left")
        cells = [(_spread(mapping(entry, "arms").get(arm), write), 0) for arm in arms]
        rows.append(("–" if not share else _left(-math.log10(share), 0), cells))
    return Numbers("Weights left", [ARMS[arm][0] for arm in arms], rows)


def _spread(figures: Any, write: Write) -> str:
    values = [number(figures, "score", place) for place in range(3)]
    middle, low, high = values
    if middle is None or low is None or high is None:
        return "–"
    said = write(middle, 1e-3)
    return said if low == high else f"{said} ({write(low, 1e-3)} to {write(high, 1e-3)})"


def _left(place: float, step: float) -> str:  # noqa: ARG001 - as every tick
    return f"{100 * 10**-place:.3g} %"


def _whole(value: float, step: float) -> str:  # noqa: ARG001 - as every tick
    return words.short(round(value))
