"""Events of a run: for people on a terminal, or one JSON object a line for the worker."""

from __future__ import annotations

import json
import sys
from typing import Any, TextIO


class Reporter:
    """Sends events to `stream`, as JSON lines or as text. `index` is the step that is running, if any."""

    def __init__(self, stream: TextIO | None = None, *, as_json: bool = False) -> None:
        self.stream = stream if stream is not None else sys.stderr
        self.as_json = as_json
        self.index: int | None = None

    def emit(self, event: str, **fields: Any) -> None:
        if self.as_json:
            self.stream.write(json.dumps({"event": event, **fields}, allow_nan=False) + "\n")
        else:
            shown = " ".join(f"{key}={_short(value)}" for key, value in fields.items() if not isinstance(value, dict))
            self.stream.write(f"{event:>14}  {shown}\n")
        self.stream.flush()

    def progress(self, fraction: float, message: str = "", **metrics: Any) -> None:
        """`fraction` of the running step, 0 to 1, with the metrics known at this moment."""
        self.emit("progress", index=self.index, fraction=round(fraction, 4), message=message, metrics=metrics)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
