from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from store import jobs
from store.database import Database
from store.leases import claim_job
from store.objects import open_objects
from store.outcomes import NewArtifact, succeed
from store.settings import Settings
from store.uploads import InUse
from tests.store.rows import known, queue

NEW = jobs.NewJob("mdl_X", "dst_X", {"seed": 1}, [("prune.structured", {"macs_ratio": 0.5}), ("finetune", {})], 3)


def found(database: Database, id_: str) -> Any:
    row = jobs.find(database, id_)
    assert row is not None
    return row


def test_a_submitted_job_waits_with_its_steps(database: Database) -> None:
    known(database)
    submitted = jobs.submit(database, NEW)
    assert submitted.created
    row = found(database, submitted.id)
    assert (row["state"], row["attempt"], row["version"], row["spec"]) == ("queued", 0, 1, {"seed": 1})
    assert (row["workspace_id"], row["device"], row["tags"], row["times"]) == ("default", "auto", [], {})
    steps = jobs.steps(database, submitted.id)
    assert [(s["index"], s["method"], s["state"]) for s in steps] == [
        (0, "prune.structured", "pending"),
        (1, "finetune", "pending"),
    ]
    assert [event["data"] for event in jobs.events(database, submitted.id)] == [{"state": "queued"}]
    assert jobs.find(database, submitted.id, workspace="other") is None


def test_an_idempotency_key_makes_one_job_however_often_it_comes(database: Database) -> None:
    known(database)

    def submit(n: int) -> jobs.Submitted:
        return jobs.submit(database, jobs.NewJob("mdl_X", None, {"n": n}, [("finetune", {})], 3, idempotency_key="k"))

    with ThreadPoolExecutor(6) as pool:
        all_of_them = list(pool.map(submit, range(6)))
    (made,) = [one for one in all_of_them if one.created]
    assert {one.id for one in all_of_them} == {made.id}
    assert all(one.spec == made.spec for one in all_of_them)
    assert len(jobs.listed(database, limit=9)) == 1
    other = jobs.submit(database, jobs.NewJob("mdl_X", None, {}, [], 3, idempotency_key="k", workspace="other"))
    assert other.created


def test_lists_go_from_new_to_old_in_pages(database: Database) -> None:
    ids = sorted(queue(database) for _ in range(4))
    claim_job(database, ids[1], "w", "cpu", 45)
    assert [row["id"] for row in jobs.listed(database, limit=3)] == ids[:0:-1]
    assert [row["id"] for row in jobs.listed(database, limit=9, before=ids[1])] == [ids[0]]
    assert [row["id"] for row in jobs.listed(database, limit=9, state="running")] == [ids[1]]


def test_canceling(database: Database) -> None:
    waiting, running = queue(database), queue(database)
    claim_job(database, running, "w", "cpu", 45)
    row = jobs.request_cancel(database, waiting)
    assert row is not None
    assert row["state"] == "canceled"
    assert row["finished_at"] is not None
    assert claim_job(database, waiting, "w", "cpu", 45) is None
    row = jobs.request_cancel(database, running)
    assert row is not None
    assert (row["state"], row["cancel_requested"]) == ("running", True)
    version = row["version"]
    again = jobs.request_cancel(database, running)
    assert again is not None
    assert again["version"] == version
    assert [event["kind"] for event in jobs.events(database, running)][-1] == "cancel_requested"
    assert jobs.request_cancel(database, "job_none") is None
    assert jobs.request_cancel(database, running, workspace="other") is None


def test_a_cancel_and_a_claim_at_once_end_in_one_of_two_ways(database: Database) -> None:
    for _ in range(15):
        id_ = queue(database)
        with ThreadPoolExecutor(2) as pool:
            claim = pool.submit(claim_job, database, id_, "w", "cpu", 45)
            cancel = pool.submit(jobs.request_cancel, database, id_)
        row = cancel.result()
        assert row is not None
        if claim.result() is None:
            assert row["state"] == "canceled"
        else:
            assert (row["state"], row["cancel_requested"]) == ("running", True)


def test_a_finished_job_is_deleted_with_all_it_made(database: Database, tmp_path: Path) -> None:
    objects = open_objects(Settings(data_dir=tmp_path))
    file = tmp_path / "x"
    file.write_bytes(b"x")
    id_ = queue(database)
    with pytest.raises(InUse, match=id_):
        jobs.remove(database, objects, id_)
    lease = claim_job(database, id_, "w", "cpu", 45)
    assert lease is not None
    stored = objects.put_file(f"jobs/{id_}/1/model.onnx", file)
    succeed(database, lease, [NewArtifact("model.onnx", "application/octet-stream", 1, stored.sha256, stored.key)], {})
    (artifact,) = jobs.artifacts(database, id_)

    user = queue(database, model_id=artifact["id"])
    with pytest.raises(InUse, match=user):
        jobs.remove(database, objects, id_)
    jobs.request_cancel(database, user)
    taught = queue(database, other_models=[artifact["id"], "mdl_X", "mdl_X"])
    assert jobs.other_models(database, taught) == [artifact["id"]]  # its own model is no other
    with pytest.raises(InUse, match=taught):
        jobs.remove(database, objects, id_)
    jobs.request_cancel(database, taught)

    assert jobs.remove(database, objects, id_, workspace="other") is False
    assert jobs.remove(database, objects, id_) is True
    assert jobs.find(database, id_) is None
    assert jobs.steps(database, id_) == jobs.events(database, id_) == jobs.artifacts(database, id_) == []
    assert objects.list("jobs") == {}
    assert jobs.remove(database, objects, id_) is False


def test_what_is_gone_is_given_to_no_job(database: Database) -> None:
    known(database)
    for new in (
        jobs.NewJob("mdl_Y", None, {}, [], 3),
        jobs.NewJob("art_Y", None, {}, [], 3),
        jobs.NewJob("mdl_X", "dst_Y", {}, [], 3),
        jobs.NewJob("mdl_X", None, {}, [], 3, other_models=["mdl_Y"]),
    ):
        with pytest.raises(jobs.Gone, match="_Y"):
            jobs.submit(database, new)
    assert jobs.listed(database, limit=9) == []
