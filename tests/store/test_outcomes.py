from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from store import jobs, outcomes, uploads
from store.database import Database
from store.leases import Lease, LeaseLost, claim_job, claim_upload
from store.outcomes import NewArtifact, StepChange
from store.tables import model
from tests.store.rows import PAST, queue, uploaded

ONNX = NewArtifact("model.onnx", "application/octet-stream", 3, "b" * 64, "jobs/J/1/model.onnx", {"parameters": 5})
ERROR = {"kind": "crashed", "message": "the engine crashed", "where": ""}


def claimed(database: Database, id_: str, seconds: float = 45) -> Lease:
    lease = claim_job(database, id_, "w", "cpu", seconds)
    assert lease is not None
    return lease


def row_of(database: Database, id_: str) -> Any:
    row = jobs.find(database, id_)
    assert row is not None
    return row


def test_what_goes_on_is_recorded_in_one_write(database: Database) -> None:
    id_ = queue(database)
    lease = claimed(database, id_)
    before = row_of(database, id_)["version"]
    outcomes.record(
        database,
        lease,
        [("step_started", {"index": 0}), ("progress", {"fraction": 0.5})],
        [StepChange(0, "finished", 1.5, {"macs": 7})],
        progress={"fraction": 0.5},
        sandbox="bubblewrap",
        device_used="cpu",
        times={"waiting": 0.1},
    )
    outcomes.record(database, lease, times={"fetching": 0.2})
    row = row_of(database, id_)
    assert row["version"] > before
    assert row["progress"] == {"fraction": 0.5}
    assert (row["sandbox"], row["device_used"]) == ("bubblewrap", "cpu")
    assert row["times"] == {"waiting": 0.1, "fetching": 0.2}
    (step,) = jobs.steps(database, id_)
    assert (step["method"], step["state"], step["seconds"], step["record"]) == (
        "finetune",
        "finished",
        1.5,
        {"macs": 7},
    )
    events = jobs.events(database, id_)
    assert [event["kind"] for event in events] == ["state", "state", "step_started", "progress"]
    assert [event["attempt"] for event in events] == [0, 1, 1, 1]
    assert jobs.events(database, id_, after=events[1]["id"], limit=1) == [events[2]]


def test_publishing_shows_everything_at_once(database: Database) -> None:
    id_ = queue(database)
    outcomes.succeed(database, claimed(database, id_), [ONNX], {"macs": 1}, {"publishing": 0.5})
    row = row_of(database, id_)
    assert (row["state"], row["report"], row["times"]) == ("succeeded", {"macs": 1}, {"publishing": 0.5})
    assert row["finished_at"] >= row["started_at"] >= row["created_at"]
    (artifact,) = jobs.artifacts(database, id_)
    assert artifact["source_model_id"] == "mdl_X"
    assert jobs.find_artifact(database, artifact["id"]) == artifact
    assert jobs.find_artifact(database, artifact["id"], workspace="other") is None


def test_a_publication_that_fails_midway_shows_nothing(database: Database) -> None:
    id_ = queue(database)
    lease = claimed(database, id_)
    with pytest.raises(IntegrityError):
        outcomes.succeed(database, lease, [ONNX, ONNX], {})  # the same name twice
    assert row_of(database, id_)["state"] == "running"
    assert jobs.artifacts(database, id_) == []
    outcomes.succeed(database, lease, [ONNX], {})


def test_whoever_lost_the_lease_writes_nothing(database: Database) -> None:
    id_ = queue(database)
    late = claimed(database, id_, PAST)
    current = claimed(database, id_)
    for write in (
        lambda: outcomes.record(database, late, [("progress", {})], [StepChange(0, "finished")], progress={"x": 1}),
        lambda: outcomes.succeed(database, late, [ONNX], {}),
        lambda: outcomes.fail(database, late, ERROR),
        lambda: outcomes.cancel(database, late),
    ):
        with pytest.raises(LeaseLost):
            write()
    assert row_of(database, id_)["state"] == "running"
    assert row_of(database, id_)["progress"] is None
    assert jobs.artifacts(database, id_) == []
    assert [step["state"] for step in jobs.steps(database, id_)] == ["pending"]
    assert "progress" not in {event["kind"] for event in jobs.events(database, id_)}
    outcomes.succeed(database, current, [ONNX], {})
    with pytest.raises(LeaseLost):  # not twice either
        outcomes.succeed(database, current, [ONNX], {})


def test_a_failure_keeps_its_error(database: Database) -> None:
    id_ = queue(database)
    outcomes.fail(database, claimed(database, id_), ERROR)
    assert (row_of(database, id_)["state"], row_of(database, id_)["error"]) == ("failed", ERROR)
    assert jobs.events(database, id_)[-1]["data"] == {"state": "failed", "error": ERROR}


def test_an_inspection_ends_ready_or_rejected(database: Database) -> None:
    for id_, end in (
        ("mdl_1", lambda lease: outcomes.inspected(database, lease, {"layers": []})),
        ("mdl_2", lambda lease: outcomes.rejected(database, lease, ERROR)),
    ):
        lease = claim_upload(database, "model", uploaded(database, model, id_), "w", 45, 3)
        assert lease is not None
        end(lease)
        with pytest.raises(LeaseLost):
            outcomes.inspected(database, lease, {})
    first, second = uploads.find(database, "model", "mdl_1"), uploads.find(database, "model", "mdl_2")
    assert first is not None
    assert second is not None
    assert (first["state"], first["inspection"], first["problem"]) == ("ready", {"layers": []}, None)
    assert (second["state"], second["inspection"], second["problem"]) == ("rejected", None, ERROR)


@pytest.mark.parametrize(
    "end", [lambda *given: outcomes.fail(*given, ERROR), outcomes.cancel], ids=["failed", "canceled"]
)
def test_the_step_that_a_job_ended_at_is_stopped(database: Database, end: Callable[[Database, Lease], None]) -> None:
    id_ = queue(database, steps=[("prune.structured", {}), ("finetune", {}), ("finetune", {})])
    lease = claimed(database, id_)
    outcomes.record(database, lease, steps=[StepChange(0, "finished", 1.0, {}), StepChange(1, "running")])
    other = queue(database)
    outcomes.record(database, claimed(database, other), steps=[StepChange(0, "running")])
    end(database, lease)
    assert [step["state"] for step in jobs.steps(database, id_)] == ["finished", "stopped", "pending"]
    assert [step["state"] for step in jobs.steps(database, other)] == ["running"]
