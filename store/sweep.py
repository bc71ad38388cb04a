"""The sweeper: the only redelivery. Every worker's parent runs it; any number may run it at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Table, and_, or_, select, update

from store.clock import from_now, now
from store.database import Database
from store.doorbell import Ring, job_rings, upload_ring
from store.leases import UPLOADS, UploadKind, leave_steps
from store.roster import served_queues
from store.settings import Settings
from store.states import Action, JobState, UploadState
from store.tables import event, job

BATCH = 100  # rows of one kind that one sweep touches


def sweep(database: Database, settings: Settings) -> list[Ring]:
    """Settles every lease that ran out, and returns what to ring for (after this commit).

    A job whose worker died is queued again; at its last attempt it fails with the kind "worker_lost"; with its cancel
    flag set it is canceled. Rows that wait and weren't rung for lately are rung for.
    """
    with database.write() as connection:
        _settle(connection, job.c.cancel_requested, Action.CANCEL)
        _settle(connection, job.c.attempt >= job.c.max_attempts, Action.GIVE_UP)
        _settle(connection, job.c.attempt < job.c.max_attempts, Action.EXPIRE)
        rings = _waiting_jobs(connection, settings)
        for kind in UPLOADS:
            _reject_lost_uploads(connection, kind, settings)
            rings += _waiting_uploads(connection, kind, settings)
    return rings


LOST = {"kind": "worker_lost", "message": "the worker was lost, at the last attempt allowed", "where": ""}

SETTLED: dict[Action, tuple[JobState, dict[str, Any]]] = {
    Action.CANCEL: (JobState.CANCELED, {"finished_at": now()}),
    Action.GIVE_UP: (JobState.FAILED, {"finished_at": now(), "error": LOST}),
    Action.EXPIRE: (JobState.QUEUED, {"rung_at": None}),
}


def _settle(connection: Connection, condition: ColumnElement[bool], action: Action) -> None:
    state, values = SETTLED[action]
    expired = and_(job.c.state == JobState.RUNNING, job.c.lease_until < now(), condition)
    rows = connection.execute(
        update(job)
        .where(job.c.id.in_(_some(job, expired, job.c.lease_until)))
        .values(state=state, lease_until=None, worker=None, version=job.c.version + 1, **values)
        .returning(job.c.id, job.c.workspace_id, job.c.attempt)
    ).all()
    # Queued again, the job comes back to the step that it was at.
    leave_steps(connection, [row.id for row in rows], "pending" if action == Action.EXPIRE else "stopped")
    data = {"state": state, "reason": "worker_lost"}
    _append(connection, rows, data | ({"error": LOST} if action == Action.GIVE_UP else {}))


def _append(connection: Connection, rows: Sequence[Row[Any]], data: dict[str, Any]) -> None:
    if rows:
        connection.execute(
            event.insert(),
            [
                {
                    "job_id": row.id,
                    "workspace_id": row.workspace_id,
                    "attempt": row.attempt,
                    "kind": "state",
                    "data": data,
                }
                for row in rows
            ],
        )


def _waiting_jobs(connection: Connection, settings: Settings) -> list[Ring]:
    waiting = and_(job.c.state == JobState.QUEUED, _unrung(job, settings))
    rows = connection.execute(
        update(job)
        .where(job.c.id.in_(_some(job, waiting, job.c.rung_at)))
        .values(rung_at=now())
        .returning(job.c.id, job.c.device)
    ).all()
    served = served_queues(connection, settings.worker_seconds)
    return [ring for row in rows for ring in job_rings(row.id, row.device, served)]


def _reject_lost_uploads(connection: Connection, kind: UploadKind, settings: Settings) -> None:
    table = UPLOADS[kind]
    lost = and_(
        table.c.state == UploadState.INSPECTING,
        table.c.lease_until < now(),
        table.c.attempt >= settings.max_attempts,
    )
    connection.execute(
        update(table)
        .where(table.c.id.in_(_some(table, lost, table.c.lease_until)))
        .values(state=UploadState.REJECTED, problem=LOST, lease_until=None, worker=None, updated_at=now())
    )


def _waiting_uploads(connection: Connection, kind: UploadKind, settings: Settings) -> list[Ring]:
    table = UPLOADS[kind]
    idle = or_(table.c.lease_until.is_(None), table.c.lease_until < now())
    waiting = and_(table.c.state == UploadState.INSPECTING, idle, _unrung(table, settings))
    rows = connection.execute(
        update(table)
        .where(table.c.id.in_(_some(table, waiting, table.c.rung_at)))
        .values(rung_at=now())
        .returning(table.c.id)
    ).all()
    return [upload_ring(kind, row.id) for row in rows]


def _unrung(table: Table, settings: Settings) -> ColumnElement[bool]:
    return or_(table.c.rung_at.is_(None), table.c.rung_at < from_now(-settings.ring_again_seconds))


def _some(table: Table, condition: ColumnElement[bool], order: ColumnElement[Any]) -> Any:
    # Rows that another sweeper has locked are its business: waiting for them could end in a deadlock.
    chosen = select(table.c.id).where(condition).order_by(order.asc().nulls_first()).limit(BATCH)
    return chosen.with_for_update(skip_locked=True)
