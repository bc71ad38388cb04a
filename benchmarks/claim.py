"""What every benchmark prints: one JSON line a claim; and where it keeps what it has measured, to resume there."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def claim(
    text: str, value: float, *, peer: float | None, target: str, met: bool, seeds: int, spread: Sequence[float] | None
) -> None:
    """`value` against `peer`, in the unit that `text` names; `spread`: lowest and highest over seeds or rounds."""
    shown = None if spread is None else [round(entry, 5) for entry in spread]
    line = {
        "claim": text,
        "value": round(value, 5),
        "peer": None if peer is None else round(peer, 5),
        "target": target,
        "met": met,
        "seeds": seeds,
        "spread": shown,
    }
    print(json.dumps(line), flush=True)


class Kept:
    """Measured pieces by key, in `out/benchmarks/NAME.jsonl`: a run that was cut off goes on after the last one."""

    def __init__(self, name: str) -> None:
        self.path = Path("out/benchmarks") / f"{name}.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        self.pieces: dict[str, Any] = {entry["key"]: entry["value"] for entry in map(json.loads, lines)}

    def measure(self, key: str, work: Callable[[], Any]) -> Any:
        if key not in self.pieces:
            self.pieces[key] = work()
            with self.path.open("a") as file:
                file.write(json.dumps({"key": key, "value": self.pieces[key]}) + "\n")
        return self.pieces[key]
