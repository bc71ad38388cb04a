"""The workers' roster: signed in, seen again, signed out, forgotten."""

from __future__ import annotations

from sqlalchemy import update

from store.clock import from_now
from store.database import Database
from store.doorbell import job_rings
from store.roster import present, served_queues, sign_in, sign_out
from store.tables import worker


def names(database: Database, seconds: float = 30) -> list[str]:
    return [row.name for row in present(database, seconds)]


def test_workers_come_and_go(database: Database) -> None:
    sign_in(database, "b", ["cpu", "inspect"], "cpu", "bubblewrap")
    sign_in(database, "a", ["gpu"], "cuda:0", "landlock-files")
    assert names(database) == ["a", "b"]
    first = present(database, 30)[0]
    assert (first.queues, first.device, first.sandbox) == (["gpu"], "cuda:0", "landlock-files")
    sign_out(database, "a")
    assert names(database) == ["b"]


def test_a_silent_worker_is_not_counted_and_then_forgotten(database: Database) -> None:
    sign_in(database, "b", ["cpu"], "cpu", "bubblewrap")
    with database.write() as connection:
        connection.execute(update(worker).values(seen_at=from_now(-60)))
    assert names(database) == []
    assert names(database, 90) == ["b"]
    with database.write() as connection:
        connection.execute(update(worker).values(seen_at=from_now(-25 * 3600)))
    sign_in(database, "c", ["cpu"], "cpu", "bubblewrap")
    assert names(database, 1e6) == ["c"]
    sign_in(database, "c", ["cpu"], "cpu", "bubblewrap")
    assert names(database) == ["c"]


def test_a_job_for_any_device_rings_where_somebody_listens(database: Database) -> None:
    def queues(device: str = "auto") -> list[str]:
        with database.read() as connection:
            served = served_queues(connection, 30)
        return [ring.queue for ring in job_rings("job_X", device, served)]

    assert queues() == ["cpu", "gpu"]
    sign_in(database, "c", ["cpu", "inspect"], "cpu", "bubblewrap")
    assert queues() == ["cpu"]
    assert queues("gpu") == ["gpu"]
    sign_in(database, "g", ["gpu"], "cuda:0", "bubblewrap")
    assert queues() == ["cpu", "gpu"]
