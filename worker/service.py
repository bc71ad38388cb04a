"""What a worker process holds: open stores, its name, its place on the disk, and how the engine is started here."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from celery import Celery

from store.database import Database, open_database
from store.doorbell import open_doorbell
from store.objects import Objects, open_objects
from store.settings import Settings
from worker.sandbox.box import Limits, Rung
from worker.sandbox.ladder import choose

ENGINE = (sys.executable, "-m", "compression")


@dataclass(frozen=True)
class Worker:
    """`name` is this process's alone, so that its leases are; `folder` too. `stopping`: set it and the running child is
    killed, its row left to the sweeper. `engine`: the command that speaks the child's contract."""

    settings: Settings
    database: Database
    objects: Objects
    doorbell: Celery
    name: str
    folder: Path
    rung: Rung
    engine: Sequence[str] = ENGINE
    stopping: Event = field(default_factory=Event)

    @property
    def limits(self) -> Limits:
        return Limits(memory_bytes=self.settings.memory_bytes, cpu_seconds=self.settings.cpu_seconds)

    @contextmanager
    def job_folder(self) -> Iterator[Path]:
        """A fresh folder for one child, with `inputs`, `out` and `tmp` (the box's) and `outgoing` (ours)."""
        path = self.folder / secrets.token_hex(8)
        for part in ("inputs", "out", "tmp", "outgoing"):
            path.joinpath(part).mkdir(parents=True)
        try:
            yield path
        finally:
            shutil.rmtree(path)


@contextmanager
def open_worker(settings: Settings, engine: Sequence[str] = ENGINE) -> Iterator[Worker]:
    """Opens the stores and finds the sandbox's rung. Raises NoSandbox."""
    rung = choose(settings)
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    database = open_database(settings)
    try:
        with _own_folder(settings.scratch, name) as folder:
            yield Worker(
                settings=settings,
                database=database,
                objects=open_objects(settings),
                doorbell=open_doorbell(settings),
                name=name,
                folder=folder,
                rung=rung,
                engine=engine,
            )
    finally:
        database.close()


@contextmanager
def _own_folder(scratch: Path, name: str) -> Iterator[Path]:
    """`scratch/worker-NAME`, locked while we live; folders whose worker is gone are removed first."""
    scratch.mkdir(parents=True, exist_ok=True)
    for left in scratch.glob("worker-*"):
        _remove_if_left(left)
    folder = scratch / f"worker-{name}"
    folder.mkdir(mode=0o700)
    lock = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder)
        os.close(lock)


def _remove_if_left(folder: Path) -> None:
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # another worker was faster
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)  # another worker may be at it too
    except BlockingIOError:  # its worker lives
        return
    finally:
        os.close(lock)
