"""A child's events on their way to the database: checked, thinned out, written in batches under the lease's fence."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from threading import Condition
from typing import Any

from store.database import Database
from store.leases import Lease
from store.outcomes import StepChange, record

Json = dict[str, Any]

MAX_WAITING = 500
KIND = re.compile(r"[a-z_]{1,40}")
OURS = frozenset({"state", "cancel_requested"})  # kinds that the store writes
LAST = frozenset({"done", "refused", "failed"})  # the child's last word, for the ending alone
PHASES = {"loading": "loading", "step_started": "steps", "exporting": "exporting", "measuring": "measuring"}


class Malformed(Exception):
    pass


class Journal:
    """`note` takes an event, from the thread that reads the child; `flush` writes what waits, from any thread.

    `times`: seconds by phase, told by when events came.
    """

    def __init__(self, database: Database, lease: Lease, step_count: int) -> None:
        self.times: dict[str, float] = defaultdict(float)
        self._database = database
        self._lease = lease
        self._step_count = step_count
        self._changed = Condition()
        self._open = True
        self._events: list[tuple[str, Json]] = []
        self._steps: list[StepChange] = []
        self._progress: Json | None = None
        self._phase = "starting"
        self._since = time.monotonic()
        self._step_since = self._since

    def note(self, event: Json) -> None:
        """Keeps an event; waits where the database can't follow. Raises Malformed."""
        kind = event["event"]
        if kind in LAST:
            self._enter("ending")
            return
        if kind in OURS or not KIND.fullmatch(kind):
            raise Malformed(f"an event of the kind {kind[:40]!r}")
        if kind in PHASES:
            self._enter(PHASES[kind])
        data = {name: value for name, value in event.items() if name != "event"}
        change = self._step_change(kind, data)
        with self._changed:
            self._changed.wait_for(lambda: len(self._events) < MAX_WAITING or not self._open)
            if change is not None:
                self._steps.append(change)
            if kind == "progress":
                self._progress = data
                if self._events and self._events[-1][0] == "progress":
                    self._events.pop()  # only the newest of several in a row
            self._events.append((kind, data))
            self._changed.notify_all()

    def _step_change(self, kind: str, data: Json) -> StepChange | None:
        if kind not in ("step_started", "step_finished"):
            return None
        index = data.get("index")
        if type(index) is not int or not 0 <= index < self._step_count:
            raise Malformed(f"{kind} of a step that isn't there: {str(index)[:40]}")
        if kind == "step_started":
            self._step_since = time.monotonic()
            return StepChange(index, "running")
        step_record = data.get("record")
        if not isinstance(step_record, dict):
            raise Malformed(f"{kind} without a record")
        seconds = step_record.get("seconds")  # the engine's own: a resumed step took its time in another attempt
        if not isinstance(seconds, int | float):
            seconds = time.monotonic() - self._step_since
        return StepChange(index, "finished", float(seconds), step_record)

    def _enter(self, phase: str) -> None:
        now = time.monotonic()
        self.times[self._phase] += now - self._since
        self._phase, self._since = phase, now

    def wait(self, seconds: float) -> None:
        """Until there is something to write, or `seconds` have gone."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._events) or not self._open, seconds)

    def close(self) -> None:
        """Nobody will flush any more: `note` no longer waits."""
        with self._changed:
            self._open = False
            self._changed.notify_all()

    def flush(self) -> None:
        """Writes what waits, in one transaction; it goes on waiting where that fails. Raises LeaseLost."""
        with self._changed:
            events, steps, progress = self._events[:], self._steps[:], self._progress
        if not events:
            return
        record(self._database, self._lease, events, steps, progress=progress)
        with self._changed:
            del self._steps[: len(steps)]
            self._drop(events)
            if self._progress is progress:
                self._progress = None
            self._changed.notify_all()

    def _drop(self, written: list[tuple[str, Json]]) -> None:
        count = len(written)
        if self._events[count - 1] is not written[-1]:  # a newer progress has taken the place of the last one
            count -= 1
        del self._events[:count]
