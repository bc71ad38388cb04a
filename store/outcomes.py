"""What the holder of a lease writes: what goes on, and how it ended. All of it raises `LeaseLost` behind the fence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Row, update

from store.clock import now
from store.database import Database
from store.identity import new_id
from store.leases import Lease, append_event, fenced, leave_steps
from store.states import JobState, UploadState
from store.tables import artifact, job, step

Json = dict[str, Any]


@dataclass(frozen=True)
class NewArtifact:
    """A file that already lies in the object store under `key` (the attempt's prefix)."""

    name: str
    media_type: str
    size: int
    sha256: str
    key: str
    inspection: Json | None = None


@dataclass(frozen=True)
class StepChange:
    """What became of one step; `record` is the engine's own, once finished."""

    index: int
    state: Literal["pending", "running", "finished"]
    seconds: float | None = None
    record: Json | None = None


def record(
    database: Database,
    lease: Lease,
    events: Sequence[tuple[str, Json]] = (),
    steps: Sequence[StepChange] = (),
    *,
    progress: Json | None = None,
    sandbox: str | None = None,
    device_used: str | None = None,
    times: Mapping[str, float] | None = None,
) -> None:
    """Events (kind, data) of a running job in their order, and what else is known now, in one transaction.

    None leaves a column as it is; `times` are merged into those already there by name.
    """
    given = {"progress": progress, "sandbox": sandbox, "device_used": device_used}
    values: Json = {name: value for name, value in given.items() if value is not None}
    with database.write() as connection:
        row = fenced(connection, lease, **values)
        if times is not None:
            connection.execute(update(job).where(job.c.id == lease.id).values(times={**row.times, **times}))
        for change in steps:
            connection.execute(
                update(step)
                .where(step.c.job_id == lease.id, step.c.index == change.index)
                .values(state=change.state, seconds=change.seconds, record=change.record)
            )
        for kind, data in events:
            append_event(connection, lease, kind, data)


def _finish(
    connection: Connection,
    lease: Lease,
    row: Row[Any],
    state: JobState,
    times: Mapping[str, float] | None,
    **values: Json,
) -> None:
    fenced(
        connection,
        lease,
        state=state,
        finished_at=now(),
        lease_until=None,
        times={**row.times, **(times or {})},
        **values,
    )
    if state != JobState.SUCCEEDED:
        leave_steps(connection, [lease.id], "stopped")
    error = {"error": values["error"]} if "error" in values else {}
    append_event(connection, lease, "state", {"state": state, **error})


def succeed(
    database: Database,
    lease: Lease,
    artifacts: Sequence[NewArtifact],
    report: Json,
    times: Mapping[str, float] | None = None,
) -> None:
    """Publishes: artifacts, report and the state become visible in the same instant."""
    with database.write() as connection:
        row = fenced(connection, lease)
        if artifacts:
            common = {
                "workspace_id": lease.workspace_id,
                "job_id": lease.id,
                "attempt": lease.attempt,
                "source_model_id": row.model_id,
            }
            connection.execute(
                artifact.insert(), [{"id": new_id("art"), **common, **asdict(item)} for item in artifacts]
            )
        _finish(connection, lease, row, JobState.SUCCEEDED, times, report=report)


def fail(database: Database, lease: Lease, error: Json, times: Mapping[str, float] | None = None) -> None:
    """Ends the job with `error`: {"kind", "message", "where"}."""
    with database.write() as connection:
        _finish(connection, lease, fenced(connection, lease), JobState.FAILED, times, error=error)


def cancel(database: Database, lease: Lease, times: Mapping[str, float] | None = None) -> None:
    """Ends the job as canceled, once its child is gone."""
    with database.write() as connection:
        _finish(connection, lease, fenced(connection, lease), JobState.CANCELED, times)


def inspected(database: Database, lease: Lease, inspection: Json) -> None:
    """Ends an inspection: the upload can be used."""
    with database.write() as connection:
        fenced(connection, lease, state=UploadState.READY, inspection=inspection, lease_until=None)


def rejected(database: Database, lease: Lease, problem: Json) -> None:
    """Ends an inspection: the upload can't be used; `problem`: {"kind", "message", "where"}."""
    with database.write() as connection:
        fenced(connection, lease, state=UploadState.REJECTED, problem=problem, lease_until=None)
