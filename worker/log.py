"""The child's log: its stderr in a file of bounded size that keeps the beginning and the end."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Thread

HEAD_BYTES = 8 * 1024**2
TAIL_BYTES = 1024**2
SHOWN_BYTES = 4000
CUT = b"\n[... %d bytes left out ...]\n"


class Log:
    """Reads `source` (a descriptor, closed at the end) in a thread of its own until its last writer is gone."""

    def __init__(self, source: int, path: Path) -> None:
        self.path = path
        self._source = source
        self._tail = b""
        self._thread = Thread(target=self._copy, name="log")
        self._thread.start()

    def _copy(self) -> None:
        written = skipped = 0
        with self.path.open("wb", buffering=0) as file, os.fdopen(self._source, "rb", buffering=0) as source:
            while chunk := source.read(1 << 16):
                head = chunk[: HEAD_BYTES - written]
                file.write(head)
                written += len(head)
                rest = chunk[len(head) :]
                self._tail = (self._tail + chunk)[-TAIL_BYTES:]
                skipped += len(rest)
            if skipped:
                late = self._tail[-skipped:]
                file.write(CUT % (skipped - len(late)) + late if skipped > len(late) else late)

    def close(self) -> None:
        """Waits for the end of the source: its writers must be gone."""
        self._thread.join()

    def tail(self) -> str:
        """The last lines, for an error's record."""
        return self._tail[-SHOWN_BYTES:].decode("utf-8", "replace")
