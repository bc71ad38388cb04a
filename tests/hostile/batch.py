"""Inspects many files, each in a process of its own, without the start of an interpreter for each: they are forked off
one process (`python -m tests.hostile.batch`) that has imported everything, tried it once, and started no thread.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

SECONDS = 30
OWN_SECONDS = 6  # instead of the CLI's 20, so that what is built to take days doesn't keep the tests
AT_ONCE = 2
LONGEST_LINE = 4 << 20  # bytes; the worker takes no longer one


@dataclass
class Inspection:
    """`python -m compression inspect FILE --kind KIND --json` in a forked process."""

    file: str
    kind: str
    said: IO[bytes] = field(default_factory=tempfile.TemporaryFile)
    log: IO[bytes] = field(default_factory=tempfile.TemporaryFile)
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.pid = os.fork()
        if not self.pid:
            self._become_the_cli()
        self.ends = os.pidfd_open(self.pid)

    def _become_the_cli(self) -> None:
        """In the child alone; never returns."""
        from compression.__main__ import main

        status = 70
        try:
            os.dup2(self.said.fileno(), 1)
            os.dup2(self.log.fileno(), 2)
            status = main(["inspect", self.file, "--kind", self.kind, "--json"])
        except BaseException:  # noqa: BLE001 - a fork must not return
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stderr.flush()
            os._exit(status)

    def outcome(self, *, ended: bool) -> dict[str, object]:
        """Collects the child, which is killed where it hasn't ended."""
        if not ended:
            os.kill(self.pid, signal.SIGKILL)
        _, status, used = os.wait4(self.pid, 0)
        os.close(self.ends)
        events = _tail(self.said, LONGEST_LINE).splitlines()
        return {
            "file": self.file,
            "status": os.waitstatus_to_exitcode(status) if ended else None,
            "said": events[-1] if events else "",
            "log": _tail(self.log, 2000),
            "seconds": round(time.monotonic() - self.started, 3),
            "mebibytes": used.ru_maxrss // 1024,
        }


def _tail(file: IO[bytes], most: int) -> str:
    with file:
        start = max(os.fstat(file.fileno()).st_size - most, 0)
        return os.pread(file.fileno(), most, start).decode(errors="replace")


def run(files: Sequence[tuple[str, str]]) -> Iterator[dict[str, object]]:
    """Inspects each (file, kind), two at a time; the outcomes in the order in which they end."""
    waiting = list(reversed(files))
    running: dict[int, Inspection] = {}
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            inspection = Inspection(*waiting.pop())
            running[inspection.ends] = inspection
        ready, _, _ = select.select(list(running), [], [], 1)
        late = [end for end, one in running.items() if time.monotonic() - one.started > SECONDS]
        for end in {*ready, *late}:
            yield running.pop(end).outcome(ended=end in ready)


def inspect_all(sound: Path, files: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Of each (file, kind): the file, what the CLI said last, its exit status (None: it was ended after SECONDS), the
    seconds that took, and its peak resident memory in MiB, libraries included. `sound`: a model to begin with."""
    command = [sys.executable, "-m", "tests.hostile.batch", str(sound)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
    batch = subprocess.run(
        command, input=json.dumps(files), capture_output=True, text=True, env=environment, check=False
    )
    if batch.returncode:
        raise RuntimeError(batch.stderr[-4000:])
    return [json.loads(line) for line in batch.stdout.splitlines()]


def main() -> None:
    files = json.load(sys.stdin)
    import compression.__main__
    from compression.intake.inspect import inspect_file

    compression.__main__.INSPECT_SECONDS = OWN_SECONDS
    inspect_file(Path(sys.argv[1]))
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        raise RuntimeError("a process with threads can't be forked safely")
    for outcome in run(files):
        print(json.dumps(outcome), flush=True)


if __name__ == "__main__":
    main()
