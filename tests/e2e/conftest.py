"""A whole service for a test: API, a job worker and an inspector, each a process of its own, on real servers."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from store.settings import Settings
from tests import servers

FINISHED = {"succeeded", "failed", "canceled"}


class Small(nn.Module):
    """What a user might bring: convolutions with batch norm, a residual connection and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(12, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 12, 3, padding=1))
        self.pool, self.head = nn.MaxPool2d(2), nn.Linear(12 * 16, 5)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        x = torch.relu(x + self.body(x))
        scores: Tensor = self.head(torch.flatten(self.pool(x), 1))
        return scores


@dataclass(frozen=True)
class Files:
    model: Path
    data: Path
    test_images: Any
    test_labels: Any


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A model exported with torch.export and data for it: five patterns under noise."""
    folder = tmp_path_factory.mktemp("upload")
    torch.manual_seed(0)
    module = Small().eval()
    example = torch.zeros(2, 1, 8, 8)
    program = torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, folder / "model.pt2")
    random = np.random.default_rng(0)
    patterns = random.normal(size=(5, 1, 8, 8))
    y = np.arange(600) % 5
    x = (patterns[y] + 0.5 * random.normal(size=(600, 1, 8, 8))).astype(np.float32)
    arrays: dict[str, Any] = {
        "image_train": x[:400],
        "y_train": y[:400],
        "image_validation": x[400:500],
        "y_validation": y[400:500],
    }
    np.savez(folder / "data.npz", image_test=x[500:], y_test=y[500:], **arrays)
    return Files(folder / "model.pt2", folder / "data.npz", x[500:], y[500:])


@contextmanager
def process(settings: Settings, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m …` with these settings, its output in the data folder; ended at the end."""
    name = "-".join(part.strip("-") for part in command if part.isascii())[:60].replace("/", "_").replace(":", "_")
    with (settings.data_dir / f"{name}.log").open("ab") as log:
        started = subprocess.Popen(
            [sys.executable, "-m", *command], env=servers.environment(settings), stdout=log, stderr=log
        )
    try:
        yield started
    finally:
        started.send_signal(signal.SIGTERM)
        try:
            started.wait(15)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait(15)


@contextmanager
def api(settings: Settings) -> Iterator[httpx.Client]:
    (port,) = servers.free_ports(1)
    with ExitStack() as stack:
        stack.enter_context(process(settings, "uvicorn", "--factory", "api.app:create_app", "--port", str(port)))
        client = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False))
        wait_for_api(client)
        yield client


def wait_for_api(client: httpx.Client) -> None:
    for _ in range(400):
        try:
            if client.get("/livez").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError("the API doesn't answer")


def upload(client: httpx.Client, kind: str, path: Path, **query: str) -> str:
    """Uploads a file and waits for its inspection; the id."""
    answer = client.post(f"/v1/{kind}", params={"filename": path.name, **query}, content=path.read_bytes())
    assert answer.status_code == 201, answer.text
    identity: str = answer.json()["id"]
    for _ in range(600):
        row = client.get(f"/v1/{kind}/{identity}").json()
        if row["state"] != "inspecting":
            assert row["state"] == "ready", row
            return identity
        time.sleep(0.1)
    raise AssertionError("never inspected")


def submit(client: httpx.Client, spec: dict[str, Any]) -> str:
    answer = client.post("/v1/jobs", json=spec)
    assert answer.status_code == 202, answer.text
    job: str = answer.json()["id"]
    return job


def wait(client: httpx.Client, job: str, seconds: float = 240) -> dict[str, Any]:
    """The job's row when it has ended."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        row: dict[str, Any] = client.get(f"/v1/jobs/{job}").json()
        if row["state"] in FINISHED:
            return row
        time.sleep(0.1)
    raise AssertionError(f"{job} is {row['state']} after {seconds} s: {row}")


def artifacts(client: httpx.Client, job: str) -> dict[str, dict[str, Any]]:
    return {item["name"]: item for item in client.get(f"/v1/jobs/{job}/artifacts").json()["items"]}


def content(client: httpx.Client, artifact: dict[str, Any]) -> bytes:
    answer = client.get(f"/v1/artifacts/{artifact['id']}/content")
    assert answer.status_code == 200
    return answer.content
