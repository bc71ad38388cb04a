"""`/compare?job=…&job=…`: two to four finished jobs side by side; without them, a page to choose them on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query
from sqlalchemy import select
from starlette.responses import Response

from api.pages.facts import plain
from api.pages.figures import Json, text
from api.pages.measures import Measure, measures
from api.pages.report import scatters
from api.pages.site import page
from api.paging import Wanted
from api.service import InService, Service
from store import jobs
from store.states import JobState
from store.tables import DEFAULT_WORKSPACE, job

router = APIRouter(include_in_schema=False)

FEWEST, MOST = 2, 4
OFFERED = 50
LETTERS = "ABCD"
OWN_NAMES = frozenset({"name", "tags"})  # of a spec: they change nothing


@dataclass(frozen=True)
class Cell:
    """`share`: of the row's largest figure. `mark`: in words, that it is the best and how sure that is, or ""."""

    measure: Measure | None
    share: float
    mark: str


@router.get("/compare")
def compare(service: InService, job: Annotated[list[Wanted] | None, Query()] = None) -> Response:
    chosen = list(dict.fromkeys(job or []))
    rows = {id_: jobs.find(service.database, id_) for id_ in chosen[: MOST + 1]}
    status, faults = _faults(rows)
    there = [row for row in rows.values() if row is not None and row["state"] == JobState.SUCCEEDED]
    if faults or len(there) < FEWEST:
        picked = {row["id"] for row in there}
        context: Json = {"faults": faults, "picked": picked, "most": MOST, "offered": _offered(service, picked)}
        return page("compare_choice.html", status=status, here="/jobs", **context)
    return page("compare.html", here="/jobs", **_compared(there))


def _faults(rows: Mapping[str, Any]) -> tuple[int, list[tuple[str, str]]]:
    """The answer's status, and (no field, what is wrong) for each job that can't be compared."""
    status, faults = 200, []
    for id_, row in rows.items():
        if row is None:
            status = 404
            faults.append(("", f"No job has the id {id_}."))
        elif row["state"] != JobState.SUCCEEDED:
            status = max(status, 409)
            said = (
                f"{row['name'] or id_} is {row['state']}"
                if row["state"] != "failed"
                else f"{row['name'] or id_} failed"
            )
            faults.append(("", f"{said}: only a job that succeeded has figures."))
    if len(rows) > MOST:
        status = max(status, 422)
        faults.append(("", f"Choose at most {MOST} jobs."))
    return status, faults


def _offered(service: Service, picked: set[str]) -> Sequence[Any]:
    """The latest jobs that succeeded, and those already picked."""
    columns = (job.c.id, job.c.name, job.c.tags, job.c.created_at, job.c.spec)
    mine = (job.c.workspace_id == DEFAULT_WORKSPACE, job.c.state == JobState.SUCCEEDED)
    latest = select(job.c.id).where(*mine).order_by(job.c.id.desc()).limit(OFFERED)
    with service.database.read() as connection:
        ids = picked | set(connection.execute(latest).scalars())
        return connection.execute(select(*columns).where(job.c.id.in_(ids)).order_by(job.c.id.desc())).mappings().all()


def _compared(rows: Sequence[Any]) -> Json:
    reports = [row["report"] for row in rows]
    names = [f"{letter}: {row['name'] or row['id']}" for letter, row in zip(LETTERS, rows, strict=False)]
    return {
        "names": names,
        "jobs": [
            {"id": row["id"], "name": name, "headline": text(row["report"], "headline"), "methods": _methods(row)}
            for row, name in zip(rows, names, strict=True)
        ],
        "table": _table([measures(report) for report in reports]),
        "pictures": scatters(list(zip(names, reports, strict=True))),
        "differences": _differences([row["spec"] for row in rows]),
        "same_model": len({text(row["report"], "inputs", "model") or row["model_id"] for row in rows}) == 1,
        "same_data": len({_data(row) for row in rows}) == 1,
    }


def _data(row: Any) -> tuple[str, str]:
    """What a job was judged by: the file, by its hash where the report has it, and how it was read."""
    return text(row["report"], "inputs", "data") or str(row["dataset_id"]), str(row["spec"].get("data"))


def _methods(row: Any) -> list[str]:
    return [text(step, "method") for step in row["spec"]["steps"]]


def _table(columns: Sequence[Sequence[Measure]]) -> list[tuple[str, list[Cell]]]:
    """By measure, in the order in which the jobs have them."""
    by_key = [{measure.key: measure for measure in column} for column in columns]
    labels = {measure.key: measure.label for column in columns for measure in column}
    return [(label, _row([column.get(key) for column in by_key])) for key, label in labels.items()]


def _row(found: Sequence[Measure | None]) -> list[Cell]:
    best = _best(found)
    largest = max((abs(m.after) for m in found if m is not None and m.after is not None), default=0.0)
    mark = _mark(found, best) if best else ""
    return [
        Cell(
            measure,
            abs(measure.after) / largest if measure is not None and measure.after is not None and largest else 0.0,
            mark if place in best else "",
        )
        for place, measure in enumerate(found)
    ]


def _best(found: Sequence[Measure | None]) -> set[int]:
    """The places of the best figure; none where all are equal, or where neither more nor less is better. Times were
    taken in each job's own run, so that how many times faster it got is compared there."""
    values: dict[int, float] = {}
    for place, measure in enumerate(found):
        if measure is None or measure.after is None or not measure.good:
            continue
        if measure.kind == "time" and measure.gain is not None:
            values[place] = measure.gain
        else:
            values[place] = -measure.after if measure.good == "less" else measure.after
    if len(set(values.values())) < 2:
        return set()
    best = max(values.values())
    return {place for place, value in values.items() if value == best}


def _mark(found: Sequence[Measure | None], best: set[int]) -> str:
    """Shares of a sample have intervals: where they overlap, the order may be chance."""
    spans = [measure.after_span for measure in found if measure is not None and measure.kind == "quality"]
    if any(span is None for span in spans) or not spans:
        return "best"
    ahead = next(m.after_span for place, m in enumerate(found) if place in best and m is not None and m.after_span)
    others = [m.after_span for place, m in enumerate(found) if place not in best and m is not None and m.after_span]
    overlap = any(low <= ahead[1] and ahead[0] <= high for low, high in others)
    return "ahead, may be chance" if overlap else "best"


def _differences(specs: Sequence[Json]) -> list[tuple[str, list[str]]]:
    """The places where the specs differ, with what each says there."""
    flat = [dict(_flat({key: value for key, value in spec.items() if key not in OWN_NAMES})) for spec in specs]
    places = dict.fromkeys(place for spec in flat for place in spec)
    rows = [(place, [spec.get(place, "–") for spec in flat]) for place in places]
    return [(place, values) for place, values in rows if len(set(values)) > 1]


def _flat(value: Any, path: str = "") -> list[tuple[str, str]]:
    """Every single value with its place; lists of plain values are one value."""
    if isinstance(value, Mapping):
        return [pair for key, entry in value.items() for pair in _flat(entry, f"{path}.{key}" if path else str(key))]
    if isinstance(value, list) and any(isinstance(entry, Mapping | list) for entry in value):
        return [pair for place, entry in enumerate(value) for pair in _flat(entry, f"{path} {place + 1}")]
    return [(path, ", ".join(map(plain, value)) or "none" if isinstance(value, list) else plain(value))]
