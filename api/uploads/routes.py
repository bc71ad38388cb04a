"""`/v1/models` and `/v1/datasets`: upload, look, list, delete."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from api import problems
from api.answer import answer
from api.paging import PageQuery, page
from api.problems import documented
from api.service import InService, Service
from api.uploads.facts import DatasetFacts, ModelFacts, architecture_of
from api.uploads.incoming import Incoming, Received
from api.uploads.schema import Dataset, Model, State, UploadPage, shown
from store import uploads
from store.doorbell import upload_ring
from store.leases import UPLOADS, UploadKind

router = APIRouter()

ModelId = Annotated[str, Path(pattern=r"^mdl_[0-9A-Z]{26}$")]
DatasetId = Annotated[str, Path(pattern=r"^dst_[0-9A-Z]{26}$")]
UPLOAD_PROBLEMS = documented(
    *(problems.BodyUnreadable, problems.UploadIncomplete, problems.UploadEmpty, problems.UploadAgain),
    problems.BodyTooLarge,
)
LOCATION = {"Location": {"schema": {"type": "string"}, "description": "where the new row is"}}
BINARY = {"schema": {"type": "string", "format": "binary"}}


def _body(facts: type[BaseModel]) -> dict[str, Any]:
    """The request body for OpenAPI: any bytes, or a form with the same facts as the query."""
    fields = {**facts.model_json_schema()["properties"], "file": {"type": "string", "format": "binary"}}
    form = {"schema": {"type": "object", "properties": fields, "required": ["file"], "additionalProperties": False}}
    content = {"application/octet-stream": BINARY, "multipart/form-data": form}
    return {"requestBody": {"required": True, "content": content}}


class UploadQuery(PageQuery):
    state: State | None = Field(None, description="only rows in this state")


async def _upload(service: Service, request: Request, kind: UploadKind, facts: DatasetFacts) -> Response:
    received = await Incoming(request, facts).receive(service.objects, service.settings.max_upload_bytes)
    id_, body = await run_in_threadpool(add, service, kind, received)
    headers = {"Location": f"/v1/{kind}s/{id_}"}
    return answer(body, 201, headers, background=service.ring_later([upload_ring(kind, id_)]))


def add(service: Service, kind: UploadKind, received: Received) -> tuple[str, dict[str, Any]]:
    """The new row's id, and the row as it is shown. Ring for it afterwards."""
    facts = received.facts
    filename = facts.filename or kind
    id_ = uploads.add(
        *(service.database, service.objects, kind, received.stored),
        name=facts.name or filename,
        filename=filename,
        tags=facts.tag,
        architecture=architecture_of(facts),
    )
    return id_, shown(whole(service, kind, id_))


def whole(service: Service, kind: UploadKind, id_: str) -> Any:
    """The upload's row, or NotFound."""
    row = uploads.find(service.database, kind, id_)
    if row is None:
        raise problems.NotFound(f"no {kind} has the id {id_}")
    return row


def _look(service: Service, kind: UploadKind, id_: str) -> Response:
    body = shown(whole(service, kind, id_))
    return answer(body, headers={"Retry-After": "1"} if body["state"] == "inspecting" else None)


def _list(service: Service, kind: UploadKind, query: UploadQuery) -> Response:
    table = UPLOADS[kind]
    conditions = [] if query.state is None else [table.c.state == query.state]
    rows, following = page(service.database, table, frozenset({"inspection"}), query, *conditions)
    return answer({"items": [shown(row) for row in rows], "next": following})


def _remove(service: Service, kind: UploadKind, id_: str) -> Response:
    if not uploads.remove(service.database, service.objects, kind, id_):
        raise problems.NotFound(f"no {kind} has the id {id_}")
    return Response(status_code=204)


@router.post(
    "/v1/models",
    status_code=201,
    responses={201: {"model": Model, "headers": LOCATION}, **UPLOAD_PROBLEMS},
    openapi_extra=_body(ModelFacts),
    tags=["models"],
    summary="Upload a model",
)
async def upload_model(service: InService, request: Request, facts: Annotated[ModelFacts, Query()]) -> Response:
    """A `.pt2`, an `.onnx`, or a `.safetensors` with its architecture: the raw body, or a form's part `file`.

    It is inspected at once: look at the row until its state is `ready` or `rejected`.
    """
    return await _upload(service, request, "model", facts)


@router.post(
    "/v1/datasets",
    status_code=201,
    responses={201: {"model": Dataset, "headers": LOCATION}, **UPLOAD_PROBLEMS},
    openapi_extra=_body(DatasetFacts),
    tags=["datasets"],
    summary="Upload a dataset",
)
async def upload_dataset(service: InService, request: Request, facts: Annotated[DatasetFacts, Query()]) -> Response:
    """Arrays in a `.npz` or `.safetensors` file, named as the network's inputs, and `y` for labels; or a zip of
    images in class folders.

    It is inspected at once: look at the row until its state is `ready` or `rejected`.
    """
    return await _upload(service, request, "dataset", facts)


@router.get(
    "/v1/models", responses={200: {"model": UploadPage}, **documented()}, tags=["models"], summary="List models"
)
def list_models(service: InService, query: Annotated[UploadQuery, Query()]) -> Response:
    return _list(service, "model", query)


@router.get(
    "/v1/datasets", responses={200: {"model": UploadPage}, **documented()}, tags=["datasets"], summary="List datasets"
)
def list_datasets(service: InService, query: Annotated[UploadQuery, Query()]) -> Response:
    return _list(service, "dataset", query)


@router.get(
    "/v1/models/{model_id}",
    responses={200: {"model": Model}, **documented(problems.NotFound)},
    tags=["models"],
    summary="A model: layers, costs, and what can be done with it",
)
def get_model(service: InService, model_id: ModelId) -> Response:
    return _look(service, "model", model_id)


@router.get(
    "/v1/datasets/{dataset_id}",
    responses={200: {"model": Dataset}, **documented(problems.NotFound)},
    tags=["datasets"],
    summary="A dataset and what is in it",
)
def get_dataset(service: InService, dataset_id: DatasetId) -> Response:
    return _look(service, "dataset", dataset_id)


@router.delete(
    "/v1/models/{model_id}",
    status_code=204,
    responses=documented(problems.NotFound, problems.InUseByJob),
    tags=["models"],
    summary="Delete a model, and its bytes where nothing else has them",
)
def delete_model(service: InService, model_id: ModelId) -> Response:
    return _remove(service, "model", model_id)


@router.delete(
    "/v1/datasets/{dataset_id}",
    status_code=204,
    responses=documented(problems.NotFound, problems.InUseByJob),
    tags=["datasets"],
    summary="Delete a dataset, and its bytes where nothing else has them",
)
def delete_dataset(service: InService, dataset_id: DatasetId) -> Response:
    return _remove(service, "dataset", dataset_id)
