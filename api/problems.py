"""Errors as RFC 9457 problems: typed, each with its status and a stable type, and rendered in one place.

Problem                     status  type
├── RequestInvalid          422     request-invalid        a parameter or field is wrong; `errors` names each
├── JobInvalid              422     job-invalid            the job's spec can't be run; `errors` names each fault
├── ModelRejected           422     model-rejected         the inspection refused the model
├── DatasetRejected         422     dataset-rejected       the inspection refused the dataset
├── MethodInapplicable      422     method-inapplicable    a step can't run on this model
├── IdempotencyKeyReused    422     idempotency-key-reused the key came with another body before
├── BodyUnreadable          400     body-unreadable        not JSON, or not a form
├── UploadIncomplete        400     upload-incomplete      the body ended before its end
├── UploadEmpty             400     upload-empty           no bytes came
├── FromAnotherSite         403     from-another-site      a browser sent it for another site's page
├── NotFound                404     not-found
├── NotYet                  404     not-yet                it exists only when the job has succeeded
├── MethodNotAllowed        405     method-not-allowed
├── ModelNotReady           409     model-not-ready        still being inspected: try again
├── DatasetNotReady         409     dataset-not-ready      still being inspected: try again
├── JobNotFinished          409     job-not-finished
├── JobFinished             409     job-finished           there is nothing left to cancel
├── InUseByJob              409     in-use                 a job that isn't finished needs it
├── UploadAgain             409     upload-again           the same bytes were deleted meanwhile
├── BodyTooLarge            413     body-too-large
├── MediaTypeUnsupported    415     media-type-unsupported
├── RangeUnsatisfiable      416     range-unsatisfiable
├── Unexpected              500     unexpected             our fault; it is in the service's log
└── Unavailable             503     unavailable            the database or the object store is away
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from api.answer import answer

MEDIA_TYPE = "application/problem+json"
Fault = dict[str, str]


def pointer(*parts: str | int) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def fault(pointer: str, detail: str, where: str = "body") -> Fault:
    """One thing that is wrong: a JSON pointer into the body, or a parameter's name behind a slash."""
    return {"in": where, "pointer": pointer, "detail": detail}


class Problem(Exception):
    status = 500
    slug = "unexpected"
    title = "Something went wrong here"

    def __init__(self, detail: str, errors: Sequence[Fault] = (), headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = list(errors)
        self.headers = dict(headers or {})

    def render(self) -> Response:
        body: dict[str, Any] = {
            "type": f"/problems/{self.slug}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "errors": self.errors,
        }
        return answer(body, self.status, self.headers, media_type=MEDIA_TYPE)


class RequestInvalid(Problem):
    status, slug, title = 422, "request-invalid", "A parameter or field is wrong"


class JobInvalid(Problem):
    status, slug, title = 422, "job-invalid", "The job can't be run as it is described"


class ModelRejected(Problem):
    status, slug, title = 422, "model-rejected", "The model was refused by its inspection"


class DatasetRejected(Problem):
    status, slug, title = 422, "dataset-rejected", "The dataset was refused by its inspection"


class MethodInapplicable(Problem):
    status, slug, title = 422, "method-inapplicable", "A step can't run on this model"


class IdempotencyKeyReused(Problem):
    status, slug, title = 422, "idempotency-key-reused", "The idempotency key came with another body before"


class BodyUnreadable(Problem):
    status, slug, title = 400, "body-unreadable", "The body can't be read"


class UploadIncomplete(Problem):
    status, slug, title = 400, "upload-incomplete", "The upload ended before its end"


class UploadEmpty(Problem):
    status, slug, title = 400, "upload-empty", "The upload has no bytes"


class FromAnotherSite(Problem):
    status, slug, title = 403, "from-another-site", "Another site's page sent this request"


class NotFound(Problem):
    status, slug, title = 404, "not-found", "There is nothing here"


class NotYet(Problem):
    status, slug, title = 404, "not-yet", "It exists only when the job has succeeded"


class MethodNotAllowed(Problem):
    status, slug, title = 405, "method-not-allowed", "The address doesn't take this HTTP method"


class ModelNotReady(Problem):
    status, slug, title = 409, "model-not-ready", "The model is still being inspected"


class DatasetNotReady(Problem):
    status, slug, title = 409, "dataset-not-ready", "The dataset is still being inspected"


class JobNotFinished(Problem):
    status, slug, title = 409, "job-not-finished", "The job isn't finished"


class JobFinished(Problem):
    status, slug, title = 409, "job-finished", "The job is finished already"


class InUseByJob(Problem):
    status, slug, title = 409, "in-use", "A job that isn't finished needs it"


class UploadAgain(Problem):
    status, slug, title = 409, "upload-again", "The same bytes were deleted while they were uploaded"


class BodyTooLarge(Problem):
    status, slug, title = 413, "body-too-large", "The body is larger than allowed"


class MediaTypeUnsupported(Problem):
    status, slug, title = 415, "media-type-unsupported", "The body's type isn't one that this address takes"


class RangeUnsatisfiable(Problem):
    status, slug, title = 416, "range-unsatisfiable", "The file doesn't reach that far"


class Unexpected(Problem):
    pass


class Unavailable(Problem):
    status, slug, title = 503, "unavailable", "Something that the service needs is away"


def every_problem() -> list[type[Problem]]:
    """All types, by status and then as listed above."""
    return sorted(Problem.__subclasses__(), key=lambda problem: problem.status)


class FaultBody(BaseModel):
    model_config = ConfigDict(extra="forbid", title="Fault")
    in_: str = Field(alias="in", description="body, form, query, header or path")
    pointer: str = Field(description="JSON pointer into the body, or the parameter's name behind a slash")
    detail: str


class ProblemBody(BaseModel):
    """RFC 9457."""

    model_config = ConfigDict(extra="forbid", title="Problem")
    type: str = Field(examples=["/problems/model-not-ready"], description="stable: what programs go by")
    title: str
    status: int
    detail: str = Field(description="what happened here, for people")
    errors: list[FaultBody]


def documented(*problems: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """FastAPI's `responses` for an operation that can answer with these problems."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    by_status: dict[int | str, dict[str, Any]] = {}
    kinds: tuple[type[Problem], ...] = (RequestInvalid, *problems, Unavailable)
    for problem in kinds:
        said = f"{problem.title} (`{problem.slug}`)"
        if problem.status in by_status:
            said = f"{by_status[problem.status]['description']}; {said}"
        by_status[problem.status] = {"description": said, "content": content}
    return by_status
