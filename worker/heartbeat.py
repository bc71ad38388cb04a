"""Keeps a lease while its child works: renews it, heeds a cancel request, writes the journal; or ends the child."""

from __future__ import annotations

import logging
import time
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Self

from sqlalchemy.exc import DBAPIError

from store.leases import Lease, LeaseLost, cancel_requested, renew
from worker.child import Child, Reason
from worker.journal import Journal
from worker.service import Worker

FLUSH_SECONDS = 0.25
CANCEL_SECONDS = 1.0

log = logging.getLogger(__name__)


class MustStop(Exception):
    """The attempt has to end here, for `reason`."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


class Heartbeat:
    """A context manager around everything that is done under a lease. `child(…)` names the process to end."""

    def __init__(self, worker: Worker, lease: Lease, journal: Journal | None = None) -> None:
        self._worker = worker
        self._lease = lease
        self._journal = journal
        self._child: Child | None = None
        self._reason: Reason | None = None
        self._lock = Lock()
        self._done = Event()
        self._renewed = time.monotonic()
        self._looked = 0.0
        self._thread = Thread(target=self._beat, name="heartbeat")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        if self._journal is not None:
            self._journal.close()
        self._thread.join()

    def child(self, child: Child) -> None:
        """From now on the child is ended when the attempt must end."""
        with self._lock:
            self._child = child
            if self._reason is not None:
                child.stop(self._reason)

    def check(self) -> None:
        """Raises MustStop when the attempt must end."""
        if self._reason is not None:
            raise MustStop(self._reason)

    def _stop(self, reason: Reason) -> None:
        with self._lock:
            self._reason = reason
            if self._child is not None:
                self._child.stop(reason)
        if self._journal is not None:
            self._journal.close()

    def _beat(self) -> None:
        try:
            while not self._done.is_set() and self._reason is None:
                began = time.monotonic()
                self._once(began)
                self._done.wait(max(0.0, FLUSH_SECONDS - (time.monotonic() - began)))
                if self._journal is not None and not self._done.is_set():
                    self._journal.wait(FLUSH_SECONDS)
        finally:
            if not self._done.is_set() and self._reason is None:  # a fault of ours: nobody keeps the lease any more
                self._stop("lease-lost")

    def _once(self, began: float) -> None:
        worker, lease = self._worker, self._lease
        try:
            if worker.stopping.is_set():
                self._stop("shutdown")
            elif began - self._renewed >= worker.settings.renew_seconds:
                self._renew()
            elif began - self._looked >= CANCEL_SECONDS:
                self._looked = began
                if lease.kind == "job" and cancel_requested(worker.database, lease):
                    self._stop("canceled")
            if self._journal is not None and self._reason is None:
                self._journal.flush()
        except LeaseLost:
            log.warning("%s: the lease is lost", lease.id)
            self._stop("lease-lost")
        except DBAPIError as error:
            log.warning("%s: the database is away: %s", lease.id, error)
            if time.monotonic() - self._renewed >= worker.settings.lease_seconds:
                self._stop("lease-lost")  # by now someone else may have the row

    def _renew(self) -> None:
        if renew(self._worker.database, self._lease, self._worker.settings.lease_seconds):
            self._stop("canceled")
        self._renewed = time.monotonic()
