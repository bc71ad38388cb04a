"""SIGKILL of a worker in mid-job: no orphan, nothing lost, and the resumed job delivers the same bytes."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from store.settings import Settings
from tests.e2e.conftest import Files, api, artifacts, content, process, submit, upload, wait

STEPS = [
    {"method": "prune.structured", "macs_ratio": 0.5, "rounds": 4, "finetune": {"epochs": 8, "batch_size": 16}},
    {"method": "finetune", "training": {"epochs": 10, "batch_size": 16}},
]
CANCELLED_STEPS = [{"method": "finetune", "training": {"epochs": 1000, "batch_size": 1}}]


def descendants(pid: int) -> set[int]:
    """All processes below `pid`, from /proc."""
    children: dict[int, set[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(parent, set()).add(int(entry.name))
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        for child in children.get(waiting.pop(), set()) - found:
            found.add(child)
            waiting.append(child)
    return found


def alive(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for_event(client: httpx.Client, job: str, kind: str, count: int = 1) -> None:
    for _ in range(1200):
        items = client.get(f"/v1/jobs/{job}/events", headers={"Accept": "application/json"}).json()["items"]
        if sum(item["kind"] == kind for item in items) >= count:
            return
        assert client.get(f"/v1/jobs/{job}").json()["state"] in {"queued", "running"}
        time.sleep(0.05)
    raise AssertionError(f"no event {kind}")


@pytest.mark.parametrize("kind", ["embedded", "production"])
def test_a_killed_worker_loses_nothing(kind: str, files: Files, request: pytest.FixtureRequest) -> None:
    given: Settings = request.getfixturevalue(f"{kind}_settings")
    settings = given.model_copy(update={"lease_seconds": 3.0, "renew_seconds": 1.0, "sweep_seconds": 0.5})
    with ExitStack() as stack:
        stack.enter_context(process(settings, "worker", "run", "--queues", "inspect"))
        client = stack.enter_context(api(settings))
        model, data = upload(client, "models", files.model), upload(client, "datasets", files.data)
        spec = {"model": model, "dataset": data, "steps": STEPS}
        first = stack.enter_context(process(settings, "worker", "run", "--queues", "cpu"))

        job = submit(client, spec)
        wait_for_event(client, job, "checkpoint", count=3)
        below = descendants(first.pid)
        assert below, "the engine runs in a process of its own"
        os.kill(first.pid, signal.SIGKILL)
        first.wait(10)
        until = time.monotonic() + 5
        while any(map(alive, below)) and time.monotonic() < until:
            time.sleep(0.05)
        assert not [pid for pid in below if alive(pid)], "an orphan lives on"

        stack.enter_context(process(settings, "worker", "run", "--queues", "cpu"))
        row = wait(client, job)
        assert row["state"] == "succeeded", row
        assert row["attempt"] == 2
        undisturbed = submit(client, spec)
        assert wait(client, undisturbed)["attempt"] == 1
        files_of = [
            {name: content(client, item) for name, item in artifacts(client, identity).items() if "model" in name}
            for identity in (job, undisturbed)
        ]
        assert len(files_of[0]) == 3
        assert files_of[0] == files_of[1]


def test_cancel_ends_the_engine(embedded_settings: Settings, files: Files) -> None:
    with ExitStack() as stack:
        for queue in ("inspect", "cpu"):
            worker = stack.enter_context(process(embedded_settings, "worker", "run", "--queues", queue))
        client = stack.enter_context(api(embedded_settings))
        model, data = upload(client, "models", files.model), upload(client, "datasets", files.data)
        job = submit(client, {"model": model, "dataset": data, "steps": CANCELLED_STEPS})
        wait_for_event(client, job, "progress")
        below = descendants(worker.pid)
        assert below
        assert client.post(f"/v1/jobs/{job}/cancel").status_code in {200, 202}
        assert wait(client, job, seconds=20)["state"] == "canceled"
        assert not [pid for pid in below if alive(pid)]
        retried = client.post(f"/v1/jobs/{job}/retry")
        assert retried.status_code == 202
        assert retried.json()["retry_of"] == job
        client.post(f"/v1/jobs/{retried.json()['id']}/cancel")
