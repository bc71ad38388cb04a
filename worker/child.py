"""The engine's process, from outside: starts it in its box, reads its events, ends it, and tells how it ended.

The child isn't trusted: lines are bounded, what they say is checked where it is used, and its exit status is not
believed without the event that belongs to it. Never imports torch.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Any, Literal, Self

from worker import untrusted_json
from worker.log import Log
from worker.sandbox.box import Box
from worker.sandbox.ladder import launch_command
from worker.watch import family, usage

MAX_LINE_BYTES = 4 * 1024**2
MAX_EVENTS = 200_000
MAX_BYTES = 256 * 1024**2
WATCH_SECONDS = 0.5
GONE_SECONDS = 10.0  # a killed process has to give its memory back first
OUT_OF_MEMORY = (
    "MemoryError",
    "can't allocate memory",
    "std::bad_alloc",
    "CUDA out of memory",
    "Cannot allocate memory",
)

Json = dict[str, Any]
Reason = Literal["canceled", "lease-lost", "shutdown"]
StopReason = Literal[Reason, "out-of-memory", "too-many-processes", "time-limit", "protocol"]


@dataclass(frozen=True)
class Done:
    """The child did what was asked; its last event."""

    event: Json


@dataclass(frozen=True)
class Failed:
    """It came to nothing, by its own fault: {"kind", "message", "where", "log_tail"}."""

    error: Json


@dataclass(frozen=True)
class Stopped:
    """It was ended by us, for a reason that is no fault of the child."""

    reason: Reason


Ending = Done | Failed | Stopped


class Child:
    """One run of `command` in `box`, a context manager: nothing lives on behind it. Iterate over `events()` to the end,
    then ask for the `ending()`.

    `stop` may come from any thread, at any time; the whole group is gone then, and `events()` ends.
    """

    def __init__(
        self,
        command: Sequence[str],
        box: Box,
        environment: Mapping[str, str],
        log_path: Path,
        wall_seconds: float | None = None,
    ) -> None:
        self._box = box
        self._deadline = None if wall_seconds is None else time.monotonic() + wall_seconds
        self._stopped: tuple[StopReason, str] | None = None
        self._last: Json = {}
        self._lock = Lock()
        self._ended = Event()
        self._killed: list[int] = []  # descriptors of the processes that `stop` has killed
        events, events_end = os.pipe()
        log, log_end = os.pipe()
        try:
            self._process = subprocess.Popen(
                launch_command(box, command),
                env=dict(environment),
                stdin=subprocess.PIPE,  # held open: its end tells the child that we are gone
                stdout=events_end,
                stderr=log_end,
                start_new_session=True,
            )
        finally:
            os.close(events_end)
            os.close(log_end)
        self._stdout = os.fdopen(events, "rb")
        self.log = Log(log, log_path)
        self._watcher = Thread(target=self._watch, name="watch")
        self._watcher.start()

    @property
    def launcher(self) -> int:
        """The process id at the head of the family (and of its group)."""
        return self._process.pid

    def stop(self, reason: StopReason, message: str = "") -> None:
        """Kills the whole group at once. The first reason given counts."""
        with self._lock:
            if self._stopped is None:
                self._stopped = (reason, message)
            if not self._ended.is_set():
                if not self._killed:
                    self._killed = _opened(family(self._process.pid)[1:])
                self._kill_group()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop("shutdown")
        self.ending()

    def events(self) -> Iterator[Json]:
        """What the child says, one object with an "event" at a time, until it ends or breaks the rules."""
        count = size = 0
        while line := self._stdout.readline(MAX_LINE_BYTES + 1):
            count += 1
            size += len(line)
            if not line.endswith(b"\n") and len(line) <= MAX_LINE_BYTES:
                break  # cut off by the child's end, which has a reason of its own
            event = _parse(line)
            if event is None:
                self.stop("protocol", f"the engine's process sent a malformed line: {line[:200]!r}")
            elif count > MAX_EVENTS or size > MAX_BYTES:
                self.stop("protocol", "the engine's process sent too many events")
            if event is None or self._stopped is not None:
                break
            self._last = event
            yield event

    def ending(self) -> Ending:
        """Waits until all of the group is gone and tells how it ended; `events()` must have been read to its end."""
        self._watcher.join()
        code = self._process.wait()
        if not self._stdout.closed:
            while self._stdout.read(1 << 20):
                pass
            self._stdout.close()
        self.log.close()
        with self._lock:
            killed, self._killed = self._killed, []
            _until_gone(killed)
            if self._stopped is not None:
                reason, message = self._stopped
                if reason == "canceled" or reason == "lease-lost" or reason == "shutdown":
                    return Stopped(reason)
                return Failed(self._error(reason, message))
        return self._judge(code)

    def _judge(self, code: int) -> Ending:
        kind = self._last.get("event")
        if code == 0 and kind == "done":
            return Done(self._last)
        given = self._last.get("error")
        if (code, kind) in ((2, "refused"), (3, "failed")) and isinstance(given, dict):
            error = {name: str(given.get(name, ""))[:4000] for name in ("kind", "message", "where")}
            return Failed({**error, "log_tail": self.log.tail()})
        return Failed(self._crash(code))

    def _crash(self, code: int) -> Json:
        number = -code if code < 0 else code - 128
        tail = self.log.tail()
        memory = f"the engine's process ran out of memory (limit {self._box.limits.memory_bytes / 1024**3:.1f} GiB)"
        if any(text in tail for text in OUT_OF_MEMORY):
            return self._error("out-of-memory", memory)
        if number == signal.SIGKILL:
            return self._error(
                "killed", "the engine's process was killed from outside: the machine ran out of memory, most likely"
            )
        if number == signal.SIGXCPU:
            return self._error("time-limit", f"it used up its {self._box.limits.cpu_seconds} s of processor time")
        if 0 < number < signal.NSIG:
            return self._error("crashed", f"the engine's process was ended by {signal.Signals(number).name}")
        return self._error("crashed", f"the engine's process ended with status {code} before it was done")

    def _error(self, kind: str, message: str) -> Json:
        return {"kind": kind, "message": message, "where": "", "log_tail": self.log.tail()}

    def _watch(self) -> None:
        """Until the launcher ends: holds the family to its limits. Then kills whoever is left of the group."""
        limits = self._box.limits
        while not _ended(self._process.pid, WATCH_SECONDS):
            used = usage(self._process.pid)
            if used.memory_bytes > limits.memory_bytes:
                self.stop(
                    "out-of-memory", f"its processes held more than {limits.memory_bytes / 1024**3:.1f} GiB together"
                )
            elif used.processes > limits.processes:
                self.stop("too-many-processes", f"it had more than {limits.processes} processes at once")
            elif self._deadline is not None and time.monotonic() > self._deadline:
                self.stop("time-limit", "it took longer than it may")
        with self._lock:
            # Not collected yet, so the group's number can't have passed to strangers.
            self._kill_group()
            self._ended.set()
            self._process.communicate()  # collects it and closes our end of its stdin

    def _kill_group(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)


def _ended(pid: int, seconds: float) -> bool:
    """Whether our child `pid` ended within `seconds`; it stays uncollected."""
    descriptor = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
    finally:
        os.close(descriptor)


def _opened(pids: Sequence[int]) -> list[int]:
    """A descriptor of each process that is still there: it can't come to mean another one."""
    found = []
    for pid in pids:
        with suppress(ProcessLookupError):
            found.append(os.pidfd_open(pid))
    return found


def _until_gone(descriptors: Sequence[int]) -> None:
    """Waits until these processes have ended, and closes their descriptors. Killed ones end, sooner or later."""
    until = time.monotonic() + GONE_SECONDS
    for descriptor in descriptors:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.poll(max(0.0, until - time.monotonic()) * 1000)
        os.close(descriptor)


def _parse(line: bytes) -> Json | None:
    """An event, or None for what isn't one: a cut or overlong line, no JSON, no object, no name."""
    if not line.endswith(b"\n"):
        return None
    try:
        value = untrusted_json.parse(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) and isinstance(value.get("event"), str) else None
