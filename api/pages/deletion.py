"""`/models/ID/delete` and its like: asks once and says what goes with it; the post deletes, and shows the list."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter
from sqlalchemy import ColumnElement, func, select
from starlette.responses import Response

from api.jobs.routes import JobId, whole
from api.pages.site import go
from api.pages.site import page as html
from api.service import InService, Service
from api.uploads.routes import DatasetId, ModelId
from api.uploads.routes import whole as whole_upload
from store import jobs, uploads
from store.leases import UPLOADS, UploadKind
from store.states import FINISHED
from store.tables import DEFAULT_WORKSPACE, artifact, job

router = APIRouter(include_in_schema=False)
NAMED = 10  # jobs that are listed; the others are counted


@router.get("/models/{id_}/delete")
def ask_model(service: InService, id_: ModelId) -> Response:
    return _ask_upload(service, "model", id_)


@router.post("/models/{id_}/delete")
def delete_model(service: InService, id_: ModelId) -> Response:
    return _delete_upload(service, "model", id_)


@router.get("/datasets/{id_}/delete")
def ask_dataset(service: InService, id_: DatasetId) -> Response:
    return _ask_upload(service, "dataset", id_)


@router.post("/datasets/{id_}/delete")
def delete_dataset(service: InService, id_: DatasetId) -> Response:
    return _delete_upload(service, "dataset", id_)


@router.get("/jobs/{id_}/delete")
def ask_job(service: InService, id_: JobId) -> Response:
    return _ask_job(service, id_)


@router.post("/jobs/{id_}/delete")
def delete_job(service: InService, id_: JobId) -> Response:
    row = whole(service, id_)
    try:
        jobs.remove(service.database, service.objects, id_)
    except uploads.InUse:
        return _ask_job(service, id_, status=409)
    return _gone("/jobs", row["name"] or id_)


def _gone(list_: str, name: str) -> Response:
    return go(f"{list_}?{urlencode({'deleted': name[:200]})}")


def _ask_upload(service: Service, kind: UploadKind, id_: str, status: int = 200) -> Response:
    row = whole_upload(service, kind, id_)
    uses = uploads.uses_models([id_]) if kind == "model" else job.c.dataset_id == id_
    with service.database.read() as connection:
        same = [
            (f"/{other}s/{found.id}", found.name)
            for other, table in UPLOADS.items()
            for found in connection.execute(
                select(table.c.id, table.c.name).where(table.c.sha256 == row["sha256"], table.c.id != id_).limit(NAMED)
            )
        ]
    users = _users(service, uses)
    return html("delete_upload.html", status=status, kind=kind, row=row, same=same, **users)


def _delete_upload(service: Service, kind: UploadKind, id_: str) -> Response:
    row = whole_upload(service, kind, id_)
    try:
        uploads.remove(service.database, service.objects, kind, id_)
    except uploads.InUse:
        return _ask_upload(service, kind, id_, status=409)
    return _gone(f"/{kind}s", row["name"])


def _users(service: Service, uses: ColumnElement[bool]) -> dict[str, Any]:
    """The jobs that something was used in: `blocking`, which aren't finished, and those that stay without it."""
    found = select(job.c.id, job.c.name, job.c.state).where(uses, job.c.workspace_id == DEFAULT_WORKSPACE)
    done = found.where(job.c.state.in_(FINISHED))
    with service.database.read() as connection:
        blocking = connection.execute(found.where(job.c.state.not_in(FINISHED)).order_by(job.c.id.desc())).all()
        stay = connection.execute(done.order_by(job.c.id.desc()).limit(NAMED)).all()
        count = connection.execute(select(func.count()).select_from(done.subquery())).scalar_one()
    return {"blocking": blocking, "stay": stay, "more": count - len(stay)}


def _ask_job(service: Service, id_: str, status: int = 200) -> Response:
    row = whole(service, id_)
    folder = service.objects.list(f"jobs/{id_}")
    checkpoints = sum(size for key, size in folder.items() if key.startswith(f"jobs/{id_}/checkpoints/"))
    log = next((size for key, size in folder.items() if key == f"jobs/{id_}/log"), 0)
    users = _users(service, uploads.uses_models(select(artifact.c.id).where(artifact.c.job_id == id_)))
    files = jobs.artifacts(service.database, id_)
    finished = row["state"] in FINISHED
    context = {"row": row, "files": files, "checkpoints": checkpoints, "log": log, "finished": finished}
    return html("delete_job.html", status=status, **context, **users)
