"""Whoever starts a child may die at any moment: nobody is left then, on any rung, even if the child won't listen."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tests.worker.processes import alive, eventually
from worker.watch import family

PARENT = """import sys
from pathlib import Path
from worker.child import Child
from worker.sandbox.box import Limits, engine_box, environment
folder = Path(sys.argv[2])
box = engine_box(sys.argv[1], folder, Limits(memory_bytes=1 << 30, cpu_seconds=60))
source = '''
import signal, subprocess, sys, time
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT): signal.signal(number, signal.SIG_IGN)
stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
subprocess.Popen([sys.executable, "-c", stubborn], stdin=subprocess.DEVNULL)
print('{"event": "started"}', flush=True)
time.sleep(600)
'''
child = Child([sys.executable, "-c", source], box, environment(folder, 1), folder / "log")
for event in child.events():
    print("started", flush=True)
"""


def test_kill_9_of_the_parent_leaves_no_child_and_no_grandchild(rung, folder):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, rung, str(folder)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert parent.stdout is not None
    with parent.stdout:
        assert parent.stdout.readline() == b"started\n"
        members = family(parent.pid)
        assert len(members) >= 4  # parent, launcher, child, grandchild
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert eventually(lambda: not any(alive(pid) for pid in members))
