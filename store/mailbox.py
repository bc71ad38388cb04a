"""Celery's filesystem transport, made safe for several processes: a message appears and is taken in one instant.

kombu's own writes into the visible file, so that a reader may take it half-written and stop on it; and it moves what it
takes to the system's temporary folder, a copy where that is another file system.
"""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, filesystem

SCHEME = "mailbox"
TRANSPORT_ALIASES[SCHEME] = f"{__name__}:Transport"


class Channel(filesystem.Channel):
    """Messages are files `TIME_UUID.QUEUE.msg` in one folder; the oldest goes first."""

    @property
    def folder(self) -> Path:
        return Path(self.data_folder_in)

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        """Nothing is bound: the default exchange, the only one used, finds a queue by its name."""

    def _put(self, queue: str, payload: Any, **_kwargs: Any) -> None:  # type: ignore[override] # as kombu's own
        name = f"{time.time_ns():020d}_{uuid.uuid4().hex}"
        unseen = self.folder / f"{name}.new"
        unseen.write_text(json.dumps(payload))
        unseen.rename(self.folder / f"{name}.{queue}.msg")

    def _get(self, queue: str, timeout: float | None = None) -> Any:  # noqa: ARG002 - kombu's signature
        for path in sorted(self.folder.glob(f"*.{queue}.msg")):
            taken = path.with_suffix(".taken")
            try:
                path.rename(taken)
            except FileNotFoundError:  # another process was faster
                continue
            text = taken.read_text()
            taken.unlink()
            return json.loads(text)
        raise Empty


class Transport(filesystem.Transport):
    Channel = Channel
