from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import insert, select
from sqlalchemy.exc import StatementError

from store.clock import from_now, now
from store.database import Database
from store.tables import blob


def test_times_come_back_aware_and_in_utc(database: Database) -> None:
    summer = datetime(2026, 7, 1, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    with database.write() as connection:
        connection.execute(insert(blob).values(sha256="a", size=1, key="k", created_at=summer))
        stored = connection.execute(select(blob.c.created_at)).scalar_one()
    assert stored == summer
    assert stored.utcoffset() == timedelta(0)


def test_a_time_without_a_zone_is_refused(database: Database) -> None:
    naive = datetime(2026, 7, 1)  # noqa: DTZ001 - what is refused
    with pytest.raises(StatementError, match="without a zone"), database.write() as connection:
        connection.execute(insert(blob).values(sha256="a", size=1, key="k", created_at=naive))


def test_the_clock_adds_seconds_finely(database: Database) -> None:
    with database.read() as connection:
        early, middle, late = connection.execute(select(from_now(-1.25), now(), from_now(45))).one()
    assert abs((middle - early).total_seconds() - 1.25) < 0.002
    assert abs((late - middle).total_seconds() - 45) < 0.002
    assert abs((middle - datetime.now(UTC)).total_seconds()) < 60


def test_stored_times_compare_with_the_clock(database: Database) -> None:
    with database.write() as connection:
        for name, seconds in (("past", -0.01), ("future", 30.0)):
            connection.execute(insert(blob).values(sha256=name, size=1, key="k", created_at=from_now(seconds)))
    with database.read() as connection:
        assert connection.execute(select(blob.c.sha256).where(blob.c.created_at < now())).scalars().all() == ["past"]
