"""A running job's log in the object store, as far as it has come, for those who watch."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from store.objects import Objects, ObjectsAway
from worker.heartbeat import Heartbeat, MustStop

PUT_SECONDS = 2.0

log = logging.getLogger(__name__)


@contextmanager
def live_log(objects: Objects, key: str, path: Path, heartbeat: Heartbeat) -> Iterator[None]:
    """Around a child's run. In a thread of its own: a store that is slow must not cost the lease."""
    done = Event()
    thread = Thread(target=_copy, args=(objects, key, path, heartbeat, done), name="live-log")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _copy(objects: Objects, key: str, path: Path, heartbeat: Heartbeat, done: Event) -> None:
    put = 0
    still = path.with_name("log-so-far")  # the log may grow while it is sent
    while not done.wait(PUT_SECONDS):
        size = path.stat().st_size
        if size == put:
            continue
        try:
            heartbeat.check()
            shutil.copyfile(path, still)
            objects.put_file(key, still)
        except MustStop:
            return
        except ObjectsAway as error:
            log.warning("the log is not stored for now: %s", error)
        else:
            put = size
