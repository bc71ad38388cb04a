"""Curves of training as they grow, from a job's `metric` and `progress` events: one chart for each metric."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from api.pages.charts import Chart, Line, Mark, line_chart, number_tick, percent_tick
from api.pages.facts import label
from api.pages.figures import Json, number, text

KINDS = ("after", "second", "third", "fourth")
SHARES = ("accuracy", "agreement", "precision", "recall", "f1")
FIRST = ("loss", "accuracy")  # the order of the charts; others follow as they come
NO_METRIC = frozenset({"index", "stage", "epoch", "split"})
MOST_MARKS = 12


@dataclass(frozen=True)
class Measured:
    """Metrics at one moment of a step. `x`: epochs since the job's first training, all stages together."""

    step: int
    stage: str
    epoch: float
    x: float
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Curves:
    charts: Sequence[Chart]
    columns: Sequence[str]
    rows: Sequence[Measured]


def curves(events: Iterable[Mapping[str, Any]], methods: Sequence[str]) -> Curves:
    """`events`: rows with `kind` and `data`, oldest first; `methods`: by step."""
    events = list(events)
    measured = _measured(event["data"] for event in events if event["kind"] == "metric")
    starts = _starts(measured)
    while_training = _training_loss(events, starts)
    found = list(dict.fromkeys(name for entry in measured for name in entry.metrics))
    columns = sorted(found, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    marks = [Mark(x, stage) for (_, stage), x in starts.items()] if len(starts) <= MOST_MARKS else []
    charts = [
        line_chart(
            f"curve-{place}",
            f"{label(name).capitalize()} on validation data",
            [*_lines(measured, name, methods), *(while_training if name == "loss" else [])],
            x="epochs of training",
            y=label(name),
            write=percent_tick if name.endswith(SHARES) else number_tick,
            marks=marks if len(marks) > 1 else (),
        )
        for place, name in enumerate(columns)
    ]
    return Curves([chart for chart in charts if chart is not None], columns, measured)


def _measured(events: Iterable[Json]) -> list[Measured]:
    """In order, each moment once: after a resume an epoch may have been measured again."""
    latest: dict[tuple[int, str, float], dict[str, float]] = {}
    for data in events:
        step, epoch = number(data, "index"), number(data, "epoch")
        if step is None or epoch is None:
            continue
        values = {name: number(data, name) for name in data if name not in NO_METRIC}
        latest[int(step), text(data, "stage"), epoch] = {name: v for name, v in values.items() if v is not None}
    stages: dict[tuple[int, str], list[float]] = {}
    for step, stage, epoch in latest:
        stages.setdefault((step, stage), []).append(epoch)
    found, start = [], 0.0
    for step, stage in sorted(stages, key=lambda key: key[0]):  # stable: stages stay in the order they came in
        epochs = sorted(stages[step, stage])
        found += [Measured(step, stage, epoch, start + epoch, latest[step, stage, epoch]) for epoch in epochs]
        start += epochs[-1]
    return found


def _starts(measured: Sequence[Measured]) -> dict[tuple[int, str], float]:
    """Where along x each stage begins."""
    starts: dict[tuple[int, str], float] = {}
    for entry in measured:
        starts.setdefault((entry.step, entry.stage), entry.x - entry.epoch)
    return starts


def _lines(measured: Sequence[Measured], name: str, methods: Sequence[str]) -> list[Line]:
    """One for each step. Where a stage begins, the line jumps: that is what a cut does to the network."""
    points: dict[int, list[tuple[float, float]]] = {}
    for entry in measured:
        if name in entry.metrics:
            points.setdefault(entry.step, []).append((entry.x, entry.metrics[name]))
    return [
        Line(f"{step + 1}. {methods[step] if step < len(methods) else 'step'}", KINDS[place % len(KINDS)], found)
        for place, (step, found) in enumerate(points.items())
    ]


def _training_loss(events: Iterable[Mapping[str, Any]], starts: Mapping[tuple[int, str], float]) -> list[Line]:
    """The loss of single batches. Each stage begins with a validation, so what follows one is of its stage."""
    points, start = [], 0.0
    for event in events:
        data = event["data"]
        if event["kind"] == "metric":
            start = starts.get((int(number(data, "index") or 0), text(data, "stage")), start)
        elif event["kind"] == "progress":
            loss, epoch = number(data, "metrics", "training_loss"), number(data, "metrics", "epoch")
            if loss is not None and epoch is not None:
                points.append((start + epoch, loss))
    points.sort()
    distinct = [point for point, after in pairwise([*points, (float("inf"), 0.0)]) if point[0] < after[0]]
    return [Line("in training, single batches", "before", distinct)] if len(distinct) > 1 else []
