from concurrent.futures import ThreadPoolExecutor

import pytest

from store import jobs, uploads
from store.database import Database
from store.leases import Lease, LeaseLost, cancel_requested, claim_job, claim_upload, let_go, renew
from store.settings import Settings
from store.sweep import sweep
from store.tables import dataset, model
from tests.store.rows import PAST, queue, uploaded


def test_of_many_that_claim_at_once_one_wins(database: Database) -> None:
    ids = [queue(database) for _ in range(10)]
    with ThreadPoolExecutor(8) as pool:
        for id_ in ids:
            claims = list(pool.map(lambda n, id_=id_: claim_job(database, id_, f"w{n}", "cpu", 45), range(8)))
            (won,) = [lease for lease in claims if lease is not None]
            row = jobs.find(database, id_)
            assert row is not None
            assert (row["state"], row["attempt"], row["worker"]) == ("running", 1, won.worker)


def test_an_expired_lease_is_taken_over_by_one(database: Database) -> None:
    id_ = queue(database)
    first = claim_job(database, id_, "dead", "cpu", PAST)
    assert first is not None
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda n: claim_job(database, id_, f"w{n}", "cpu", 45), range(8)))
    (won,) = [lease for lease in claims if lease is not None]
    assert won.attempt == 2
    with pytest.raises(LeaseLost):
        renew(database, first, 45)


@pytest.mark.parametrize(
    ("wanted", "device", "fits"),
    [("auto", "cpu", True), ("auto", "gpu", True), ("cpu", "gpu", False), ("gpu", "cpu", False), ("gpu", "gpu", True)],
)
def test_the_device_has_to_fit(database: Database, wanted: str, device: str, fits: bool) -> None:
    id_ = queue(database, device=wanted)
    assert (claim_job(database, id_, "w", device, 45) is not None) == fits


def test_a_claim_tells_how_long_the_job_waited(database: Database) -> None:
    lease = claim_job(database, queue(database), "w", "cpu", 45)
    assert lease is not None
    assert 0 <= lease.waited < 30


def test_attempts_are_bounded(database: Database) -> None:
    id_ = queue(database, max_attempts=2)
    assert [claim_job(database, id_, "w", "cpu", PAST) is not None for _ in range(3)] == [True, True, False]


def test_what_is_no_job_is_not_claimed(database: Database) -> None:
    assert claim_job(database, "job_none", "w", "cpu", 45) is None


def test_renewing_puts_the_end_off_and_tells_the_cancel_flag(database: Database) -> None:
    id_ = queue(database)
    lease = claim_job(database, id_, "w", "cpu", PAST)
    assert lease is not None
    assert renew(database, lease, 45) is False
    assert claim_job(database, id_, "other", "cpu", 45) is None
    assert cancel_requested(database, lease) is False
    jobs.request_cancel(database, id_)
    assert renew(database, lease, 45) is True
    assert cancel_requested(database, lease) is True


def test_the_same_attempt_of_another_worker_is_behind_the_fence(database: Database) -> None:
    id_ = queue(database)
    assert claim_job(database, id_, "w", "cpu", 45) is not None
    stranger = Lease("job", id_, 1, "stranger", "default")
    with pytest.raises(LeaseLost):
        renew(database, stranger, 45)
    with pytest.raises(LeaseLost):
        cancel_requested(database, stranger)


@pytest.mark.parametrize(("kind", "table"), [("model", model), ("dataset", dataset)])
def test_an_upload_is_claimed_once_and_again_when_its_inspector_died(database: Database, kind, table) -> None:
    id_ = uploaded(database, table)
    lease = claim_upload(database, kind, id_, "w", PAST, 2)
    assert lease is not None
    assert renew(database, lease, 45) is False
    assert claim_upload(database, kind, id_, "other", 45, 2) is None
    renew(database, lease, PAST)
    second = claim_upload(database, kind, id_, "other", PAST, 2)
    assert second is not None
    assert second.attempt == 2
    with pytest.raises(LeaseLost):
        renew(database, lease, 45)
    assert claim_upload(database, kind, id_, "third", 45, 2) is None  # two attempts were allowed
    row = uploads.find(database, kind, id_)
    assert row is not None
    assert row["state"] == "inspecting"


def test_a_lease_let_go_is_queued_by_the_next_sweep_and_uses_up_no_attempt(database: Database) -> None:
    id_ = queue(database, max_attempts=1)
    lease = claim_job(database, id_, "w", "cpu", 45)
    assert lease is not None
    let_go(database, lease)
    assert sweep(database, Settings())
    row = jobs.find(database, id_)
    assert row is not None
    assert row.state == "queued"
    again = claim_job(database, id_, "v", "cpu", 45)
    assert again is not None
    with pytest.raises(LeaseLost):
        let_go(database, lease)
