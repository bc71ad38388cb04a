"""Jobs as the API sees them: submit, read, cancel, delete. Reads are single SELECTs, compiled once, without an ORM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, RowMapping, Table, bindparam, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from store.clock import now
from store.database import Database
from store.identity import new_id
from store.objects import Objects
from store.states import FINISHED, JobState
from store.tables import DEFAULT_WORKSPACE, artifact, dataset, event, job, job_model, model, step
from store.uploads import InUse, uses_models

Json = dict[str, Any]


@dataclass(frozen=True)
class NewJob:
    """What a submission says; `steps`: (method, config) in order. `device`: auto, cpu or gpu. `other_models`: ids of
    the models and artifacts that the steps name."""

    model_id: str
    dataset_id: str | None
    spec: Json
    steps: Sequence[tuple[str, Json]]
    max_attempts: int
    device: str = "auto"
    name: str | None = None
    tags: Sequence[str] = ()
    idempotency_key: str | None = None
    retry_of: str | None = None
    parent_id: str | None = None
    other_models: Sequence[str] = ()
    workspace: str = field(default=DEFAULT_WORKSPACE)


@dataclass(frozen=True)
class Submitted:
    """`created` is false where the idempotency key had made this job before: compare its spec, and don't ring."""

    id: str
    created: bool
    spec: Json


class Gone(Exception):
    """The model, artifact or dataset isn't there any more; the argument is its id."""


def submit(database: Database, new: NewJob) -> Submitted:
    """Queues a job. Ring for it afterwards (`doorbell.job_rings`): its `rung_at` already says so. Raises Gone."""
    id_ = new_id("job")
    with database.write() as connection:
        insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
        values = {
            "id": id_,
            "workspace_id": new.workspace,
            "name": new.name,
            "tags": list(new.tags),
            "idempotency_key": new.idempotency_key,
            "retry_of": new.retry_of,
            "parent_id": new.parent_id,
            "model_id": new.model_id,
            "dataset_id": new.dataset_id,
            "spec": new.spec,
            "device": new.device,
            "max_attempts": new.max_attempts,
            "rung_at": now(),
        }
        made = connection.execute(
            insert(job)
            .values(**values)
            .on_conflict_do_nothing(index_elements=[job.c.workspace_id, job.c.idempotency_key])
            .returning(job.c.id)
        ).one_or_none()
        if made is None:
            before = connection.execute(
                select(job.c.id, job.c.spec).where(
                    job.c.workspace_id == new.workspace, job.c.idempotency_key == new.idempotency_key
                )
            ).one()
            return Submitted(before.id, created=False, spec=before.spec)
        others = sorted(set(new.other_models) - {new.model_id})
        for needed in (new.model_id, *others):
            _hold(connection, artifact if needed.startswith("art_") else model, needed)
        if new.dataset_id is not None:
            _hold(connection, dataset, new.dataset_id)
        common = {"job_id": id_, "workspace_id": new.workspace}
        if others:
            connection.execute(job_model.insert(), [{**common, "model_id": needed} for needed in others])
        if new.steps:
            connection.execute(
                step.insert(),
                [
                    {**common, "index": index, "method": method, "config": config}
                    for index, (method, config) in enumerate(new.steps)
                ],
            )
        connection.execute(event.insert().values(**common, attempt=0, kind="state", data={"state": JobState.QUEUED}))
    return Submitted(id_, created=True, spec=new.spec)


def _hold(connection: Connection, table: Table, id_: str) -> None:
    """Keeps a row from being deleted until the job that needs it is committed; deletions look for such jobs."""
    row = select(table.c.id).where(table.c.id == id_).with_for_update(read=True, key_share=True)
    if connection.execute(row).one_or_none() is None:
        raise Gone(id_)


_FIND = select(job).where(job.c.id == bindparam("id"), job.c.workspace_id == bindparam("workspace"))
_STEPS = select(step).where(step.c.job_id == bindparam("id")).order_by(step.c.index)
_MODELS = select(job_model.c.model_id).where(job_model.c.job_id == bindparam("id")).order_by(job_model.c.model_id)
_ARTIFACTS = select(artifact).where(artifact.c.job_id == bindparam("id")).order_by(artifact.c.name)
_ARTIFACT = select(artifact).where(artifact.c.id == bindparam("id"), artifact.c.workspace_id == bindparam("workspace"))
_EVENTS = (
    select(event)
    .where(event.c.job_id == bindparam("id"), event.c.id > bindparam("after"))
    .order_by(event.c.id)
    .limit(bindparam("limit"))
)


def find(database: Database, id_: str, workspace: str = DEFAULT_WORKSPACE) -> RowMapping | None:
    """The job's row by column name, or None: one SELECT by primary key, the status poll."""
    with database.read() as connection:
        return connection.execute(_FIND, {"id": id_, "workspace": workspace}).mappings().one_or_none()


def steps(database: Database, id_: str) -> Sequence[RowMapping]:
    """The job's steps in order."""
    with database.read() as connection:
        return connection.execute(_STEPS, {"id": id_}).mappings().all()


def other_models(database: Database, id_: str) -> Sequence[str]:
    """Ids of the models and artifacts that the job's steps name beside its own model."""
    with database.read() as connection:
        return connection.execute(_MODELS, {"id": id_}).scalars().all()


def artifacts(database: Database, id_: str) -> Sequence[RowMapping]:
    """What the job published, by name."""
    with database.read() as connection:
        return connection.execute(_ARTIFACTS, {"id": id_}).mappings().all()


def find_artifact(database: Database, id_: str, workspace: str = DEFAULT_WORKSPACE) -> RowMapping | None:
    """One artifact, or None."""
    with database.read() as connection:
        return connection.execute(_ARTIFACT, {"id": id_, "workspace": workspace}).mappings().one_or_none()


def events(database: Database, id_: str, after: int = 0, limit: int = 500) -> Sequence[RowMapping]:
    """The job's events whose id is above `after`, oldest first."""
    with database.read() as connection:
        return connection.execute(_EVENTS, {"id": id_, "after": after, "limit": limit}).mappings().all()


def listed(
    database: Database,
    *,
    limit: int,
    before: str | None = None,
    state: str | None = None,
    workspace: str = DEFAULT_WORKSPACE,
) -> Sequence[RowMapping]:
    """The newest jobs first; `before`: the last id of the page before."""
    query = select(job).where(job.c.workspace_id == workspace).order_by(job.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(job.c.id < before)
    if state is not None:
        query = query.where(job.c.state == state)
    with database.read() as connection:
        return connection.execute(query).mappings().all()


def request_cancel(database: Database, id_: str, workspace: str = DEFAULT_WORKSPACE) -> RowMapping | None:
    """The job's row afterwards, or None: a queued job is canceled at once, a running one told to stop, others stay."""
    mine = (job.c.id == id_, job.c.workspace_id == workspace)
    with database.write() as connection:
        # Locked first: a claim in between would slip past both updates below.
        row = connection.execute(select(job).where(*mine).with_for_update()).mappings().one_or_none()
        if row is None:
            return None
        change: Json = {}
        if row.state == JobState.QUEUED:
            change = {"state": JobState.CANCELED, "cancel_requested": True, "finished_at": now()}
        elif row.state == JobState.RUNNING and not row.cancel_requested:
            change = {"cancel_requested": True}
        if not change:
            return row
        data = {"state": change["state"]} if "state" in change else {}
        connection.execute(
            event.insert().values(
                job_id=id_,
                workspace_id=workspace,
                attempt=row.attempt,
                kind="state" if data else "cancel_requested",
                data=data,
            )
        )
        changed = update(job).where(*mine).values(**change, version=job.c.version + 1).returning(job)
        return connection.execute(changed).mappings().one()


def remove(database: Database, objects: Objects, id_: str, workspace: str = DEFAULT_WORKSPACE) -> bool:
    """Deletes a finished job with its steps, events, artifacts and their bytes; False where there is none.

    Raises InUse with the id of the job in the way: itself, not finished, or one that was given one of its artifacts.
    """
    with database.write() as connection:
        mine = (job.c.id == id_, job.c.workspace_id == workspace)
        state = connection.execute(select(job.c.state).where(*mine).with_for_update()).scalar()
        if state is None:
            return False
        if state not in FINISHED:
            raise InUse(id_)
        connection.execute(select(artifact.c.id).where(artifact.c.job_id == id_).with_for_update())
        made = uses_models(select(artifact.c.id).where(artifact.c.job_id == id_))
        blocked = connection.execute(select(job.c.id).where(made, job.c.state.not_in(FINISHED)).limit(1)).scalar()
        if blocked is not None:
            raise InUse(blocked)
        connection.execute(delete(job).where(*mine))
    objects.delete_all(f"jobs/{id_}")
    return True
