"""Models and datasets: rows over content-addressed blobs. Rows come and go here; what they go through: `leases`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, bindparam, delete, exists, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from store.clock import now
from store.database import Database
from store.identity import new_id
from store.leases import UPLOADS, UploadKind
from store.objects import Objects, Stored
from store.states import FINISHED
from store.tables import DEFAULT_WORKSPACE, blob, job, job_model

Json = dict[str, Any]


class InUse(Exception):
    """A job that isn't finished needs the row; the argument is the job's id."""


class BlobVanished(Exception):
    """The same bytes were deleted while they were uploaded again: send them once more."""


def add(
    database: Database,
    objects: Objects,
    kind: UploadKind,
    stored: Stored,
    *,
    name: str,
    filename: str,
    tags: Sequence[str] = (),
    architecture: Mapping[str, Any] | None = None,
    workspace: str = DEFAULT_WORKSPACE,
) -> str:
    """The id of a new row, `inspecting`, for bytes that `Objects.put_stream` has stored. Ring for it afterwards."""
    id_ = new_id("mdl" if kind == "model" else "dst")
    with database.write() as connection:
        insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
        connection.execute(
            insert(blob)
            .values(sha256=stored.sha256, workspace_id=workspace, size=stored.size, key=stored.key)
            # Not "do nothing": an update locks the row, so that a deletion waits for the reference below.
            .on_conflict_do_update(index_elements=[blob.c.sha256], set_={"size": stored.size})
        )
        # A deletion may have removed the object between the upload, which found it there, and the lock.
        if objects.head(stored.key) is None:
            raise BlobVanished(stored.sha256)
        connection.execute(
            UPLOADS[kind]
            .insert()
            .values(
                id=id_,
                workspace_id=workspace,
                name=name,
                tags=list(tags),
                filename=filename,
                architecture=architecture,
                size=stored.size,
                sha256=stored.sha256,
                rung_at=now(),
            )
        )
    return id_


_FIND = {
    kind: select(table).where(table.c.id == bindparam("id"), table.c.workspace_id == bindparam("workspace"))
    for kind, table in UPLOADS.items()
}


def find(database: Database, kind: UploadKind, id_: str, workspace: str = DEFAULT_WORKSPACE) -> RowMapping | None:
    """The row by column name, or None."""
    with database.read() as connection:
        return connection.execute(_FIND[kind], {"id": id_, "workspace": workspace}).mappings().one_or_none()


def listed(
    database: Database,
    kind: UploadKind,
    *,
    limit: int,
    before: str | None = None,
    state: str | None = None,
    workspace: str = DEFAULT_WORKSPACE,
) -> Sequence[RowMapping]:
    """The newest rows first; `before`: the last id of the page before."""
    table = UPLOADS[kind]
    query = select(table).where(table.c.workspace_id == workspace).order_by(table.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(table.c.id < before)
    if state is not None:
        query = query.where(table.c.state == state)
    with database.read() as connection:
        return connection.execute(query).mappings().all()


def uses_models(ids: Sequence[str] | Select[tuple[str]]) -> ColumnElement[bool]:
    """Of a job: it works on one of these models or artifacts, or one of its steps names one."""
    named = exists().where(job_model.c.job_id == job.c.id, job_model.c.model_id.in_(ids))
    return or_(job.c.model_id.in_(ids), named)


def remove(
    database: Database, objects: Objects, kind: UploadKind, id_: str, workspace: str = DEFAULT_WORKSPACE
) -> bool:
    """Deletes the row, and its bytes where nothing else has them; False where there is none. Raises InUse."""
    table = UPLOADS[kind]
    with database.write() as connection:
        # Locked first: a job that is just being submitted holds it, and is seen below once it is committed.
        connection.execute(select(table.c.id).where(table.c.id == id_).with_for_update())
        uses = uses_models([id_]) if kind == "model" else job.c.dataset_id == id_
        user = connection.execute(select(job.c.id).where(uses, job.c.state.not_in(FINISHED)).limit(1)).scalar()
        if user is not None:
            raise InUse(user)
        sha256 = connection.execute(
            delete(table).where(table.c.id == id_, table.c.workspace_id == workspace).returning(table.c.sha256)
        ).scalar()
        if sha256 is None:
            return False
        _remove_unused_blob(connection, objects, sha256)
    return True


def _remove_unused_blob(connection: Connection, objects: Objects, sha256: str) -> None:
    # Two statements: the second one's snapshot is taken after the lock, so it sees whoever came before us.
    connection.execute(select(blob.c.sha256).where(blob.c.sha256 == sha256).with_for_update())
    used = or_(*(exists().where(table.c.sha256 == sha256) for table in UPLOADS.values()))
    key = connection.execute(delete(blob).where(blob.c.sha256 == sha256, ~used).returning(blob.c.key)).scalar()
    if key is not None:
        objects.delete(key)
