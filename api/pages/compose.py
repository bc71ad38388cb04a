"""`/jobs/new`: a job is put together here, and queued.

The page is one form. Each button posts all of it with what it is to do (`do`), and the answer is the page anew: so it
works without a script, and a script needs no more than to fetch the same. The document that the fields say is the whole
state. Beside it are posted `key` (one job a form, however often it is sent), `asked` (the faults have been asked for),
and `json` with the digest of what was put there (`json_made`): a text changed there is neither lost nor taken unasked.

    do = live | check | submit | json | discard | one of `compose_edits`
"""

from __future__ import annotations

import re
import uuid
from dataclasses import replace
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from api import problems
from api.jobs.routes import queue_order, whole
from api.pages.compose_edits import JOB, SCHEMA, edited
from api.pages.compose_page import Draft, compose_page, json_digest, judged
from api.pages.json_text import Unreadable, parsed
from api.pages.schema_node import completed
from api.pages.schema_read import Posted, read, unread
from api.pages.site import go
from api.paging import PRINTABLE
from api.problems import fault
from api.service import InService, Service

router = APIRouter(include_in_schema=False)
Json = dict[str, Any]

MAX_BYTES, MAX_FIELDS = 8 * 1024**2, 50_000
_KEY = re.compile(r"[0-9a-f]{32}")
JSON_ID = "json"
Id = Annotated[str | None, Query(max_length=64, pattern=PRINTABLE)]


async def _posted(request: Request) -> Posted:
    """The form's fields, with bounds."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BYTES:
            raise problems.BodyTooLarge(f"the form has at most {MAX_BYTES} bytes", headers={"Connection": "close"})
    try:
        return parse_qs(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError as error:
        raise problems.BodyUnreadable(f"not a form: {error}") from error


@router.get("/jobs/new")
def compose(service: InService, model: Id = None, dataset: Id = None, preset: Id = None, like: Id = None) -> Response:
    """A fresh form: with a model, with data, with a preset's steps, or like an earlier job."""
    document: Json = {"steps": []}
    if like:
        document = dict(whole(service, like)["spec"])
    document |= {name: given for name, given in (("model", model), ("dataset", dataset)) if given}
    document = completed(JOB, document)
    if preset:
        document, _ = edited(document, f"preset:{preset}")
    draft = Draft(document, _new_key(), like=like or "")
    return compose_page(service, draft, judged(service, draft))


@router.post("/jobs/new")
def composed(service: InService, posted: Annotated[Posted, Depends(_posted)]) -> Response:
    """What the button that was pressed does."""
    do = _last(posted, "do") or "check"
    draft = _draft(posted, do)
    if do == "submit":
        return _submitted(service, draft)
    if do == "json":
        draft = _from_json(draft, _last(posted, "json"))
    elif do not in {"live", "check", "discard"}:
        document, focus = edited(draft.document, do)
        # What was in a group that is off is known by its place, which may be another now.
        draft = replace(draft, document=document, focus=focus, faults=list(unread(JOB, document)), off={})
    return compose_page(service, draft, judged(service, draft))


def _last(posted: Posted, name: str) -> str:
    return posted.get(name, [""])[-1]


def _new_key() -> str:
    return uuid.uuid4().hex


def _draft(posted: Posted, do: str) -> Draft:
    """As the fields say; JSON that was changed and not used stays as it was written."""
    reading = read(SCHEMA, posted)
    document = reading.document if isinstance(reading.document, dict) else {}
    key, text = _last(posted, "key"), _last(posted, "json").replace("\r\n", "\n")
    changed = "json" in posted and json_digest(text) != _last(posted, "json_made")
    return Draft(
        completed(JOB, {"steps": []} | document),
        key if _KEY.fullmatch(key) else _new_key(),
        faults=reading.faults,
        off=reading.off,
        asked=do in {"check", "submit"} or bool(_last(posted, "asked")),
        written=text if changed and do != "discard" else None,
        like=_last(posted, "like"),
    )


def _from_json(draft: Draft, text: str) -> Draft:
    """The form filled with what the JSON says, or the JSON with what is wrong with it."""
    try:
        document = parsed(text)
    except Unreadable as error:
        return replace(draft, written=text, written_fault=str(error), focus=JSON_ID)
    if not isinstance(document, dict):
        return replace(draft, written=text, written_fault="a job is an object: { … }", focus=JSON_ID)
    document = completed(JOB, {"steps": []} | document)
    faults = list(unread(JOB, document))
    return replace(draft, document=document, faults=faults, off={}, written=None, asked=True, focus=JSON_ID)


def _submitted(service: Service, draft: Draft) -> Response:
    """The job's page, or this one with what stands in the way."""
    if draft.written is not None:
        draft = replace(draft, written_fault="it was changed and isn't used yet: use it, or discard the change")
    found = judged(service, draft)
    if found.order is None or draft.written is not None:
        return compose_page(service, draft, found, status=422)
    try:
        made = queue_order(service, found.order, key=f"form:{draft.key}")
    except problems.IdempotencyKeyReused as error:
        notice = f"{error.detail.partition(' ')[0]} was queued from this form before, as it was then."
        again = replace(draft, key=_new_key(), notice=f"{notice} Queue once more for a second job.")
        return compose_page(service, again, found, status=409)
    except problems.JobInvalid as error:  # the model or data was deleted while it was looked at
        gone = replace(found, order=None, faults=[fault("", error.detail)])
        return compose_page(service, draft, gone, status=422)
    return go(f"/jobs/{made.id}", service.ring_for_job(made.id, found.order.spec.device) if made.created else None)
