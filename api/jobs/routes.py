"""`/v1/jobs`: submit, look, list, cancel, retry, delete."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request
from pydantic import Field
from starlette.background import BackgroundTask
from starlette.responses import Response

from api import problems
from api.answer import answer
from api.conditional import etag, matches
from api.jobs.body import JsonBody
from api.jobs.prediction import Prediction, predict
from api.jobs.row import LARGE, poll, shown
from api.jobs.schema import Job, JobPage, State
from api.jobs.submission import Order, check
from api.paging import PageQuery, page
from api.problems import documented
from api.service import InService, Service
from store import jobs
from store.jobs import NewJob, Submitted
from store.states import FINISHED, JobState
from store.tables import job

router = APIRouter(tags=["jobs"])

JobId = Annotated[str, Path(pattern=r"^job_[0-9A-Z]{26}$")]
Key = Annotated[str | None, Header(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]*$")]
LOCATION = {"Location": {"schema": {"type": "string"}, "description": "where the job is"}}
RETRY_SECONDS = "1"
IDS = {"model": "mdl_01M8000000000000000000000A", "dataset": "dst_01M8000000000000000000000B"}
EXAMPLES = {
    "prune and recover": {
        "summary": "A third of the MACs, in five rounds of prune and retrain, then fine-tuning",
        "value": {
            **IDS,
            "data": {"preprocess": {"x": {"scale": 1 / 255}}},
            "steps": [
                {"method": "prune.structured", "macs_ratio": 0.33, "rounds": 5, "finetune": {"epochs": 1}},
                {"method": "finetune", "training": {"epochs": 3}},
            ],
            "exports": ["onnx", "pt2"],
        },
    },
    "without data": {
        "summary": "Half of the parameters by weight magnitude, widths in multiples of 16, nothing retrained",
        "value": {
            "model": IDS["model"],
            "steps": [
                {
                    "method": "prune.structured",
                    "parameters_ratio": 0.5,
                    "importance": "magnitude",
                    "multiple_of": 16,
                    "finetune": None,
                }
            ],
        },
    },
}


class JobQuery(PageQuery):
    state: State | None = Field(None, description="only jobs in this state")
    model: str | None = Field(None, pattern=r"^(mdl|art)_[0-9A-Z]{26}$", description="only jobs on this model")


def _accepted(service: Service, id_: str, background: BackgroundTask | None = None) -> Response:
    return answer(shown(poll(service.database, id_)), 202, {"Location": f"/v1/jobs/{id_}"}, background=background)


def queue_order(service: Service, order: Order, *, key: str | None = None, retry_of: str | None = None) -> Submitted:
    """Queues the job; where `created`, ring for it. Raises JobInvalid or IdempotencyKeyReused."""
    spec = order.stored_spec
    new = NewJob(
        model_id=str(order.spec.model),
        dataset_id=order.spec.dataset,
        spec=spec,
        steps=[(step["method"], step) for step in spec["steps"]],
        max_attempts=service.settings.max_attempts,
        other_models=order.other_models,
        device=order.spec.device,
        name=order.spec.name,
        tags=order.spec.tags,
        idempotency_key=key,
        retry_of=retry_of,
    )
    try:
        made = jobs.submit(service.database, new)
    except jobs.Gone as error:
        raise problems.JobInvalid(f"{error} was deleted meanwhile") from error
    if not made.created and made.spec != spec:
        raise problems.IdempotencyKeyReused(f"{made.id} was made with this key, from another body")
    return made


@router.post(
    "/v1/jobs",
    status_code=202,
    summary="Submit a job, or try it out with dry_run",
    responses={
        200: {"model": Prediction, "description": "With `dry_run=true`: valid, and what it would come to"},
        202: {"model": Job, "headers": LOCATION},
        **documented(
            *(problems.BodyUnreadable, problems.BodyTooLarge, problems.MediaTypeUnsupported, problems.JobInvalid),
            *(problems.ModelRejected, problems.DatasetRejected, problems.MethodInapplicable),
            *(problems.IdempotencyKeyReused, problems.ModelNotReady, problems.DatasetNotReady),
        ),
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/JobSpec"}, "examples": EXAMPLES}},
        }
    },
)
def submit_job(
    service: InService,
    body: JsonBody,
    dry_run: Annotated[bool, Query(description="validate and predict, and queue nothing")] = False,
    idempotency_key: Key = None,
) -> Response:
    """Everything is checked against the model's inspection first; each fault is named by its JSON pointer."""
    order = check(service.database, body)
    if dry_run:
        return answer(predict(order))
    made = queue_order(service, order, key=idempotency_key)
    rings = service.ring_for_job(made.id, order.spec.device) if made.created else None
    return _accepted(service, made.id, rings)


@router.get("/v1/jobs", summary="List jobs", responses={200: {"model": JobPage}, **documented()})
def list_jobs(service: InService, query: Annotated[JobQuery, Query()]) -> Response:
    conditions = [] if query.state is None else [job.c.state == query.state]
    if query.model is not None:
        conditions.append(job.c.model_id == query.model)
    rows, following = page(service.database, job, LARGE, query, *conditions)
    return answer({"items": [shown(row) for row in rows], "next": following})


@router.get(
    "/v1/jobs/{job_id}",
    summary="A job: state, progress, steps, times",
    responses={
        200: {"model": Job, "headers": {"ETag": {"schema": {"type": "string"}}}},
        304: {"description": "Unchanged since the entity tag given"},
        **documented(problems.NotFound),
    },
    openapi_extra={
        "parameters": [
            {
                "name": "If-None-Match",
                "in": "header",
                "description": "the entity tag of the poll before",
                "schema": {"type": "string"},
            }
        ]
    },
)
def get_job(request: Request, job_id: JobId) -> Response:
    # Polls are most of the traffic: what FastAPI would hand over costs more than the SELECT.
    service: Service = request.app.state.service
    row = poll(service.database, job_id)
    headers = {"ETag": etag(row["version"])}
    if row["state"] not in FINISHED:
        headers["Retry-After"] = RETRY_SECONDS
    if matches(request.headers.get("if-none-match"), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return answer(shown(row), headers=headers)


@router.get(
    "/v1/jobs/{job_id}/spec",
    summary="The job's spec with every default spelt out: post it again for the same job",
    responses={
        200: {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/JobSpec"}}}},
        **documented(problems.NotFound),
    },
)
def get_spec(service: InService, job_id: JobId) -> Response:
    return answer(whole(service, job_id)["spec"])


def whole(service: Service, id_: str) -> Any:
    """The job's row with its spec and report, or NotFound."""
    row = jobs.find(service.database, id_)
    if row is None:
        raise problems.NotFound(f"no job has the id {id_}")
    return row


@router.post(
    "/v1/jobs/{job_id}/cancel",
    status_code=202,
    summary="Cancel a job; asking again changes nothing",
    responses={202: {"model": Job, "headers": LOCATION}, **documented(problems.NotFound, problems.JobFinished)},
)
def cancel_job(service: InService, job_id: JobId) -> Response:
    row = jobs.request_cancel(service.database, job_id)
    if row is None:
        raise problems.NotFound(f"no job has the id {job_id}")
    if row["state"] in FINISHED - {JobState.CANCELED}:
        raise problems.JobFinished(f"{job_id} has {row['state']}")
    return _accepted(service, job_id)


@router.post(
    "/v1/jobs/{job_id}/retry",
    status_code=202,
    summary="The same again, as a new job",
    responses={
        202: {"model": Job, "headers": LOCATION},
        **documented(
            *(problems.NotFound, problems.JobNotFinished, problems.JobInvalid, problems.ModelRejected),
            *(problems.DatasetRejected, problems.MethodInapplicable, problems.ModelNotReady, problems.DatasetNotReady),
        ),
    },
)
def retry_job(service: InService, job_id: JobId) -> Response:
    """Its model and dataset must still be there."""
    row = whole(service, job_id)
    if row["state"] not in FINISHED:
        raise problems.JobNotFinished(f"{job_id} is {row['state']}: cancel it first, or wait")
    order = check(service.database, row["spec"])
    made = queue_order(service, order, retry_of=job_id)
    return _accepted(service, made.id, service.ring_for_job(made.id, order.spec.device))


@router.delete(
    "/v1/jobs/{job_id}",
    status_code=204,
    summary="Delete a finished job with its artifacts, events and log",
    responses=documented(problems.NotFound, problems.JobNotFinished, problems.InUseByJob),
)
def delete_job(service: InService, job_id: JobId) -> Response:
    row = poll(service.database, job_id)
    if row["state"] not in FINISHED:
        raise problems.JobNotFinished(f"{job_id} is {row['state']}: cancel it first, or wait")
    if not jobs.remove(service.database, service.objects, job_id):
        raise problems.NotFound(f"no job has the id {job_id}")
    return Response(status_code=204)
