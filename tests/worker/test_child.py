"""How a child ends, told apart; each on a real process in a real box."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.worker.processes import alive, eventually
from worker.child import MAX_LINE_BYTES, Done, Stopped
from worker.sandbox.box import Limits
from worker.watch import family, usage

RUNG = "landlock-network"
GIB = 1024**3


def finish(child):
    return list(child.events()), child.ending()


def test_events_arrive_and_the_last_one_is_the_result(start):
    events, ending = finish(start(RUNG, """print('{"event": "started"}'); print('{"event": "done", "answer": 42}')"""))
    assert [event["event"] for event in events] == ["started", "done"]
    assert ending.event == {"event": "done", "answer": 42}


def test_a_refusal_is_the_engines_own(start):
    source = """import sys
print('{"event": "refused", "error": {"kind": "model-unsafe", "message": "a pickle", "where": "x.pkl"}}')
print("why", file=sys.stderr)
sys.exit(2)"""
    _, ending = finish(start(RUNG, source))
    assert ending.error == {"kind": "model-unsafe", "message": "a pickle", "where": "x.pkl", "log_tail": "why\n"}


@pytest.mark.parametrize(
    "source",
    [
        """print('{"event": "done"}'); import sys; sys.exit(2)""",
        """print('{"event": "refused", "error": "no"}'); import sys; sys.exit(2)""",
        """print('{"event": "started"}')""",
        "raise KeyError('a bug')",
    ],
)
def test_an_exit_status_is_not_believed_without_its_event(start, source):
    _, ending = finish(start(RUNG, source))
    assert ending.error["kind"] == "crashed"


def test_a_crash_names_its_signal_and_keeps_the_log(start, rung):
    _, ending = finish(start(rung, "import ctypes, sys; print('last words', file=sys.stderr); ctypes.string_at(0)"))
    assert ending.error["kind"] == "crashed"
    assert "SIGSEGV" in ending.error["message"]
    assert "last words" in ending.error["log_tail"]


@pytest.mark.parametrize(
    "line", ["not json", "[1]", '{"no": "name"}', '{"event": 3}', "[" * 100_000, '{"event": "' + "x" * MAX_LINE_BYTES]
)
def test_a_malformed_line_ends_the_child(start, line, folder):
    folder.joinpath("inputs", "line").write_text(line)
    source = """import sys, time
print(open("../inputs/line").read(), flush=True)
time.sleep(60)"""
    began = time.monotonic()
    _, ending = finish(start(RUNG, source))
    assert ending.error["kind"] == "protocol"
    assert time.monotonic() - began < 30


def test_memory_is_bounded_and_the_reason_is_readable(start, rung):
    limits = Limits(memory_bytes=GIB // 2, cpu_seconds=60)
    _, ending = finish(start(rung, "import numpy; numpy.ones(100_000_000)", limits=limits))
    assert ending.error["kind"] == "out-of-memory"
    assert "0.5 GiB" in ending.error["message"]


def test_torch_works_under_the_limit_and_fails_over_it(start, rung):
    source = """import torch
net = torch.nn.Linear(64, 64)
net(torch.ones(8, 64)).sum().backward()
print('{"event": "progress"}', flush=True)
torch.ones(1_000_000_000)"""
    limits = Limits(memory_bytes=GIB, cpu_seconds=60)
    events, ending = finish(start(rung, source, limits=limits))
    assert [event["event"] for event in events] == ["progress"]
    assert ending.error["kind"] == "out-of-memory"
    assert "allocate" in ending.error["log_tail"]


def test_shared_memory_counts_too(start):
    source = """import mmap, time
block = mmap.mmap(-1, 400 << 20)
for offset in range(0, len(block), 4096): block[offset] = 1
time.sleep(60)"""
    _, ending = finish(start(RUNG, source, limits=Limits(memory_bytes=300 << 20, cpu_seconds=60)))
    assert ending.error["kind"] == "out-of-memory"


def test_processes_are_bounded(start, rung):
    source = """import subprocess, sys, time
children = [subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"]) for _ in range(20)]
time.sleep(60)"""
    child = start(rung, source, limits=Limits(memory_bytes=GIB, cpu_seconds=60, processes=12))
    _, ending = finish(child)
    assert ending.error["kind"] == "too-many-processes"


def test_processor_time_is_bounded(start, rung):
    _, ending = finish(start(rung, "while True: pass", limits=Limits(memory_bytes=GIB, cpu_seconds=1)))
    assert ending.error["kind"] == "time-limit"


def test_time_is_bounded(start):
    _, ending = finish(start(RUNG, "import time; time.sleep(60)", wall=0.2))
    assert ending.error["kind"] == "time-limit"


def test_files_are_bounded(start, rung):
    limits = Limits(memory_bytes=GIB, cpu_seconds=60, file_bytes=1 << 20)
    _, ending = finish(start(rung, "open('big', 'wb').write(bytes(2 << 20))", limits=limits))
    assert "File too large" in ending.error["log_tail"]


FAMILY = """import subprocess, sys, time
stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
grandchild = subprocess.Popen([sys.executable, "-c", stubborn])
print('{"event": "started"}', flush=True)
time.sleep(600)"""


def test_stopping_kills_the_whole_family_within_two_seconds(start, rung):
    child = start(rung, FAMILY)
    events = child.events()
    next(events)
    members = family(child.launcher)
    assert len(members) >= 3
    began = time.monotonic()
    child.stop("canceled")
    assert list(events) == []
    assert child.ending() == Stopped("canceled")
    assert not any(alive(pid) for pid in members)
    assert time.monotonic() - began < 2


def test_nobody_outlives_a_child_that_ends(start, rung):
    child = start(rung, FAMILY.removesuffix("time.sleep(600)"))
    events = child.events()
    next(events)
    members = family(child.launcher)
    list(events)
    child.ending()
    assert eventually(lambda: not any(alive(pid) for pid in members))


def test_the_log_keeps_both_ends(start, tmp_path: Path):
    source = """import sys
sys.stderr.write("first\\n" + "x" * (12 << 20) + "\\nlast\\n")
print('{"event": "done"}')"""
    child = start(RUNG, source)
    _, ending = finish(child)
    assert isinstance(ending, Done)
    text = tmp_path.joinpath("log").read_bytes()
    assert text.startswith(b"first\n")
    assert text.endswith(b"\nlast\n")
    assert b"bytes left out" in text
    assert len(text) < 10 << 20


def test_usage_counts_a_family(start):
    child = start(RUNG, FAMILY)
    next(child.events())
    used = usage(child.launcher)
    assert used.processes >= 2
    assert 1 << 20 < used.memory_bytes < 1 << 30
