"""Where things lie in a chart, and what is read of a report that may lack anything."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.pages import words
from api.pages.charts import BAR_ROOM, Line, Point, axis, bar_chart, line_chart, number_tick, percent_tick, scatter
from api.pages.curves import curves
from api.pages.facts import Table, Terms, Text, shown
from api.pages.measures import judged_by, measures, quality_tables
from api.pages.phases import times
from api.pages.report import read
from api.pages.site import page
from compression.report import Report
from tests.api.pages.reports import metric, report, share

FINITE = st.floats(-1e12, 1e12).filter(lambda value: value == 0 or abs(value) > 1e-9)


@given(st.lists(FINITE, min_size=1, max_size=5), st.booleans())
def test_an_axis_holds_all_its_values_and_has_few_ticks(values: list[float], tight: bool) -> None:
    made = axis("x", values, 190.0, 12.0, number_tick, tight=tight)
    assert all(12.0 - 0.1 <= made.place(value) <= 190.0 + 0.1 for value in values)
    assert 1 <= len(made.ticks) <= 7
    assert [place for place, _ in made.ticks] == sorted((place for place, _ in made.ticks), reverse=True)


def test_ticks_are_round_and_told_apart() -> None:
    assert [label for _, label in axis("", [0.961, 0.984], 0, 100, percent_tick).ticks] == [
        *("96.0 %", "96.5 %", "97.0 %", "97.5 %", "98.0 %", "98.5 %"),
    ]
    assert [label for _, label in axis("", [0, 12], 0, 100, number_tick, tight=True).ticks] == ["0", "5", "10"]
    assert axis("", [0, 12], 0, 100, number_tick, tight=True).place(12) == 100


def test_a_line_is_drawn_from_two_points_on_and_thinned_past_hundreds() -> None:
    def drawn(count: int) -> Any:
        points = [(float(i), math.sin(i)) for i in range(count)]
        return line_chart("c", "T", [Line("a", "after", points)], x="epoch", y="loss", write=number_tick)

    assert drawn(1) is None
    assert drawn(0) is None
    points = drawn(5000).lines[0][2].split()
    assert 100 < len(points) <= 301
    assert points[-1].startswith("386,")
    assert "loss over epoch" in drawn(3).description


def test_points_have_intervals_and_pairs_are_joined() -> None:
    pair = [
        Point("before", "before", 100.0, 0.9, None, (0.88, 0.92), "p", hollow=True),
        Point("after", "after", 25.0, 0.85, (20.0, 30.0), (0.8, 0.9), "p"),
    ]
    chart = scatter("s", "T", pair, x="bytes", y="accuracy", write_x=number_tick, write_y=percent_tick)
    assert chart is not None
    (_, x, y, across, up), (_, x2, y2, _, _) = chart.dots[1], chart.dots[0]
    assert across is not None
    assert up is not None
    assert across[0] < x < across[1]
    assert up[1] < y < up[0]
    assert x < x2
    assert y > y2
    assert chart.joins == [("after", f"{x2:g},{y2:g} {x:g},{y:g}")]
    assert scatter("s", "T", [], x="", y="", write_x=number_tick, write_y=number_tick) is None


def test_bars_are_as_long_as_their_figures() -> None:
    kinds = (("before", "before"), ("after", "after"))
    bars = bar_chart("b", "T", [("conv", [64, 16]), ("gone", [32, None])], kinds, words.count)
    assert bars is not None
    assert [[(bar.length, bar.label) for bar in group] for _, _, group in bars.groups] == [
        [(BAR_ROOM, "64"), (BAR_ROOM / 4, "16")],
        [(BAR_ROOM / 2, "32"), (0.0, "–")],
    ]
    assert bar_chart("b", "T", [("none", [None, 0])], kinds, words.count) is None


def events(*given: tuple[str, Any]) -> list[Any]:
    return [{"kind": kind, "data": data} for kind, data in given]


def test_epochs_go_on_over_rounds_and_steps() -> None:
    found = curves(
        events(
            *(metric(0, "round-1", 0.0, 0.9, 0.3), metric(0, "round-1", 2.0, 0.95, 0.2)),
            ("progress", {"index": 0, "metrics": {"training_loss": 0.5, "epoch": 1.5}}),
            *(metric(0, "round-2", 0.0, 0.8, 0.6), metric(0, "round-2", 1.0, 0.93, 0.25)),
            ("progress", {"index": 0, "metrics": {"training_loss": 0.4, "epoch": 0.5}}),
            metric(0, "round-2", 1.0, 0.94, 0.24),  # again, after a resume
            *(metric(1, "finetune", 0.0, 0.94, 0.24), metric(1, "finetune", 1.0, 0.96, 0.2)),
        ),
        ["prune.structured", "finetune"],
    )
    assert [row.x for row in found.rows] == [0, 2, 2, 3, 3, 4]
    assert found.rows[3].metrics["accuracy"] == 0.94
    assert found.columns == ["loss", "accuracy"]
    loss, accuracy = found.charts
    assert [label for label, *_ in loss.lines] == ["1. prune.structured", "2. finetune", "in training, single batches"]
    assert [label for label, *_ in accuracy.lines] == ["1. prune.structured", "2. finetune"]
    assert [mark.label for mark in loss.marks] == ["round-1", "round-2", "finetune"]
    assert loss.lines[2][2].split()[1].split(",")[0] == f"{loss.x.place(2.5):g}"


def test_curves_of_what_nobody_has_heard_of_and_of_nothing() -> None:
    odd = {"index": 0, "epoch": 0.0, "sharpness": 2.0, "name": "x", "flag": True}
    found = curves(events(("metric", odd), ("metric", odd | {"epoch": 1.0, "sharpness": 3.0}), ("metric", {})), [])
    assert [chart.title for chart in found.charts] == ["Sharpness on validation data"]
    assert found.rows[0].stage == ""
    assert curves([], []).charts == []


T0 = datetime(2026, 11, 24, tzinfo=UTC)


def job(**more: Any) -> Any:
    made = {"state": "running", "created_at": T0, "started_at": None, "finished_at": None, "times": {}}
    return made | {key: T0 + timedelta(seconds=value) if key.endswith("_at") else value for key, value in more.items()}


def test_waiting_and_running_are_told_apart_while_it_goes_on() -> None:
    waiting = times(job(state="queued"), [], T0 + timedelta(seconds=7))
    assert (waiting.waited, waiting.ran, waiting.phases) == (7, None, ())
    begun = [
        {"kind": kind, "at": T0 + timedelta(seconds=at), "data": {}}
        for at, kind in ((5, "state"), (6, "started"), (8, "loading"), (9, "step_started"), (15, "step_started"))
    ]
    running = times(job(started_at=5), begun, T0 + timedelta(seconds=20))
    assert (running.waited, running.ran) == (5, 15)
    assert [(phase.name, phase.seconds, phase.going) for phase in running.phases] == [
        ("fetching the files", 1, False),
        ("starting the engine", 2, False),
        ("reading model and data", 1, False),
        ("the steps", 11, True),
        ("writing the files", None, False),
        ("measuring", None, False),
        ("publishing", None, False),
    ]
    broke_off = job(state="failed", started_at=5, finished_at=12, times={"waiting": 5, "fetching": 1})
    ended = times(broke_off, begun[:3], T0 + timedelta(seconds=99))
    assert [(phase.name, phase.seconds) for phase in ended.phases][-1] == ("reading model and data", 4)
    told = times(job(state="succeeded", started_at=5, finished_at=12, times={"waiting": 5, "steps": 3.5}), begun, T0)
    assert [(phase.name, phase.seconds) for phase in told.phases] == [("the steps", 3.5)]


def test_the_sample_is_what_the_engine_writes() -> None:
    assert Report.model_validate(report()).headline.startswith("Accuracy lost")


def test_quality_of_every_kind_is_read() -> None:
    def quality(original: Any, compressed: Any, paired: Any = None, **more: Any) -> Any:
        fidelity = {"agreement": None, "cosine": 0.99, "sqnr_db": 20.0}
        return {"original": original, "compressed": compressed, "paired": paired, "fidelity": fidelity, **more}

    def measured(given: Any) -> dict[str, Any]:
        made = report()
        made["delivered"]["quality"] = given
        return {measure.key: measure for measure in measures(made) if measure.kind == "quality"}

    paired = {"difference": 0.5, "low": 0.1, "high": 0.9, "n": 10}
    mse = measured(quality({"mse": 1.0, "r2": 0.9, "n": 10}, {"mse": 1.5, "r2": None, "n": 10}, paired))
    assert mse["mse"].change == "+0.5 (95 % +0.1 to +0.9)"
    assert (mse["mse"].good, mse["r2"].after, "n" in mse) == ("less", None, False)
    f1 = measured(
        quality({"f1": 0.8, "low": 0.7, "high": 0.9, "n": 10}, {"f1": 0.7, "low": None, "high": None}, paired)
    )
    assert (f1["f1"].before_span, f1["f1"].after_span) == ((0.7, 0.9), None)
    assert "low" not in f1
    odd = measured(quality({"specificity": share(90, 100), "odd": "x"}, {"specificity": None, "odd": True}))
    assert odd["specificity"].label == "Specificity"
    assert "odd" not in odd
    only = measured(quality(None, None))
    assert judged_by(list(only.values())).key == "cosine"
    per_class = report()
    per_class["delivered"]["quality"]["original"]["per_class"] = {"cat": share(9, 10), "dog": 0.5}
    per_class["delivered"]["quality"]["compressed"]["per_class"] = {"cat": share(8, 10)}
    ((title, table),) = quality_tables(per_class)
    assert title == "Per class"
    assert isinstance(table, Table)
    assert table.rows[0] == [
        Text("cat"),
        Text("90.00 % (95 % 88.00 % to 91.00 %)"),
        Text("80.00 % (95 % 78.00 % to 81.00 %)"),
    ]


def test_facts_are_shown_by_their_form() -> None:
    terms = shown({"best_epoch": 2.0, "left_alone": {}, "names": ["a", "b"], "widths": {"conv": [8, 4]}})
    assert isinstance(terms, Terms)
    assert terms.entries == [
        ("best epoch", Text("2")),
        ("left alone", Text("none")),
        ("names", Text("a, b")),
        ("widths", Table(["", "before", "after"], [[Text("conv"), Text("8"), Text("4")]])),
    ]
    table = shown([{"round": 1, "kept": True}, {"round": 2, "why": None}])
    assert isinstance(table, Table)
    assert table.columns == ["round", "kept", "why"]
    assert table.rows[1] == [Text("2"), Text("–"), Text("–")]


def without(value: Any, path: tuple[Any, ...]) -> Any:
    if len(path) == 1:
        return {key: entry for key, entry in value.items() if key != path[0]}
    return {**value, path[0]: without(value[path[0]], path[1:])}


PATHS = [(key,) for key in report()] + [("delivered", key) for key in report()["delivered"]]
PATHS += [("delivered", "quality", key) for key in report()["delivered"]["quality"]]


@pytest.mark.parametrize("path", PATHS, ids=".".join)
@pytest.mark.parametrize("instead", ["missing", None, 7, "text", [], [3, None], {"odd": [[{}]]}], ids=str)
def test_a_report_that_lacks_something_is_read_all_the_same(path: tuple[str, ...], instead: Any) -> None:
    made = report()
    if instead == "missing":
        made = without(made, path)
    else:
        within = made
        for key in path[:-1]:
            within = within[key]
        within[path[-1]] = instead
    answer = page("report.html", report=read(made), artifacts=(), chainable=(), job={"id": "job_1"})
    assert b"How it ran" in answer.body
