"""The sweeper's thread, in every worker's parent process: at once, and then every `sweep_seconds`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

from sqlalchemy.exc import DBAPIError

from store.doorbell import ring
from store.sweep import sweep
from worker.service import Worker

log = logging.getLogger(__name__)


@contextmanager
def sweeping(worker: Worker) -> Iterator[None]:
    """Sweeps for as long as the block runs."""
    done = Event()

    def run() -> None:
        while not done.is_set():
            try:
                ring(worker.doorbell, sweep(worker.database, worker.settings))
            except DBAPIError as error:
                log.warning("no sweep: the database is away: %s", error)
            done.wait(worker.settings.sweep_seconds)

    thread = Thread(target=run, name="sweeper")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
