"""A job's report, ready for `report.html`: verdicts, figures, charts, steps, how it was measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from api.pages import words
from api.pages.charts import Bars, Chart, Point, Write, bar_chart, number_tick, percent_tick, scatter, written
from api.pages.facts import Shown, label, plain, shown
from api.pages.figures import Json, at, entries, mapping, number, text
from api.pages.learned import Learned, learned
from api.pages.measures import Measure, judged_by, measures, quality_tables
from api.pages.pruned import DRAWN, Part, pruned

SIDES = (("before", "before"), ("after", "after"))
MOST_NODES = 15
JOB_KINDS = ("after", "second", "third", "fourth")


@dataclass(frozen=True)
class Tile:
    """One of the few figures at the top. `effect` is the report's own verdict: better, worse, none, or ""."""

    title: str
    figure: str
    detail: str
    effect: str


@dataclass(frozen=True)
class StepShown:
    """A step of the pipeline: what it cost and changed, and what it tells of itself."""

    index: int
    method: str
    seconds: float | None
    change: str
    figures: Sequence[tuple[str, str, str]]
    facts: Shown | None
    learned: Learned | None
    pruned: Sequence[Part] = ()


def read(report: Json) -> Json:
    """What `report.html` is given. A report that lacks something gives a page that lacks it."""
    found = measures(report)
    claims = [entry for entry in entries(report, "claims") if text(entry, "text")]
    return {
        "headline": text(report, "headline"),
        "worse": [claim["text"] for claim in claims if claim.get("effect") == "worse"],
        "claims": [
            {"text": claim["text"], "effect": text(claim, "effect") or "none", "verdict": text(claim, "verdict")}
            for claim in claims
        ],
        "tiles": _tiles(found, claims),
        "measures": found,
        "quality_tables": quality_tables(report),
        "scatters": scatters([("", report)]),
        "bars": _bars(report),
        "steps": [_step(step) for step in entries(report, "steps")],
        "usage": [(form, code) for form, code in mapping(report, "usage").items() if isinstance(code, str)],
        "warnings": [text(entry, "message") for entry in entries(report, "data", "warnings")],
        "measured_on": text(report, "measured_on"),
        "with_data": at(report, "delivered", "quality") is not None,
        "circumstances": _circumstances(report),
    }


def _tiles(found: Sequence[Measure], claims: Sequence[Json]) -> list[Tile]:
    quality = judged_by(found)
    size = next((measure for measure in found if measure.kind == "size"), None)
    fast = next((measure for measure in found if measure.key.startswith("latency.")), None)
    fewer = next((measure for measure in found if measure.key == "parameters"), None)
    chosen = [
        (quality, ("accuracy", "error", "fidelity")),
        (size, ("size",)),
        (fast, ("latency",)),
        (fewer, ()),
    ]
    return [_tile(measure, subjects, claims) for measure, subjects in chosen if measure is not None]


def _tile(measure: Measure, subjects: Sequence[str], claims: Sequence[Json]) -> Tile:
    effect = next((text(claim, "effect") for claim in claims if claim.get("subject") in subjects), "")
    sides = " → ".join(measure.write(side) for side in (measure.before, measure.after) if side is not None)
    change = measure.change.partition(" (")[0].partition(";")[0]
    return Tile(measure.label, change, sides, effect) if change else Tile(measure.label, sides, "", effect)


def scatters(jobs: Sequence[tuple[str, Json]]) -> list[Chart]:
    """Quality against size, and against latency; of one job before and after, or of several by their names."""
    found = [(name, measures(report)) for name, report in jobs]
    drawn = [
        _scatter("size", found, "size", written(words.bytes_)),
        _scatter("speed", found, "time", written(words.seconds)),
    ]
    return [chart for chart in drawn if chart is not None]


def _scatter(id_: str, jobs: Sequence[tuple[str, Sequence[Measure]]], kind: str, write: Write) -> Chart | None:
    """Those jobs whose quality is the same measure as the first one's."""
    points: list[Point] = []
    first: tuple[Measure, Measure] | None = None
    for (name, found), colour in zip(jobs, JOB_KINDS, strict=False):
        quality, cost = judged_by(found), next((measure for measure in found if measure.kind == kind), None)
        if quality is None or cost is None or (first is not None and quality.key != first[0].key):
            continue
        first = first or (quality, cost)
        points += _points(name, quality, cost, colour, "before" if len(jobs) == 1 else colour)
    if first is None:
        return None
    write_y = percent_tick if first[0].write is words.percent else number_tick
    quality, cost = first
    return scatter(
        id_, f"{quality.label} and {id_}", points, x=cost.label, y=quality.label, write_x=write, write_y=write_y
    )


def _points(name: str, quality: Measure, cost: Measure, after: str, before: str) -> list[Point]:
    """The original and the compressed network, where both figures are known."""
    # The original gives the same answer as itself.
    original = 1.0 if quality.before is None and quality.key == "agreement" else quality.before
    points, pair = [], name or "job"
    if original is not None and cost.before is not None:
        said, spans = f"{name} before".strip(), (cost.before_span, quality.before_span)
        points.append(Point(said, before, cost.before, original, *spans, pair, hollow=True))
    if quality.after is not None and cost.after is not None:
        said, spans = f"{name} after".strip(), (cost.after_span, quality.after_span)
        points.append(Point(said, after, cost.after, quality.after, *spans, pair))
    return points


def _bars(report: Json) -> list[tuple[Bars, Callable[[float], str], list[tuple[str, list[float | None]]]]]:
    """By layer: channels, parameters, MACs; by node: time. Each with its numbers."""
    layers = entries(report, "layers")
    width: tuple[str | int, ...] = ("weight_shape", 0)
    charts: list[tuple[str, str, list[tuple[str, list[float | None]]], Callable[[float], str]]] = [
        ("widths", "Channels or neurons by layer", _by_layer(layers, *width), words.count),
        ("weights", "Parameters by layer", _by_layer(layers, "parameters"), words.short),
        ("macs", "MACs by layer", _by_layer(layers, "macs"), words.short),
        ("nodes", "Time by operation at batch 1", _by_node(report), words.seconds),
    ]
    drawn = [(bar_chart(id_, title, groups, SIDES, write), write, groups) for id_, title, groups, write in charts]
    return [(bars, write, groups) for bars, write, groups in drawn if bars is not None]


def _by_layer(layers: Sequence[Json], *path: str | int) -> list[tuple[str, list[float | None]]]:
    rows = [(text(layer, "name"), [number(layer, "before", *path), number(layer, "after", *path)]) for layer in layers]
    return [(name, values) for name, values in rows if values != [None, None]]


def _by_node(report: Json) -> list[tuple[str, list[float | None]]]:
    """The slowest nodes of both; a node is the same one where the runtime calls it the same."""
    sides = []
    for side in ("original", "compressed"):
        nodes = entries(report, "delivered", side, "nodes")
        times = [(text(node, "name"), number(node, "microseconds")) for node in nodes]
        sides.append({name: value / 1e6 for name, value in times if value is not None})
    slowest = sorted(sides[0] | sides[1], key=lambda name: -max(side.get(name, 0.0) for side in sides))
    return [(name, [side.get(name) for side in sides]) for name in slowest[:MOST_NODES]]


def _step(step: Json) -> StepShown:
    before, after = mapping(step, "before"), mapping(step, "after")
    keys = sorted(before | after, key=lambda key: not key.startswith("validation"))  # what it cost, and then what for
    rows = [(label(key), _figure(key, before.get(key)), _figure(key, after.get(key))) for key in keys]
    changed = [f"{name} {old} → {new}" for name, old, new in rows if old != new]
    index, facts = number(step, "index"), mapping(step, "facts")
    drawn, parts = learned(facts), pruned(facts, int(index or 0))
    hidden = ({"learned"} if drawn is not None else set()) | (DRAWN if parts else set())
    told = {name: fact for name, fact in facts.items() if name not in hidden}
    return StepShown(
        int(index or 0),
        text(step, "method"),
        number(step, "seconds"),
        "; ".join(changed[:3]),
        rows,
        shown(told) if told else None,
        drawn,
        parts,
    )


def _figure(key: str, value: Any) -> str:
    found = number(value)
    if found is None:
        return plain(value) if not isinstance(value, dict | list) else "–"
    if key.endswith(("accuracy", "agreement")):
        return words.percent(found)
    return words.count(found) if isinstance(found, int) else f"{found:.4g}"


def _circumstances(report: Json) -> list[tuple[str, Shown]]:
    """Where and with what it was measured, and what the run read."""
    parts = [
        ("Machine", mapping(report, "device")),
        ("Versions", mapping(report, "versions")),
        ("Data", {key: value for key, value in mapping(report, "data").items() if key != "warnings"}),
        ("What was read", mapping(report, "inputs")),
    ]
    return [(title, shown(found)) for title, found in parts if found]
