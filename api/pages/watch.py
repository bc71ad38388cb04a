"""`/jobs/{id}`: a job while it waits and runs, and its report once it has succeeded; cancel and retry.

`/jobs/{id}/live` is the part that changes meanwhile, as a fragment that the page's script puts in place.
"""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from api.jobs import routes as jobs_api
from api.jobs.routes import JobId, whole
from api.pages import report
from api.pages.figures import Json
from api.pages.live import live
from api.pages.site import go, page
from api.service import InService, Service
from compression.spec import READABLE
from store import jobs, uploads
from store.states import JobState

router = APIRouter(include_in_schema=False)


@router.get("/jobs/{job_id}")
def job_page(service: InService, job_id: JobId) -> Response:
    row = whole(service, job_id)
    context: Json = {
        "job": row,
        "title": row["name"] or job_id,
        "spec": row["spec"],
        "model": _model(service, row["model_id"]),
        "dataset": _dataset(service, row["dataset_id"]),
        "report": None,
        "artifacts": (),
        **live(service, row),
    }
    if row["state"] == JobState.SUCCEEDED:
        context["artifacts"] = jobs.artifacts(service.database, job_id)
        context["chainable"] = READABLE
        context["report"] = report.read(row["report"] or {})
    return page("job.html", **context)


@router.get("/jobs/{job_id}/live")
def joblive(service: InService, job_id: JobId) -> Response:
    return page("job_live.html", **live(service, whole(service, job_id)))


@router.post("/jobs/{job_id}/cancel")
def cancel(service: InService, job_id: JobId) -> Response:
    jobs_api.cancel_job(service, job_id)
    return go(f"/jobs/{job_id}")


@router.post("/jobs/{job_id}/retry")
def retry(service: InService, job_id: JobId) -> Response:
    made = jobs_api.retry_job(service, job_id)
    return go(made.headers["location"].removeprefix("/v1"), made.background)


def _model(service: Service, id_: str) -> Json:
    """Its name and where it is; a job's artifact is on that job's page. Without an address: it was deleted."""
    if id_.startswith("art_"):
        artifact = jobs.find_artifact(service.database, id_)
        if artifact is None:
            return {"name": id_, "address": ""}
        return {"name": artifact["name"], "address": f"/jobs/{artifact['job_id']}"}
    row = uploads.find(service.database, "model", id_)
    return {"name": id_, "address": ""} if row is None else {"name": row["name"], "address": f"/models/{id_}"}


def _dataset(service: Service, id_: str | None) -> Json | None:
    if id_ is None:
        return None
    row = uploads.find(service.database, "dataset", id_)
    return {"name": id_, "address": ""} if row is None else {"name": row["name"], "address": f"/datasets/{id_}"}
