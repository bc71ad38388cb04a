"""Real worker processes: taken from the queue, killed with -9, replaced; and what must not be in them."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from store import jobs
from store.database import open_database
from store.doorbell import job_rings, open_doorbell, ring, upload_ring
from store.objects import open_objects
from tests.servers import environment
from tests.worker.processes import alive, eventually
from tests.worker.rows import row, submit, upload
from worker.watch import family

ROOT = Path(__file__).parents[2]


class Service:
    """The stores of a service and the worker processes that a test starts on them."""

    def __init__(self, settings, folder: Path) -> None:
        self.settings = settings.model_copy(
            update={"lease_seconds": 2.0, "renew_seconds": 0.5, "sweep_seconds": 0.5, "ring_again_seconds": 1.0}
        )
        self.database = open_database(self.settings)
        self.objects = open_objects(self.settings)
        self.doorbell = open_doorbell(self.settings)
        self.folder = folder
        self.processes: list[subprocess.Popen] = []

    def start(self, *queues: str) -> subprocess.Popen:
        variables = environment(self.settings) | {"NIWAKI_QUEUES": ",".join(queues)}
        with self.folder.joinpath(f"worker-{len(self.processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.worker.standin"], env=variables, cwd=ROOT, stdout=log, stderr=log
            )
        self.processes.append(process)
        return process

    def job(self, *play: str, **changes) -> str:
        model = upload(self.database, self.objects, "model", b"weights")
        id_ = submit(self.database, model, *play, **changes)
        assert ring(self.doorbell, job_rings(id_, "auto", ()))
        return id_

    def state(self, id_: str) -> str:
        return jobs.find(self.database, id_).state

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        self.doorbell.close()
        self.database.close()


@pytest.fixture
def service(settings, tmp_path):
    opened = Service(settings, tmp_path)
    yield opened
    opened.end()


@pytest.fixture
def embedded(embedded_settings, tmp_path):
    opened = Service(embedded_settings, tmp_path)
    yield opened
    opened.end()


def test_jobs_and_inspections_come_through_the_queue(service):
    service.start("cpu", "inspect")
    id_ = service.job("work")
    model = upload(service.database, service.objects, "model", b"weights")
    assert ring(service.doorbell, [upload_ring("model", model)])
    assert eventually(lambda: service.state(id_) == "succeeded")
    assert eventually(lambda: row(service.database, "model", model).state == "ready")


def test_a_killed_worker_leaves_nobody_and_its_job_goes_on_elsewhere(service):
    first = service.start("cpu")
    id_ = service.job("checkpoint", "hang unless resumed")
    manifest = f"jobs/{id_}/checkpoints/0-stage/manifest.json"
    assert eventually(lambda: manifest in service.objects.list(f"jobs/{id_}"))
    members = family(first.pid)
    assert len(members) >= 3  # worker, launcher, engine
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert eventually(lambda: not any(alive(pid) for pid in members[1:]))
    service.start("cpu")
    assert eventually(lambda: service.state(id_) == "succeeded")
    assert jobs.find(service.database, id_).attempt == 2
    assert jobs.steps(service.database, id_)[1].record["resumed"] == ["0-stage"]
    assert len(jobs.artifacts(service.database, id_)) == 2
    scratch = service.settings.scratch
    assert len(list(scratch.glob("worker-*"))) == 1  # the dead one's folder is gone


def test_a_job_that_kills_every_worker_fails_at_last(embedded):
    id_ = embedded.job("hang", max_attempts=1)
    worker = embedded.start("cpu")
    assert eventually(lambda: any(event.kind == "started" for event in jobs.events(embedded.database, id_)))
    worker.kill()
    embedded.start("inspect")  # whoever sweeps
    assert eventually(lambda: embedded.state(id_) == "failed")
    assert jobs.find(embedded.database, id_).error["kind"] == "worker_lost"


def test_no_job_waits_behind_a_long_one_while_another_worker_is_free(service):
    """The sweeper would ring again, so it is kept from doing so: the message itself has to reach the free worker."""
    service.settings = service.settings.model_copy(update={"ring_again_seconds": 3600.0})
    service.start("cpu")
    long = service.job("hang")
    assert eventually(lambda: service.state(long) == "running")
    quick = service.job("work")
    service.start("cpu")
    assert eventually(lambda: service.state(quick) == "succeeded")
    assert service.state(long) == "running"


def test_sigterm_ends_the_child_and_the_worker(embedded):
    worker = embedded.start("cpu")
    id_ = embedded.job("hang")
    assert eventually(lambda: any(event.kind == "started" for event in jobs.events(embedded.database, id_)))
    members = family(worker.pid)
    worker.terminate()
    assert worker.wait(30) == 0
    assert eventually(lambda: not any(alive(pid) for pid in members))
    assert not list(embedded.settings.scratch.glob("worker-*"))


def test_a_lost_message_loses_nothing(embedded):
    model = upload(embedded.database, embedded.objects, "model", b"weights")
    id_ = submit(embedded.database, model, "work")  # and nobody rings
    embedded.start("cpu")
    assert eventually(lambda: embedded.state(id_) == "succeeded")


def test_the_workers_process_never_imports_torch():
    source = """import sys, worker.tasks, worker.supervisor, worker.__main__
heavy = {"torch", "numpy", "onnx", "onnxruntime", "safetensors"} & set(sys.modules)
assert not heavy, heavy"""
    subprocess.run([sys.executable, "-c", source], check=True, cwd=ROOT)


def test_a_machine_that_cannot_lock_the_engine_in_takes_no_jobs(embedded):
    broken = embedded.folder / "bin"
    broken.mkdir()
    broken.joinpath("bwrap").write_text("#!/bin/sh\nexit 1\n")
    broken.joinpath("bwrap").chmod(0o755)
    variables = environment(embedded.settings) | {"NIWAKI_SANDBOX": "bubblewrap"}
    variables["PATH"] = f"{broken}:{variables['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "worker", "run"], env=variables, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "can't be locked in" in done.stderr
