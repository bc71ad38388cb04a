"""`/upload`: two forms, for a model and for data, whose files are streamed to the object store as they come.

Without a script they are plain forms. With one, `upload.js` asks this page what is wrong with the fields, and sends the
file itself to `/v1`, to show how far it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from api.pages.site import go, page
from api.pages.upload_fields import FACTS, Filled, facts_of, filled
from api.problems import Problem
from api.service import InService, Service
from api.translation import translate
from api.uploads.incoming import Incoming
from api.uploads.routes import add
from compression.zoo.catalog import ARCHITECTURES
from store.doorbell import upload_ring
from store.leases import UploadKind
from store.objects import UploadTooLarge
from store.uploads import BlobVanished

router = APIRouter(include_in_schema=False)
KINDS: tuple[UploadKind, ...] = get_args(UploadKind)


@router.get("/upload")
def upload_page(service: InService, request: Request) -> Response:
    """`form` names the form whose fields are in the address, to choose an architecture or to have them looked at."""
    posted: dict[str, list[str]] = {}
    for name, value in request.query_params.multi_items():
        posted.setdefault(name, []).append(value)
    asked = posted.get("form", [""])[-1]
    return _show(service, {kind: filled(kind, posted) if kind == asked else Filled(kind) for kind in KINDS})


@router.post("/upload/model")
async def upload_model(service: InService, request: Request) -> Response:
    return await _receive(service, request, "model")


@router.post("/upload/dataset")
async def upload_dataset(service: InService, request: Request) -> Response:
    return await _receive(service, request, "dataset")


async def _receive(service: Service, request: Request, kind: UploadKind) -> Response:
    incoming = Incoming(request, FACTS[kind](), facts_of)
    try:
        received = await incoming.receive(service.objects, service.settings.max_upload_bytes)
        id_, _ = await run_in_threadpool(add, service, kind, received)
    except (Problem, UploadTooLarge, BlobVanished) as error:
        # The connection stays open: a browser reads the answer only when it has sent its whole form.
        problem = translate(error)
        forms = {each: filled(kind, incoming.fields, problem) if each == kind else Filled(each) for each in KINDS}
        return _show(service, forms, problem)
    return go(f"/{kind}s/{id_}", background=service.ring_later([upload_ring(kind, id_)]))


def _show(service: Service, forms: Mapping[UploadKind, Filled], problem: Problem | None = None) -> Response:
    return page(
        "upload.html",
        status=200 if problem is None else problem.status,
        here="/upload",
        forms=forms,
        problem=problem,
        architectures={name: known.summary for name, known in ARCHITECTURES.items()},
        limit=service.settings.max_upload_bytes,
    )
