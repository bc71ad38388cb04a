"""Which workers there are: each signs in at its start and again with every sweep. For people and `/readyz` alone; what
a worker may do is decided by leases."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, RowMapping, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from store.clock import from_now, now
from store.database import Database
from store.tables import worker

GONE_SECONDS = 24 * 3600.0  # a worker that was silent for so long is taken off


def sign_in(database: Database, name: str, queues: Sequence[str], device: str, sandbox: str) -> None:
    """Says that the worker is there now, by the database's clock."""
    facts = {"queues": list(queues), "device": device, "sandbox": sandbox, "seen_at": now()}
    with database.write() as connection:
        insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
        connection.execute(
            insert(worker)
            .values(name=name, **facts)
            .on_conflict_do_update(index_elements=[worker.c.name], set_={"seen_at": now()})
        )
        connection.execute(delete(worker).where(worker.c.seen_at < from_now(-GONE_SECONDS)))


def sign_out(database: Database, name: str) -> None:
    with database.write() as connection:
        connection.execute(delete(worker).where(worker.c.name == name))


def served_queues(connection: Connection, seconds: float) -> frozenset[str]:
    """The queues that a worker seen within the last `seconds` takes from."""
    seen = connection.execute(select(worker.c.queues).where(worker.c.seen_at >= from_now(-seconds)))
    return frozenset(queue for queues in seen.scalars() for queue in queues)


def present(database: Database, seconds: float) -> Sequence[RowMapping]:
    """The workers seen within the last `seconds`, by name."""
    with database.read() as connection:
        seen = select(worker).where(worker.c.seen_at >= from_now(-seconds)).order_by(worker.c.name)
        return connection.execute(seen).mappings().all()
