"""What jobs published: figures about each file, its bytes, all as one zip; the report; the log."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Header, Path, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import RowMapping
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from api import problems
from api.answer import answer
from api.artifacts.archive import zip_stream
from api.artifacts.ranges import parse_range
from api.conditional import etag, matches
from api.jobs.routes import JobId, whole
from api.jobs.row import poll
from api.problems import documented
from api.service import InService, Service
from store import jobs
from store.objects import ObjectMissing

Json = dict[str, Any]
router = APIRouter(tags=["artifacts"])
ArtifactId = Annotated[str, Path(pattern=r"^art_[0-9A-Z]{26}$")]
OneHeader = Annotated[str | None, Header(max_length=4096)]
ANY_BYTES = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}


class Artifact(BaseModel):
    model_config = ConfigDict(extra="forbid")
    id: str
    name: str
    media_type: str
    size: int = Field(description="bytes")
    sha256: str
    job: str = Field(description="that made it")
    source_model: str = Field(description="model or artifact that it was made from: follow it for the lineage")
    inspection: Json | None = Field(description="as a model's, where the file is one")
    created_at: datetime


class ArtifactList(BaseModel):
    model_config = ConfigDict(extra="forbid")
    items: list[Artifact]


def _shown(row: RowMapping) -> Json:
    seen = {name: row[name] for name in ("id", "name", "media_type", "size", "sha256", "inspection")}
    return {
        **seen,
        "job": row["job_id"],
        "source_model": row["source_model_id"],
        "created_at": row["created_at"].isoformat(),
    }


def _find(service: Service, id_: str) -> RowMapping:
    row = jobs.find_artifact(service.database, id_)
    if row is None:
        raise problems.NotFound(f"no artifact has the id {id_}")
    return row


@router.get(
    "/v1/artifacts/{artifact_id}",
    summary="An artifact and where it comes from",
    responses={200: {"model": Artifact}, **documented(problems.NotFound)},
)
def get_artifact(service: InService, artifact_id: ArtifactId) -> Response:
    return answer(_shown(_find(service, artifact_id)))


@router.get(
    "/v1/artifacts/{artifact_id}/content",
    summary="An artifact's bytes, or a range of them",
    responses={
        200: {"description": "The whole file", **ANY_BYTES},
        206: {"description": "The range asked for", **ANY_BYTES},
        304: {"description": "The file is the one whose entity tag (SHA-256) was given"},
        **documented(problems.NotFound, problems.RangeUnsatisfiable),
    },
)
@router.head("/v1/artifacts/{artifact_id}/content", include_in_schema=False)
async def get_content(
    service: InService,
    request: Request,
    artifact_id: ArtifactId,
    range_: Annotated[str | None, Header(alias="Range", max_length=4096)] = None,
    if_none_match: OneHeader = None,
    if_range: OneHeader = None,
) -> Response:
    """The file is sent as a download under its own name; several ranges at once get the whole file."""
    row = await run_in_threadpool(_find, service, artifact_id)
    tag = etag(row["sha256"])
    headers = {
        "ETag": tag,
        "Accept-Ranges": "bytes",
        "X-Content-Type-Options": "nosniff",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(row['name'], safe='')}",
    }
    if matches(if_none_match, tag):
        return Response(status_code=304, headers=headers)
    part = parse_range(range_, row["size"]) if request.method == "GET" and if_range in {None, tag} else None
    start, end = part or (0, row["size"])
    headers |= {"Content-Length": str(end - start), "Content-Type": row["media_type"]}
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{row['size']}"
    if request.method == "HEAD":
        return Response(headers=headers)
    stream = await (service.objects.stream(row["key"], start, end) if part else service.objects.stream(row["key"]))
    return StreamingResponse(stream, 206 if part else 200, headers)


@router.get(
    "/v1/jobs/{job_id}/artifacts",
    summary="What a job published",
    responses={200: {"model": ArtifactList}, **documented(problems.NotFound)},
)
def list_artifacts(service: InService, job_id: JobId) -> Response:
    poll(service.database, job_id)
    return answer({"items": [_shown(row) for row in jobs.artifacts(service.database, job_id)]})


@router.get(
    "/v1/jobs/{job_id}/artifacts.zip",
    summary="All that a job published, as one zip",
    responses={
        200: {
            "description": "An uncompressed zip",
            "content": {"application/zip": ANY_BYTES["content"]["application/octet-stream"]},
        },
        **documented(problems.NotFound, problems.NotYet),
    },
)
def get_zip(service: InService, job_id: JobId) -> Response:
    row = poll(service.database, job_id)
    found = jobs.artifacts(service.database, job_id)
    if not found:
        raise problems.NotYet(f"{job_id} is {row['state']} and has published nothing")
    headers = {"Content-Disposition": f'attachment; filename="{job_id}.zip"'}
    return StreamingResponse(zip_stream(service.objects, found), headers=headers, media_type="application/zip")


@router.get(
    "/v1/jobs/{job_id}/report",
    summary="A job's report: JSON, or Markdown where text/markdown is asked for",
    responses={
        200: {
            "description": "The figures before and after, and how they were taken",
            "content": {
                "application/json": {"schema": {"type": "object"}},
                "text/markdown": {"schema": {"type": "string"}},
            },
        },
        **documented(problems.NotFound, problems.NotYet),
    },
)
async def get_report(
    service: InService, job_id: JobId, accept: Annotated[str, Header(max_length=1000, include_in_schema=False)] = ""
) -> Response:
    row = await run_in_threadpool(whole, service, job_id)
    if row["report"] is None:
        raise problems.NotYet(f"{job_id} is {row['state']}: a report comes with success")
    if "text/markdown" not in accept:
        return answer(row["report"])
    for artifact in await run_in_threadpool(jobs.artifacts, service.database, job_id):
        if artifact["name"] == "report.md":
            stream = await service.objects.stream(artifact["key"])
            return StreamingResponse(stream, media_type="text/markdown; charset=utf-8")
    raise problems.NotFound(f"{job_id} published no report.md")


@router.get(
    "/v1/jobs/{job_id}/log",
    summary="What the engine wrote, as far as the worker has kept it; empty before that",
    responses={
        200: {"description": "Text", "content": {"text/plain": {"schema": {"type": "string"}}}},
        **documented(problems.NotFound),
    },
)
async def get_log(service: InService, job_id: JobId) -> Response:
    await run_in_threadpool(poll, service.database, job_id)
    try:
        stream = await service.objects.stream(f"jobs/{job_id}/log")
    except ObjectMissing:
        return Response(media_type="text/plain; charset=utf-8")
    headers = {"X-Content-Type-Options": "nosniff"}
    return StreamingResponse(stream, headers=headers, media_type="text/plain; charset=utf-8")
