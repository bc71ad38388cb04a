"""The process that tries a model: reads what to do on stdin, bounds itself, answers one JSON object on stdout."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from compression.intake.onnx.runtime import ORT_ERRORS, open_reference, run_bounded

_OUT_OF_MEMORY = ("bad_alloc", "bad allocation", "out of memory", "Failed to allocate", "AllocateRaw")


def main() -> None:
    asked = json.loads(sys.stdin.read())
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes elsewhere
    json.dump(tried(asked), answers)
    answers.close()


def tried(asked: dict[str, Any]) -> dict[str, str]:
    """{} if the model ran; else what failed: "session", "run", "time" or "memory"."""
    used = _data_bytes()
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    limit = used + asked["memory"]
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard < 0 else min(limit, hard), hard))
    start = time.monotonic()
    stage = "session"
    try:
        session = open_reference(Path(asked["path"]))
        stage = "run"
        random = np.random.default_rng(0)
        feed = {entry["name"]: _drawn(entry, random) for entry in asked["inputs"]}
        run_bounded(session, feed, max(asked["seconds"] - (time.monotonic() - start), 0.1))
    except MemoryError:
        return {"failed": "memory", "message": "out of memory"}
    except ORT_ERRORS as error:
        whole = str(error)
        message = whole[:300]
        if any(sign in whole for sign in _OUT_OF_MEMORY):
            return {"failed": "memory", "message": message}
        if time.monotonic() - start >= asked["seconds"] - 0.5 or "terminate flag" in whole:
            return {"failed": "time", "message": message}
        return {"failed": stage, "message": message}
    return {}


def _drawn(entry: dict[str, Any], random: np.random.Generator) -> Any:
    dtype = np.dtype(entry["dtype"])
    if dtype.kind == "f":
        return random.standard_normal(entry["shape"]).astype(dtype)
    return random.integers(0, 2, entry["shape"]).astype(dtype)


def _data_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    main()
