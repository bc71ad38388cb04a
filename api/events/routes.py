"""`/v1/jobs/{id}/events`: what happened, replayed from the table and then as it happens (server-sent events)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from pydantic import BaseModel, ConfigDict
from sqlalchemy import RowMapping
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from api import problems
from api.answer import answer
from api.jobs.routes import JobId
from api.jobs.row import poll
from api.problems import documented
from api.service import InService, Service
from store import jobs
from store.states import FINISHED

Json = dict[str, Any]
PAGE = 500
SILENCE_SECONDS = 15.0
LAST_ID = 2**63 - 1

router = APIRouter(tags=["jobs"])
After = Annotated[int, Query(ge=0, le=LAST_ID, description="only events after this id")]


STREAMED = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "description": "goes up"},
        "event": {"type": "string", "description": "the kind"},
        "data": {"type": "string", "description": "JSON: the event's data, with `at` and `attempt`"},
    },
}


class Event(BaseModel):
    model_config = ConfigDict(extra="forbid")
    id: int
    at: datetime
    attempt: int
    kind: str
    data: Json


class EventList(BaseModel):
    model_config = ConfigDict(extra="forbid")
    items: list[Event]


@router.get(
    "/v1/jobs/{job_id}/events",
    summary="Events of a job: a stream, or a list where application/json is asked for",
    responses={
        200: {
            "description": "Server-sent events until the job has ended; `id` is where to go on (`Last-Event-ID`)",
            "content": {
                "text/event-stream": {"schema": STREAMED},
                "application/json": {"schema": {"$ref": "#/components/schemas/EventList"}},
            },
        },
        **documented(problems.NotFound),
    },
)
async def get_events(
    service: InService,
    job_id: JobId,
    after: After = 0,
    last_event_id: Annotated[int | None, Header(ge=0, le=LAST_ID)] = None,
    accept: Annotated[str, Header(max_length=1000, include_in_schema=False)] = "",
) -> Response:
    """A list has up to 500 events: ask again with `after` = the last id. A stream has the event's kind as `event`."""
    await run_in_threadpool(poll, service.database, job_id)
    start = after if last_event_id is None else last_event_id
    if accept.partition(";")[0].split(",")[0].strip() == "application/json":
        rows = await run_in_threadpool(jobs.events, service.database, job_id, start, PAGE)
        return answer({"items": [_shown(row) for row in rows]})
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_stream(service, job_id, start), headers=headers, media_type="text/event-stream")


def _shown(row: RowMapping) -> Json:
    return {"at": row["at"].isoformat(), **{name: row[name] for name in ("id", "attempt", "kind", "data")}}


async def _stream(service: Service, id_: str, after: int) -> AsyncIterator[str]:
    yield ": niwaki\n\n"
    while True:
        # The row before its events: what it says is finished has its last event in the table.
        try:
            row = await run_in_threadpool(poll, service.database, id_)
        except problems.NotFound:  # deleted meanwhile
            return
        rows = await run_in_threadpool(jobs.events, service.database, id_, after, PAGE)
        for event in rows:
            after = event["id"]
            data = {**event["data"], "at": event["at"].isoformat(), "attempt": event["attempt"]}
            yield f"id: {after}\nevent: {event['kind']}\ndata: {json.dumps(data)}\n\n"
        if len(rows) == PAGE:
            continue
        if row["state"] in FINISHED:
            return
        while not await service.watch.changed(id_, row["version"], SILENCE_SECONDS):
            yield ": still here\n\n"
