"""For those who run the service: is it alive, is it ready, and what is going on in it."""

from __future__ import annotations

from fastapi import APIRouter
from kombu.exceptions import OperationalError as BrokerError
from pydantic import BaseModel, Field
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError
from starlette.responses import Response

from api.answer import answer
from api.service import InService, Service
from store.clock import now
from store.objects import ObjectsError
from store.roster import present
from store.states import JobState, UploadState
from store.tables import dataset, job, model

router = APIRouter(tags=["health"])
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Present(BaseModel):
    """A worker. `sandbox`: the rung of the ladder that its probe found, where the engine's process runs."""

    name: str
    queues: list[str]
    device: str
    sandbox: str


class Readiness(BaseModel):
    """`checks`: "ok", or what is wrong. `workers`: those that signed in lately; the API is ready without any."""

    ready: bool
    checks: dict[str, str] = Field(examples=[{"database": "ok", "objects": "ok", "broker": "ok"}])
    workers: list[Present]


@router.get("/livez", summary="The process answers")
async def livez() -> dict[str, str]:
    return {"status": "ok"}


@router.get(
    "/readyz",
    summary="All that the service needs can be reached",
    responses={200: {"model": Readiness}, 503: {"model": Readiness, "description": "What is wrong is named"}},
)
def readyz(service: InService) -> Response:
    checks = {"database": "ok", "objects": "ok", "broker": "ok"}
    workers = []
    try:
        workers = _workers(service)
    except DBAPIError as error:
        checks["database"] = f"{type(error.orig).__name__}: {str(error.orig).splitlines()[0]}"
    try:
        service.objects.head("readyz")
    except ObjectsError as error:
        checks["objects"] = str(error).splitlines()[0]
    try:
        with service.doorbell.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=2)
    except (BrokerError, OSError) as error:
        checks["broker"] = str(error).splitlines()[0]
    ready = set(checks.values()) == {"ok"}
    return answer({"ready": ready, "checks": checks, "workers": workers}, 200 if ready else 503)


def _workers(service: Service) -> list[dict[str, object]]:
    """Also shows that the tables are there."""
    rows = present(service.database, service.settings.worker_seconds)
    return [{name: row[name] for name in Present.model_fields} for row in rows]


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    responses={200: {"description": "Prometheus text", "content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def metrics(service: InService) -> Response:
    lines = ["# HELP niwaki_jobs Jobs by state.", "# TYPE niwaki_jobs gauge"]
    with service.database.read() as connection:
        counted = connection.execute(select(job.c.state, func.count()).group_by(job.c.state)).all()
        counts = {str(state): 0 for state in JobState} | {row[0]: row[1] for row in counted}
        lines += [f'niwaki_jobs{{state="{state}"}} {count}' for state, count in counts.items()]
        oldest = select(job.c.created_at, now().label("now")).where(job.c.state == JobState.QUEUED)
        waiting = connection.execute(oldest.order_by(job.c.id).limit(1)).one_or_none()
        age = 0.0 if waiting is None else (waiting.now - waiting.created_at).total_seconds()
        lines += [
            "# HELP niwaki_queue_age_seconds How long the oldest queued job has been waiting.",
            "# TYPE niwaki_queue_age_seconds gauge",
            f"niwaki_queue_age_seconds {max(age, 0.0):.3f}",
            "# HELP niwaki_inspecting Uploads whose inspection isn't finished.",
            "# TYPE niwaki_inspecting gauge",
        ]
        for table in (model, dataset):
            open_ = select(func.count()).where(table.c.state == UploadState.INSPECTING)
            lines.append(f'niwaki_inspecting{{kind="{table.name}"}} {connection.execute(open_).scalar_one()}')
    return Response("\n".join(lines) + "\n", headers={"Content-Type": METRICS_TYPE})
