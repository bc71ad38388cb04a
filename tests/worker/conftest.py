"""A job's folder and the three rungs that hold on this machine."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from worker.child import Child
from worker.sandbox.box import Limits, Rung, engine_box, environment
from worker.sandbox.ladder import LADDER

GIB = 1024**3


@pytest.fixture(params=LADDER)
def rung(request) -> Rung:
    return request.param


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    job = tmp_path / "scratch" / "job"
    for name in ("inputs", "out", "tmp"):
        job.joinpath(name).mkdir(parents=True)
    job.joinpath("inputs", "model").write_bytes(b"model")
    return job


@pytest.fixture
def start(folder: Path, tmp_path: Path):
    """Starts Python code in a box of the given rung, as the worker starts the engine; ends what a test left running."""
    children: list[Child] = []

    def begin(
        rung: Rung, source: str, *arguments: str, limits: Limits | None = None, wall: float | None = None
    ) -> Child:
        box = engine_box(rung, folder, limits or Limits(memory_bytes=2 * GIB, cpu_seconds=60))
        command = [sys.executable, "-c", source, *arguments]
        child = Child(command, box, environment(folder, 1), tmp_path / "log", wall)
        children.append(child)
        return child

    yield begin
    for child in children:
        child.stop("shutdown")
        child.ending()
