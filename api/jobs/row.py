"""A job as a status poll shows it: one SELECT, which brings the steps along, and no report (that has its own address).

One statement also means one moment: state, steps and the entity tag always belong together.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, RowMapping, Select, bindparam, func, select

from api.problems import NotFound
from store.database import Database
from store.tables import DEFAULT_WORKSPACE, job, step

Json = dict[str, Any]
LARGE = frozenset({"spec", "report"})
HIDDEN = frozenset({"workspace_id", "idempotency_key", "parent_id", "max_attempts", "lease_until", "worker", "rung_at"})


def _poll(*, sqlite: bool) -> Select[Any]:
    pair, gather = (func.json_object, func.json_group_array) if sqlite else (func.json_build_object, func.json_agg)
    one = pair("index", step.c.index, "method", step.c.method, "state", step.c.state, "seconds", step.c.seconds)
    steps = select(gather(one, type_=JSON)).where(step.c.job_id == job.c.id).scalar_subquery()
    columns = [column for column in job.c if column.name not in LARGE | HIDDEN]
    mine = (job.c.id == bindparam("id"), job.c.workspace_id == bindparam("workspace"))
    return select(*columns, steps.label("steps")).where(*mine)


_POLLS = {name: _poll(sqlite=name == "sqlite") for name in ("sqlite", "postgresql")}


def poll(database: Database, id_: str, workspace: str = DEFAULT_WORKSPACE) -> RowMapping:
    """Raises NotFound."""
    with database.read() as connection:
        statement = _POLLS[connection.dialect.name]
        row = connection.execute(statement, {"id": id_, "workspace": workspace}).mappings().one_or_none()
    if row is None:
        raise NotFound(f"no job has the id {id_}")
    return row


def shown(row: RowMapping) -> Json:
    """Of a poll's row or of a list's, which has no steps."""
    body = {
        "id": row["id"],
        "name": row["name"],
        "tags": row["tags"],
        "state": row["state"],
        "model": row["model_id"],
        "dataset": row["dataset_id"],
        "device": row["device"],
        "attempt": row["attempt"],
        "cancel_requested": row["cancel_requested"],
        "retry_of": row["retry_of"],
        "progress": row["progress"],
        "times": row["times"],
        "error": row["error"],
        "sandbox": row["sandbox"],
        "device_used": row["device_used"],
        "created_at": row["created_at"].isoformat(),
        "started_at": row["started_at"].isoformat() if row["started_at"] else None,
        "finished_at": row["finished_at"].isoformat() if row["finished_at"] else None,
    }
    if "steps" in row:
        body["steps"] = sorted(row["steps"] or [], key=lambda step: step["index"])
    return body
