"""Leases: a row is worked on by one worker at a time, by the database's clock alone.

`claim_job` and `claim_upload` take a row that waits, or whose worker's lease ran out, and count the attempt. Whoever
holds a lease writes under its *fence*: every write says "and it is still my attempt", and raises `LeaseLost` if not.
What ends a lease is in `store/outcomes.py`; what becomes of one that ran out, in `store/sweep.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Row, Table, and_, func, or_, select, update

from store.clock import from_now, now
from store.database import Database
from store.states import Action, JobState, UploadState, sources
from store.tables import dataset, event, job, model, step

UploadKind = Literal["model", "dataset"]
Device = Literal["cpu", "gpu"]

UPLOADS: dict[UploadKind, Table] = {"model": model, "dataset": dataset}


class LeaseLost(Exception):
    """Someone else holds the row now, or it was finished or deleted: stop, and publish nothing."""


@dataclass(frozen=True)
class Lease:
    """One attempt at one row. `waited`: seconds from its creation to its first claim."""

    kind: Literal["job", "model", "dataset"]
    id: str
    attempt: int
    worker: str
    workspace_id: str
    waited: float = 0.0

    @property
    def table(self) -> Table:
        return job if self.kind == "job" else UPLOADS[self.kind]

    @property
    def held(self) -> ColumnElement[bool]:
        """The fence."""
        columns = self.table.c
        working = JobState.RUNNING if self.kind == "job" else UploadState.INSPECTING
        return and_(
            columns.id == self.id,
            columns.state == working,
            columns.attempt == self.attempt,
            columns.worker == self.worker,
        )


def claim_job(database: Database, id_: str, worker: str, device: Device, lease_seconds: float) -> Lease | None:
    """Takes a job that waits for `device` (or for any), or whose lease ran out; None: drop the message.

    `worker` names one process, so that no other may write under its attempt.
    """
    claimable = and_(
        job.c.state.in_(sources(Action.CLAIM)),
        or_(job.c.state == JobState.QUEUED, job.c.lease_until < now()),
        job.c.attempt < job.c.max_attempts,
        job.c.cancel_requested.is_(False),
        job.c.device.in_(("auto", device)),
    )
    with database.write() as connection:
        row = connection.execute(
            update(job)
            .where(job.c.id == id_, claimable)
            .values(
                state=JobState.RUNNING,
                attempt=job.c.attempt + 1,
                lease_until=from_now(lease_seconds),
                worker=worker,
                started_at=func.coalesce(job.c.started_at, now(), type_=job.c.started_at.type),
                version=job.c.version + 1,
            )
            .returning(job.c.attempt, job.c.workspace_id, job.c.created_at, job.c.started_at)
        ).one_or_none()
        if row is None:
            return None
        waited = (row.started_at - row.created_at).total_seconds()
        lease = Lease("job", id_, row.attempt, worker, row.workspace_id, waited)
        append_event(connection, lease, "state", {"state": JobState.RUNNING, "attempt": row.attempt})
    return lease


def claim_upload(
    database: Database, kind: UploadKind, id_: str, worker: str, lease_seconds: float, max_attempts: int
) -> Lease | None:
    """Takes a model or dataset that waits for its inspection, or whose inspector's lease ran out."""
    table = UPLOADS[kind]
    with database.write() as connection:
        row = connection.execute(
            update(table)
            .where(
                table.c.id == id_,
                table.c.state == UploadState.INSPECTING,
                or_(table.c.lease_until.is_(None), table.c.lease_until < now()),
                table.c.attempt < max_attempts,
            )
            .values(attempt=table.c.attempt + 1, lease_until=from_now(lease_seconds), worker=worker, updated_at=now())
            .returning(table.c.attempt, table.c.workspace_id)
        ).one_or_none()
    return None if row is None else Lease(kind, id_, row.attempt, worker, row.workspace_id)


def let_go(database: Database, lease: Lease) -> None:
    """An orderly end in the middle of a job: the lease runs out now, so that the next sweep queues the job again, and
    the attempt isn't counted. Raises LeaseLost."""
    with database.write() as connection:
        fenced(connection, lease, lease_until=from_now(-1), max_attempts=job.c.max_attempts + 1)


def renew(database: Database, lease: Lease, lease_seconds: float) -> bool:
    """Puts the lease's end off to `lease_seconds` from now; tells whether the job is to be canceled.

    A lease that ran out is renewed too, as long as nobody else has taken the row. Raises LeaseLost.
    """
    with database.write() as connection:
        row = fenced(connection, lease, lease_until=from_now(lease_seconds))
    return bool(row.cancel_requested) if lease.kind == "job" else False


def cancel_requested(database: Database, lease: Lease) -> bool:
    """The job's cancel flag, for a look every second: one SELECT. Raises LeaseLost."""
    with database.read() as connection:
        row = connection.execute(select(job.c.cancel_requested).where(lease.held)).one_or_none()
    if row is None:
        raise LeaseLost(lease.id)
    return bool(row.cancel_requested)


def fenced(connection: Connection, lease: Lease, **values: Any) -> Row[Any]:
    """Writes `values` to the lease's row and returns the row, or raises LeaseLost.

    It comes first in every transaction under a lease: it locks the row, so that the writes of one job come one after
    another, and with them the ids of its events.
    """
    table = lease.table
    stamp = {"version": job.c.version + 1} if lease.kind == "job" else {"updated_at": now()}
    row = connection.execute(update(table).where(lease.held).values(**stamp, **values).returning(table)).one_or_none()
    if row is None:
        raise LeaseLost(lease.id)
    return row


def leave_steps(connection: Connection, ids: Sequence[str], state: Literal["stopped", "pending"]) -> None:
    """What becomes of the steps that these jobs were at: nobody works on them any more."""
    running = and_(step.c.job_id.in_(ids), step.c.state == "running")
    connection.execute(update(step).where(running).values(state=state))


def append_event(connection: Connection, lease: Lease, kind: str, data: dict[str, Any]) -> None:
    """An event of a job whose row this transaction has written."""
    connection.execute(
        event.insert().values(
            job_id=lease.id, workspace_id=lease.workspace_id, attempt=lease.attempt, kind=kind, data=data
        )
    )
