"""The sweeper's thread, in every worker's parent process: signs the worker in and sweeps, at once and then every
`sweep_seconds`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

from sqlalchemy.exc import DBAPIError

from store.doorbell import ring
from store.roster import sign_in, sign_out
from store.sweep import sweep
from worker.service import Worker

log = logging.getLogger(__name__)


@contextmanager
def sweeping(worker: Worker) -> Iterator[None]:
    """Sweeps for as long as the block runs."""
    done, settings = Event(), worker.settings

    def run() -> None:
        while not done.is_set():
            try:
                sign_in(worker.database, worker.name, settings.queues, settings.device, worker.rung)
                ring(worker.doorbell, sweep(worker.database, settings))
            except DBAPIError as error:
                log.warning("no sweep: the database is away: %s", error)
            done.wait(settings.sweep_seconds)

    thread = Thread(target=run, name="sweeper")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        with suppress(DBAPIError):  # then it is found to be gone by its silence
            sign_out(worker.database, worker.name)
