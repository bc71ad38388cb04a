"""Peak memory of loading and running an `.onnx` file, in a process of its own.

Use: `python -m compression.measure.footprint FILE [SHAPES]`, where SHAPES is JSON: {INPUT: [lengths of one sample]}.

The figure is the resident high-water mark after loading and three runs at batch 1 (or the file's own batch), less the
mark before, when the interpreter has imported ONNX Runtime and nothing else.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from compression.measure.runtime import Shapes, open_session, random_inputs, static_batch


def peak_bytes(path: Path, shapes: Shapes | None = None) -> int | None:
    """Bytes that loading and running `path` adds to a fresh process; None where the system doesn't tell (no Linux)."""
    source = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "compression.measure.footprint", str(path.resolve()), json.dumps(shapes)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(source)},
    )
    answer: int | None = json.loads(done.stdout)["peak_bytes"]
    return answer


def high_water_bytes() -> int | None:
    """This process's resident high-water mark. `getrusage` would start at that of the parent that forked."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def main() -> None:
    before = high_water_bytes()
    session = open_session(Path(sys.argv[1]))
    shapes = json.loads(sys.argv[2]) if len(sys.argv) > 2 else None
    inputs = random_inputs(session, static_batch(session) or 1, shapes=shapes)
    for _ in range(3):
        session.run(None, inputs)
    after = high_water_bytes()
    peak = None if before is None or after is None else after - before
    print(json.dumps({"peak_bytes": peak}))


if __name__ == "__main__":
    main()
