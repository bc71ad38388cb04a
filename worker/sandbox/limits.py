"""Resource limits of the child, set by itself before it runs anything else.

Memory is RLIMIT_DATA: private writable memory, so a real over-allocation fails at once with a MemoryError or PyTorch's
"can't allocate memory". RLIMIT_AS would count reserved address space, of which importing torch alone takes gigabytes.
Shared memory escapes RLIMIT_DATA; the parent's watch over the whole tree (`worker/watch.py`) counts it.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path

from worker.sandbox.box import Limits

THREADS_A_PROCESS = 64


def apply(limits: Limits) -> None:
    for what, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_DATA, limits.memory_bytes),
        (resource.RLIMIT_CPU, limits.cpu_seconds),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_NOFILE, limits.open_files),
        # The kernel counts all tasks of the user, ours or not, and root's not at all: the parent counts processes too.
        (resource.RLIMIT_NPROC, _tasks_of_user() + limits.processes * THREADS_A_PROCESS),
    ):
        _, most = resource.getrlimit(what)
        least = value if most == resource.RLIM_INFINITY else min(value, most)
        # Processor time: a SIGXCPU at the soft limit says what it was, a SIGKILL at the hard one wouldn't.
        hard = least + 5 if what == resource.RLIMIT_CPU and most == resource.RLIM_INFINITY else least
        resource.setrlimit(what, (least, hard))


def _tasks_of_user() -> int:
    user, tasks = os.getuid(), 0
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                if process.stat().st_uid == user:
                    tasks += process.joinpath("task").stat().st_nlink - 2
            except FileNotFoundError:  # ended meanwhile
                continue
    return tasks
