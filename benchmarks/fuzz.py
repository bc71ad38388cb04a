"""`python -m benchmarks.fuzz --minutes N [--seed S] [--format NAME]`: changed files of every format, each inspected in
a process of its own.

One JSON line a format: files tried, refused, accepted, and what must not be: `crashes` (any other end), `slow` (no end
within 30 s) and `large` (more than 1 GiB of memory), with the seeds that make those files again:
`tests.hostile.mutations.FORMATS[NAME].mutated(Random(SEED))`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from tests.hostile.batch import inspect_all
from tests.hostile.mutations import FORMATS
from tests.hostile.valid import pt2

CHUNK = 300
MEBIBYTES = 1024
SOUND = "sound.pt2"


def fuzz(name: str, seconds: float, seed: int, folder: Path) -> dict[str, object]:
    """Tries files of one format until the time is over."""
    changed = FORMATS[name]
    counts: Counter[str] = Counter()
    seeds: dict[str, list[int]] = {"crash": [], "slow": [], "large": []}
    kinds: Counter[str] = Counter()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        made = {}
        for number in range(seed, seed + CHUNK):
            path = folder / str(number - seed) / changed.filename
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(changed.mutated(Random(number)))
            made[str(path)] = number
        seed += CHUNK
        for outcome in inspect_all(folder / SOUND, [(path, changed.kind) for path in made]):
            ended, kind = _judge(outcome)
            counts[ended] += 1
            kinds.update([kind] if kind else [])
            if ended in seeds:
                seeds[ended].append(made[outcome["file"]])
    return {
        "format": name,
        "files": counts.total(),
        "refused": counts["refused"],
        "accepted": counts["accepted"],
        "kinds": dict(kinds.most_common()),
        **{name: numbers for name, numbers in seeds.items() if numbers},
        "crashes": counts["crash"] + counts["slow"] + counts["large"],
    }


def _judge(outcome: dict[str, Any]) -> tuple[str, str]:
    """How the inspection ended, and the kind of a refusal."""
    try:
        last = json.loads(outcome["said"] or "{}")
    except ValueError:
        return "crash", ""
    if outcome["status"] is None:
        return "slow", ""
    if outcome["mebibytes"] > MEBIBYTES:
        return "large", ""
    if outcome["status"] == 2 and last.get("event") == "refused":
        return "refused", last["error"]["kind"]
    return ("accepted", "") if outcome["status"] == 0 and last.get("event") == "done" else ("crash", "")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz")
    parser.add_argument("--minutes", type=float, default=6, help="of all formats together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--format", choices=list(FORMATS), action="append", help="only these")
    options = parser.parse_args()
    names = options.format or list(FORMATS)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / SOUND).write_bytes(pt2())
        for name in names:
            print(json.dumps(fuzz(name, options.minutes * 60 / len(names), options.seed, Path(folder))), flush=True)


if __name__ == "__main__":
    main()
