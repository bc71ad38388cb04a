"""`/v1/compare`: up to four finished jobs side by side, by the figures of their reports."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from api import problems
from api.answer import answer
from api.jobs.routes import whole
from api.problems import documented
from api.service import InService

Json = dict[str, Any]
router = APIRouter(tags=["jobs"])
OneJob = Annotated[str, Field(pattern=r"^job_[0-9A-Z]{26}$")]


class Side(BaseModel):
    """One network's figures; `macs` is null for a model that couldn't be looked into. Seconds by batch size; bytes by
    file format; `quality` as the report has it."""

    model_config = ConfigDict(extra="forbid")
    parameters: int
    nonzero: int
    macs: int | None
    file_bytes: dict[str, int]
    latency_seconds: dict[str, float]
    load_seconds: float
    peak_bytes: int | None
    quality: Json | None


class Column(BaseModel):
    model_config = ConfigDict(extra="forbid")
    job: str
    name: str | None
    model: str
    dataset: str | None
    methods: list[str]
    headline: str
    before: Side
    after: Side


class Comparison(BaseModel):
    model_config = ConfigDict(extra="forbid")
    items: list[Column]


@router.get(
    "/v1/compare",
    summary="Finished jobs side by side",
    responses={200: {"model": Comparison}, **documented(problems.NotFound, problems.JobNotFinished)},
)
def compare(service: InService, job: Annotated[list[OneJob], Query(min_length=2, max_length=4)]) -> Response:
    """Latencies were taken in each job's own run: compare the ratios before/after rather than seconds across jobs."""
    return answer({"items": [_column(whole(service, id_)) for id_ in job]})


def _column(row: Any) -> Json:
    report = row["report"]
    if report is None:
        raise problems.JobNotFinished(f"{row['id']} is {row['state']}: only a job that succeeded has figures")
    return {
        "job": row["id"],
        "name": row["name"],
        "model": row["model_id"],
        "dataset": row["dataset_id"],
        "methods": [step["method"] for step in row["spec"]["steps"]],
        "headline": report["headline"],
        "before": _side(report, "original", report["original_files"]),
        "after": _side(report, "compressed", report["artifacts"]),
    }


def _side(report: Json, which: str, files: list[Json]) -> Json:
    cost, delivered = report[which], report["delivered"]
    quality = delivered["quality"]
    return {
        **{name: cost[name] for name in ("parameters", "nonzero", "macs")},
        "file_bytes": {file["format"]: file["bytes"] for file in files if file["variant"] == "full"},
        "latency_seconds": {str(entry["batch"]): entry[which]["median"] for entry in delivered["latency"]},
        "load_seconds": delivered[which]["load_seconds"],
        "peak_bytes": delivered[which]["peak_bytes"],
        "quality": None if quality is None else quality[which],
    }
