"""What a child's whole family uses, read from /proc: the kernel's limits hold for each process, not for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Usage:
    """`processes` alive and the `memory_bytes` that they hold for themselves: private pages and shared memory."""

    processes: int
    memory_bytes: int


def usage(launcher: int) -> Usage:
    """Of the launcher's family, itself not counted. Pages that a fork shares are counted in each process."""
    found = family(launcher)[1:]
    return Usage(len(found), sum(_memory(pid) for pid in found))


def family(launcher: int) -> list[int]:
    """The launcher and all its descendants; it is their reaper, so none can leave."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            parent = _parent(entry)
            if parent is not None:
                children.setdefault(parent, []).append(int(entry.name))
    found = [launcher]
    for pid in found:  # grows while it is read
        found += children.get(pid, [])
    return found


def _parent(process: Path) -> int | None:
    try:
        text = process.joinpath("stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # ended meanwhile
        return None
    return int(text.rpartition(b")")[2].split()[1])  # the name, in brackets, may hold anything


def _memory(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_bytes().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith((b"RssAnon:", b"RssShmem:")))
