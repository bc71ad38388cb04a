from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from store import jobs, outcomes, uploads
from store.clock import from_now
from store.database import Database
from store.doorbell import INSPECT, RUN_JOB, Ring
from store.leases import claim_job, claim_upload
from store.outcomes import StepChange
from store.settings import Settings
from store.sweep import sweep
from store.tables import dataset, job, model
from tests.store.rows import PAST, queue, uploaded


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, ring_again_seconds=30)


def forget_ring(database: Database, table: Any, id_: str) -> None:
    with database.write() as connection:
        connection.execute(update(table).where(table.c.id == id_).values(rung_at=from_now(-31)))


def state(database: Database, id_: str) -> Any:
    row = jobs.find(database, id_)
    assert row is not None
    return row["state"]


def at_its_step(database: Database, id_: str) -> None:
    """Claimed by a worker that died in the middle of the only step."""
    lease = claim_job(database, id_, "dead", "cpu", PAST)
    assert lease is not None
    outcomes.record(database, lease, steps=[StepChange(0, "running")])


def test_a_dead_workers_job_is_rung_for_until_its_attempts_are_used_up(database: Database, settings: Settings) -> None:
    id_ = queue(database, device="cpu")
    for _ in range(2):
        at_its_step(database, id_)
        assert sweep(database, settings) == [Ring("cpu", RUN_JOB, (id_,))]
        assert state(database, id_) == "queued"
        assert jobs.steps(database, id_)[0]["state"] == "pending"
    at_its_step(database, id_)
    assert sweep(database, settings) == []
    assert jobs.steps(database, id_)[0]["state"] == "stopped"
    row = jobs.find(database, id_)
    assert row is not None
    assert (row["state"], row["error"]["kind"]) == ("failed", "worker_lost")
    assert row["finished_at"] is not None
    assert jobs.events(database, id_)[-1]["data"]["error"]["kind"] == "worker_lost"


def test_a_dead_workers_job_that_was_to_be_canceled_is(database: Database, settings: Settings) -> None:
    id_ = queue(database)
    assert claim_job(database, id_, "dead", "cpu", PAST) is not None
    jobs.request_cancel(database, id_)
    assert sweep(database, settings) == []
    assert state(database, id_) == "canceled"


def test_a_lease_that_holds_is_left_alone(database: Database, settings: Settings) -> None:
    id_ = queue(database)
    assert claim_job(database, id_, "alive", "cpu", 45) is not None
    assert sweep(database, settings) == []
    assert state(database, id_) == "running"


def test_rows_whose_message_was_lost_are_rung_for_again(database: Database, settings: Settings) -> None:
    auto, gpu = queue(database), queue(database, device="gpu")
    assert sweep(database, settings) == []  # they were rung for just now, at their submission
    for id_ in (auto, gpu):
        forget_ring(database, job, id_)
    assert set(sweep(database, settings)) == {
        Ring("cpu", RUN_JOB, (auto,)),
        Ring("gpu", RUN_JOB, (auto,)),
        Ring("gpu", RUN_JOB, (gpu,)),
    }
    assert sweep(database, settings) == []


def test_many_sweepers_at_once_settle_each_job_once(database: Database, settings: Settings) -> None:
    ids = [queue(database, device="cpu") for _ in range(30)]
    for id_ in ids:
        claim_job(database, id_, "dead", "cpu", PAST)
    with ThreadPoolExecutor(4) as pool:
        rings = [ring for found in pool.map(lambda _: sweep(database, settings), range(8)) for ring in found]
    assert sorted(ring.arguments[0] for ring in rings) == sorted(ids)
    for id_ in ids:
        events = [event["data"]["state"] for event in jobs.events(database, id_)]
        assert events == ["queued", "running", "queued"]


@pytest.mark.parametrize(("kind", "table"), [("model", model), ("dataset", dataset)])
def test_uploads_are_rung_for_and_in_the_end_rejected(
    database: Database, settings: Settings, kind: Any, table: Any
) -> None:
    id_ = uploaded(database, table)
    for attempt in range(settings.max_attempts):
        if attempt:
            forget_ring(database, table, id_)
        assert sweep(database, settings) == [Ring("inspect", INSPECT, (kind, id_))]
        assert sweep(database, settings) == []
        assert claim_upload(database, kind, id_, "dead", PAST, settings.max_attempts) is not None
    sweep(database, settings)
    row = uploads.find(database, kind, id_)
    assert row is not None
    assert (row["state"], row["problem"]["kind"]) == ("rejected", "worker_lost")
