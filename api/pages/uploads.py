"""`/models/ID` and `/datasets/ID`: what the inspection found. An inspection is the engine's, and older ones have fewer
keys: what isn't there isn't shown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from api.pages.lists import JobListQuery, jobs_page
from api.pages.site import page
from api.service import InService, Service
from api.uploads.routes import DatasetId, ModelId, whole
from compression.registry import methods
from store.leases import UploadKind
from store.roster import served_queues
from store.states import UploadState
from store.tables import job

router = APIRouter(include_in_schema=False)
Json = dict[str, Any]
LATEST = 10  # jobs
SPLITS = ("train", "validation", "test", "calibration")
UNFILTERED = 30  # as many layers are seen at a glance


@router.get("/models/{id_}")
def model_page(service: InService, id_: ModelId) -> Response:
    row = whole(service, "model", id_)
    found = row["inspection"] or {}
    layers = found.get("layers") or []
    largest = {name: max((layer[name] for layer in layers), default=0) or 1 for name in ("parameters", "macs")}
    return page(
        "model.html",
        **_common(service, "model", row),
        found=found,
        layers=layers,
        largest=largest,
        filtered=len(layers) > UNFILTERED,
        verdicts=_verdicts(found.get("methods") or {}),
    )


@router.get("/datasets/{id_}")
def dataset_page(service: InService, id_: DatasetId) -> Response:
    row = whole(service, "dataset", id_)
    found = row["inspection"] or {}
    splits = sorted((found.get("splits") or {}).items(), key=lambda entry: _place(entry[0]))
    return page("dataset.html", **_common(service, "dataset", row), found=found, splits=splits, **_classes(found))


def _common(service: Service, kind: UploadKind, row: Any) -> Json:
    """What the pages of models and of datasets share: the row, why it was refused, whether it waits, its jobs."""
    query = JobListQuery(limit=LATEST, **{kind: row["id"]})
    jobs, older = jobs_page(
        service.database, query, (job.c.model_id if kind == "model" else job.c.dataset_id) == row["id"]
    )
    waiting = row["state"] == UploadState.INSPECTING
    served: frozenset[str] = frozenset()
    if waiting:
        with service.database.read() as connection:
            served = served_queues(connection, service.settings.worker_seconds)
    said = passages(row["problem"]["message"]) if row["problem"] else []
    address = f"/{kind}s/{row['id']}"
    return {
        "row": row,
        "kind": kind,
        "address": address,
        "waiting": waiting,
        "workers": bool(served),
        "said": said,
        "jobs": jobs,
        "more_jobs": older is not None,
        "here": f"/{kind}s",
    }


def _verdicts(said: Mapping[str, Json]) -> list[Json]:
    """What each method can do, with its summary; None: the method is younger than the inspection."""
    known = methods()
    return [
        {"name": name, "summary": known[name].summary if name in known else "", "verdict": said.get(name)}
        for name in sorted(known.keys() | said.keys())
    ]


def passages(message: str) -> list[tuple[bool, str]]:
    """A message in order: (whether it is code, the text). Lines of code begin with four spaces."""
    parts = groupby(message.splitlines(), key=lambda line: line.startswith("    "))
    texts = [(code, "\n".join(line[4:] if code else line for line in lines)) for code, lines in parts]
    return [(code, text) for code, text in texts if text.strip()]


def _classes(found: Mapping[str, Any]) -> Json:
    """Samples by class: a column for each split, or for each array of labels, and a row for each class."""
    labels = found.get("labels") or {}
    columns: dict[str, Mapping[str, int]] = labels.get("counts") or {
        name: facts["counts"] for name, facts in (found.get("arrays") or {}).items() if facts.get("counts")
    }
    columns = {name: columns[name] for name in sorted(columns, key=_place)}
    named = list(dict.fromkeys([*(labels.get("classes") or ()), *(name for each in columns.values() for name in each)]))
    most = {column: max(counts.values(), default=0) or 1 for column, counts in columns.items()}
    return {"columns": columns, "classes": _sorted(named), "most": most}


def _place(name: str) -> int:
    """Splits in the order in which they are used; others after them."""
    return next((place for place, split in enumerate(SPLITS) if split in name), len(SPLITS))


def _sorted(names: Sequence[str]) -> list[str]:
    """By number where all are numbers (as the keys of JSON they come as text), else as they came."""
    numbers = all(re.fullmatch(r"-?[0-9]+", name) for name in names)
    return sorted(names, key=int) if numbers else list(names)
