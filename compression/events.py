"""Events of a run: for people on a terminal, or one JSON object a line for the worker, and then a log beside them."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

UNLOGGED = frozenset({"progress", "done"})  # progress comes with every few batches, what is done is in the report


class Reporter:
    """Sends events to `stream`, as text or as JSON lines; these also as a log on stderr. `index` is the step that is
    running, if any."""

    def __init__(self, stream: TextIO | None = None, *, as_json: bool = False) -> None:
        self.stream = stream if stream is not None else sys.stderr
        self.as_json = as_json
        self.index: int | None = None

    def emit(self, event: str, **fields: Any) -> None:
        if self.as_json:
            self.stream.write(json.dumps({"event": event, **fields}, allow_nan=False) + "\n")
            if event not in UNLOGGED:
                print(f"{datetime.now(UTC):%H:%M:%S}  {_line(event, fields)}", file=sys.stderr, flush=True)
        else:
            self.stream.write(_line(event, fields) + "\n")
        self.stream.flush()

    def progress(self, fraction: float, message: str = "", **metrics: Any) -> None:
        """`fraction` of the running step, 0 to 1, with the metrics known at this moment."""
        self.emit("progress", index=self.index, fraction=round(fraction, 4), message=message, metrics=metrics)


def _line(event: str, fields: dict[str, Any]) -> str:
    shown = " ".join(f"{key}={_short(value)}" for key, value in fields.items() if not isinstance(value, dict))
    return f"{event:>14}  {shown}".rstrip()


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
