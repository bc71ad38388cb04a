"""A running job's log in the object store, as far as it has come, for those who watch."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Self

from store.objects import Objects, ObjectsAway
from worker.heartbeat import Heartbeat, MustStop

PUT_SECONDS = 2.0

log = logging.getLogger(__name__)


class LiveLog:
    """A context manager around a child's run. In a thread of its own: a store that is slow must not cost the lease."""

    def __init__(self, objects: Objects, key: str, path: Path, heartbeat: Heartbeat) -> None:
        self._objects = objects
        self._key = key
        self._path = path
        self._heartbeat = heartbeat
        self._done = Event()
        self._thread = Thread(target=self._copy, name="live-log")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _copy(self) -> None:
        put = 0
        still = self._path.with_name("log-so-far")  # the log may grow while it is sent
        while not self._done.wait(PUT_SECONDS):
            size = self._path.stat().st_size
            if size == put:
                continue
            try:
                self._heartbeat.check()
                shutil.copyfile(self._path, still)
                self._objects.put_file(self._key, still)
            except MustStop:
                return
            except ObjectsAway as error:
                log.warning("the log is not stored for now: %s", error)
            else:
                put = size
