"""`/models`, `/datasets` and `/jobs`: newest first, a page at a time, searched by name, tag and state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query
from pydantic import Field, field_validator
from sqlalchemy import ColumnElement, RowMapping, select
from starlette.responses import Response

from api.jobs.row import LARGE
from api.jobs.schema import State as JobStates
from api.pages.site import page as html
from api.paging import PageQuery, Wanted, page
from api.service import InService, Service
from api.uploads.schema import State as UploadStates
from store.database import Database
from store.leases import UPLOADS, UploadKind
from store.states import JobState, UploadState
from store.tables import artifact, job, model, step

router = APIRouter(include_in_schema=False)
ROWS = 25


class ListQuery(PageQuery):
    """`deleted`: the name of what was just deleted, to be told once. A form sends empty fields; they say nothing."""

    limit: int = Field(ROWS, ge=1, le=200)
    deleted: Wanted | None = None

    @field_validator("*", mode="before")
    @classmethod
    def _empty_says_nothing(cls, value: Any) -> Any:
        return None if value == "" else value

    @property
    def asked(self) -> dict[str, str]:
        """What narrows the list, as it stands in the address."""
        return self.model_dump(exclude={"limit", "cursor", "deleted"}, exclude_none=True)

    def older(self, following: str | None) -> str | None:
        """The address of the next page."""
        if following is None:
            return None
        limit = {} if self.limit == ROWS else {"limit": self.limit}
        return "?" + urlencode({**self.asked, **limit, "cursor": following})


class UploadListQuery(ListQuery):
    state: UploadStates | None = None


class JobListQuery(ListQuery):
    state: JobStates | None = None
    model: str | None = Field(None, pattern=r"^(mdl|art)_[0-9A-Z]{26}$")
    dataset: str | None = Field(None, pattern=r"^dst_[0-9A-Z]{26}$")


@router.get("/models")
def list_models(service: InService, query: Annotated[UploadListQuery, Query()]) -> Response:
    return _uploads(service, "model", query)


@router.get("/datasets")
def list_datasets(service: InService, query: Annotated[UploadListQuery, Query()]) -> Response:
    return _uploads(service, "dataset", query)


def _uploads(service: Service, kind: UploadKind, query: UploadListQuery) -> Response:
    table = UPLOADS[kind]
    conditions = [] if query.state is None else [table.c.state == query.state]
    rows, following = page(service.database, table, frozenset({"inspection"}), query, *conditions)
    older = query.older(following)
    return html(
        "uploads.html", here=f"/{kind}s", kind=kind, rows=rows, query=query, older=older, states=list(UploadState)
    )


@router.get("/jobs")
def list_jobs(service: InService, query: Annotated[JobListQuery, Query()]) -> Response:
    wanted = {job.c.state: query.state, job.c.model_id: query.model, job.c.dataset_id: query.dataset}
    conditions = [column == value for column, value in wanted.items() if value is not None]
    rows, older = jobs_page(service.database, query, *conditions)
    return html("jobs.html", here="/jobs", rows=rows, query=query, older=older, states=list(JobState))


def jobs_page(
    database: Database, query: ListQuery, *conditions: ColumnElement[bool]
) -> tuple[list[dict[str, Any]], str | None]:
    """Jobs with the `methods` of their steps, the name of their `model` (None: deleted), and the seconds they `took`;
    and the address of the next page."""
    rows, following = page(database, job, LARGE, query, *conditions)
    methods, models = _methods(database, rows), _model_names(database, {row["model_id"] for row in rows})
    shown = [
        {**row, "methods": methods[row["id"]], "model": models.get(row["model_id"]), "took": _took(row)} for row in rows
    ]
    return shown, query.older(following)


def _methods(database: Database, rows: Sequence[RowMapping]) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {row["id"]: [] for row in rows}
    steps = select(step.c.job_id, step.c.method).where(step.c.job_id.in_(found)).order_by(step.c.job_id, step.c.index)
    with database.read() as connection:
        for job_id, method in connection.execute(steps):
            found[job_id].append(method)
    return found


def _model_names(database: Database, ids: Iterable[str]) -> dict[str, str]:
    """Of uploaded models, and of the files of jobs that were used as one."""
    wanted = list(ids)
    with database.read() as connection:
        return {
            id_: name
            for table in (model, artifact)
            for id_, name in connection.execute(select(table.c.id, table.c.name).where(table.c.id.in_(wanted)))
        }


def _took(row: RowMapping) -> float | None:
    """Seconds from the first attempt's start to the end."""
    if row["started_at"] is None or row["finished_at"] is None:
        return None
    return float((row["finished_at"] - row["started_at"]).total_seconds())
