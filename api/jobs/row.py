"""A job as a status poll shows it: one SELECT, which brings the steps along, and no report (that has its own address).

One statement also means one moment: state, steps and the entity tag always belong together. Polls are most of what the
service answers, and SQLAlchemy's execution would cost several times what SQLite does, so this one statement goes to the
driver: written out, with JSON as text, which both drivers hand over alike.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping

from api.problems import NotFound
from store.database import Database
from store.tables import DEFAULT_WORKSPACE

Json = dict[str, Any]
LARGE = frozenset({"spec", "report"})
PLAIN = ("id", "name", "state", "model_id", "dataset_id", "device", "attempt", "cancel_requested", "retry_of")
TAIL = ("sandbox", "device_used", "created_at", "started_at", "finished_at", "version")
TEXTS = ("tags", "progress", "times", "error")  # columns that hold JSON
COLUMNS = (*PLAIN, *TAIL, *TEXTS, "steps")


def _sql(place: str, pair: str, gather: str) -> str:
    texts = "".join(f"CAST({name} AS TEXT), " for name in TEXTS)
    step = f"{pair}('index', step.\"index\", 'method', method, 'state', step.state, 'seconds', seconds)"
    steps = f"(SELECT CAST({gather}({step}) AS TEXT) FROM step WHERE step.job_id = job.id)"  # noqa: S608 - our words
    names = ", ".join((*PLAIN, *TAIL))
    return f"SELECT {names}, {texts}{steps} FROM job WHERE id = {place} AND workspace_id = {place}"  # noqa: S608


SQL = {
    "sqlite": _sql("?", "json_object", "json_group_array"),
    "postgresql": _sql("%s", "json_build_object", "json_agg"),
}


def poll(database: Database, id_: str, workspace: str = DEFAULT_WORKSPACE) -> Json:
    """The row by column name with its `steps` in order. Raises NotFound."""
    with closing(database.engine.raw_connection()) as connection:
        cursor = connection.cursor()
        cursor.execute(SQL[database.engine.dialect.name], (id_, workspace))
        found = cursor.fetchone()
        cursor.close()
    if found is None:
        raise NotFound(f"no job has the id {id_}")
    row = dict(zip(COLUMNS, found, strict=True))
    for name in TEXTS:
        if row[name] is not None:
            row[name] = json.loads(row[name])
    row["steps"] = sorted(json.loads(row["steps"] or "[]"), key=lambda step: step["index"])
    return row


def _time(value: datetime | str | None) -> str | None:
    """ISO 8601 in UTC; SQLite's driver hands over its text, which is UTC."""
    if isinstance(value, str):
        return f"{value[:10]}T{value[11:]}+00:00"
    return value.isoformat() if value is not None else None


def shown(row: Mapping[str, Any] | RowMapping) -> Json:
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
        "cancel_requested": bool(row["cancel_requested"]),
        "retry_of": row["retry_of"],
        "progress": row["progress"],
        "times": row["times"],
        "error": row["error"],
        "sandbox": row["sandbox"],
        "device_used": row["device_used"],
        "created_at": _time(row["created_at"]),
        "started_at": _time(row["started_at"]),
        "finished_at": _time(row["finished_at"]),
    }
    if "steps" in row:
        body["steps"] = row["steps"]
    return body
