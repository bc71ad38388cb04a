"""The start page."""

from __future__ import annotations

from fastapi import APIRouter
from sqlalchemy import func, select
from starlette.responses import Response

from api.pages.site import page
from api.service import InService
from store import jobs
from store.roster import served_queues
from store.tables import DEFAULT_WORKSPACE, model

router = APIRouter(include_in_schema=False)
LATEST = 5


@router.get("/")
def home(service: InService) -> Response:
    with service.database.read() as connection:
        workers = served_queues(connection, service.settings.worker_seconds)
        models = select(func.count()).select_from(model).where(model.c.workspace_id == DEFAULT_WORKSPACE)
        count = connection.execute(models).scalar_one()
    latest = jobs.listed(service.database, limit=LATEST)
    return page("home.html", jobs=latest, models=count, workers=workers)
