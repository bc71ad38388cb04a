"""Attempts at jobs, on real stores, with a stand-in engine in a real box."""

from __future__ import annotations

import hashlib
import threading

import pytest
from sqlalchemy import update

from store import jobs, leases
from store.tables import job
from tests.worker.processes import eventually
from tests.worker.rows import submit, upload
from tests.worker.standin import ENGINE
from worker.run import run_job
from worker.service import open_worker


@pytest.fixture
def worker(settings):
    with open_worker(settings, ENGINE) as opened:
        yield opened


@pytest.fixture
def embedded(embedded_settings):
    with open_worker(embedded_settings, ENGINE) as opened:
        yield opened


def model(worker, content: bytes = b"weights", **changes) -> str:
    return upload(worker.database, worker.objects, "model", content, **changes)


def kinds(worker, id_: str) -> list[str]:
    return [event.kind for event in jobs.events(worker.database, id_)]


def test_a_job_is_run_and_published(worker):
    data = upload(worker.database, worker.objects, "dataset", b"numbers")
    plain = model(worker, architecture={"architecture": "lenet5"})
    id_ = submit(worker.database, plain, "work", "checkpoint", dataset=data)
    run_job(worker, id_)
    row = jobs.find(worker.database, id_)
    assert row.state == "succeeded", row.error
    weights = {"architecture": "lenet5"}
    assert row.report == {"data": "numbers", "architecture": weights, "models": {plain: ["weights", weights]}}
    assert row.sandbox == "bubblewrap"
    assert row.device_used == "cpu"
    assert {"waiting", "fetching", "steps", "exporting", "measuring", "publishing"} <= set(row.times)
    assert row.progress["index"] == 0
    assert [step.state for step in jobs.steps(worker.database, id_)] == ["finished", "finished"]
    assert [step.seconds for step in jobs.steps(worker.database, id_)] == [0.5, 0.5]
    made = {item.name: item for item in jobs.artifacts(worker.database, id_)}
    assert set(made) == {"model.pt2", "report.json"}
    assert made["model.pt2"].inspection == {"layers": []}
    assert made["model.pt2"].sha256 == hashlib.sha256(b"sthgiew").hexdigest()
    assert made["model.pt2"].key == f"jobs/{id_}/1/model.pt2"
    assert worker.objects.head(made["model.pt2"].key) == 7
    assert worker.objects.head(f"jobs/{id_}/log") == len("the log\n")
    assert worker.objects.list(f"jobs/{id_}/checkpoints") == {}
    seen = kinds(worker, id_)
    assert seen[:2] == ["state", "state"]
    assert [kind for kind in seen if kind not in ("state", "progress")] == [
        *("started", "loading", "step_started", "step_finished"),
        *("step_started", "checkpoint", "step_finished", "exporting", "exported", "measuring"),
    ]
    assert 1 <= seen.count("progress") < 20  # several in a row are one
    assert not list(worker.folder.iterdir())


def test_an_artifact_can_be_the_next_jobs_model(embedded):
    first = submit(embedded.database, model(embedded), "work")
    run_job(embedded, first)
    given = next(item for item in jobs.artifacts(embedded.database, first) if item.name == "model.pt2")
    second = submit(embedded.database, given.id, "work")
    run_job(embedded, second)
    made = {item.name: item for item in jobs.artifacts(embedded.database, second)}
    assert made["model.pt2"].source_model_id == given.id
    assert made["model.pt2"].sha256 == hashlib.sha256(b"weights").hexdigest()


@pytest.mark.parametrize(
    ("act", "kind", "words"),
    [
        ("refuse", "method-inapplicable", "nothing to prune"),
        ("crash", "crashed", "SIGABRT"),
        ("eat memory", "out-of-memory", "8.0 GiB"),
        ("talk nonsense", "protocol", "nonsense"),
        ("finish a step that isn't there", "protocol", "99"),
        ("forge a state", "protocol", "state"),
        ("checkpoint of another folder", "protocol", "plain name"),
        ("checkpoint through a link", "protocol", "link"),
        ("deliver a link", "protocol", "passwords"),
        ("deliver a folder", "protocol", "folder"),
        ("deliver no report", "protocol", "report.json"),
        ("deliver NaN", "protocol", "NaN"),
    ],
)
def test_a_job_fails_with_its_reason(embedded, act, kind, words):
    id_ = submit(embedded.database, model(embedded), act)
    run_job(embedded, id_)
    row = jobs.find(embedded.database, id_)
    assert row.state == "failed"
    assert row.error["kind"] == kind
    assert words in row.error["message"]
    assert "the log" in row.error["log_tail"]
    assert jobs.artifacts(embedded.database, id_) == []
    assert embedded.objects.head(f"jobs/{id_}/log") is not None


def test_the_log_can_be_read_while_the_job_runs(worker):
    id_ = submit(worker.database, model(worker), "hang")
    running = threading.Thread(target=run_job, args=(worker, id_))
    running.start()
    try:
        assert eventually(lambda: worker.objects.head(f"jobs/{id_}/log") == len("the log\n"))
        assert jobs.find(worker.database, id_).state == "running"
    finally:
        jobs.request_cancel(worker.database, id_)
        running.join()
    assert jobs.find(worker.database, id_).state == "canceled"


def test_a_dropped_checkpoint_is_no_fault(embedded):
    id_ = submit(embedded.database, model(embedded), "checkpoint that is gone")
    run_job(embedded, id_)
    assert jobs.find(embedded.database, id_).state == "succeeded"


def test_a_job_whose_model_is_damaged_or_gone_fails(embedded):
    id_ = model(embedded)
    damaged = submit(embedded.database, id_, "work")
    embedded.folder.joinpath("other").write_bytes(b"rubbish")
    embedded.objects.put_file(f"blobs/{hashlib.sha256(b'weights').hexdigest()}", embedded.folder / "other")
    run_job(embedded, damaged)
    assert "damaged" in jobs.find(embedded.database, damaged).error["message"]
    gone = submit(embedded.database, model(embedded), "work")
    with embedded.database.write() as connection:  # no way of ours leads there: a deletion looks for jobs
        connection.execute(update(job).where(job.c.id == gone).values(model_id="mdl_GONE"))
    run_job(embedded, gone)
    assert jobs.find(embedded.database, gone).error["kind"] == "input-gone"


def test_a_job_that_is_not_to_be_had_is_left_alone(embedded):
    id_ = submit(embedded.database, model(embedded), "work")
    jobs.request_cancel(embedded.database, id_)
    run_job(embedded, id_)
    run_job(embedded, "job_NONE")
    assert jobs.find(embedded.database, id_).state == "canceled"


@pytest.fixture
def running(worker):
    """Starts an attempt in a thread and waits until its engine works; gives its family of processes too."""
    threads = []

    def begin(id_: str):
        thread = threading.Thread(target=run_job, args=(worker, id_))
        thread.start()
        threads.append(thread)
        assert eventually(lambda: "step_started" in kinds(worker, id_))
        return thread

    yield begin
    worker.stopping.set()
    for thread in threads:
        thread.join()


def test_a_cancel_ends_the_child_and_the_job(worker, running):
    id_ = submit(worker.database, model(worker), "checkpoint", "hang")
    thread = running(id_)
    assert eventually(lambda: worker.objects.list(f"jobs/{id_}/checkpoints"))
    jobs.request_cancel(worker.database, id_)
    thread.join(30)
    row = jobs.find(worker.database, id_)
    assert row.state == "canceled"
    assert worker.objects.list(f"jobs/{id_}/checkpoints") == {}
    assert worker.objects.head(f"jobs/{id_}/log") is not None


def test_a_lost_lease_ends_the_child_and_publishes_nothing(worker, running):
    id_ = submit(worker.database, model(worker), "hang")
    thread = running(id_)
    with worker.database.write() as connection:
        connection.execute(job.update().where(job.c.id == id_).values(attempt=2, worker="another"))
    thread.join(30)
    assert not thread.is_alive()
    row = jobs.find(worker.database, id_)
    assert (row.state, row.attempt, row.worker) == ("running", 2, "another")
    assert not list(worker.folder.iterdir())


def test_a_lease_is_renewed_for_as_long_as_it_takes(embedded_settings):
    short = embedded_settings.model_copy(update={"lease_seconds": 1.0, "renew_seconds": 0.2})
    with open_worker(short, ENGINE) as worker:
        id_ = submit(worker.database, model(worker), "hang")
        thread = threading.Thread(target=run_job, args=(worker, id_))
        thread.start()
        assert eventually(lambda: "step_started" in kinds(worker, id_))
        first = jobs.find(worker.database, id_).lease_until
        assert eventually(lambda: jobs.find(worker.database, id_).lease_until > first)
        jobs.request_cancel(worker.database, id_)
        thread.join(30)
        assert jobs.find(worker.database, id_).state == "canceled"


def test_a_worker_that_stops_leaves_the_job_to_another_with_its_checkpoints(worker, running, settings):
    id_ = submit(worker.database, model(worker), "checkpoint", "hang unless resumed")
    thread = running(id_)
    assert eventually(lambda: f"jobs/{id_}/checkpoints/0-stage/manifest.json" in worker.objects.list(f"jobs/{id_}"))
    worker.stopping.set()
    thread.join(30)
    assert jobs.find(worker.database, id_).state == "running"
    with worker.database.write() as connection:  # what time does
        connection.execute(job.update().where(job.c.id == id_).values(lease_until=leases.from_now(-1)))
    with open_worker(settings, ENGINE) as other:
        run_job(other, id_)
    row = jobs.find(worker.database, id_)
    assert (row.state, row.attempt) == ("succeeded", 2)
    assert [step.record["resumed"] for step in jobs.steps(worker.database, id_)] == [["0-stage"], ["0-stage"]]
