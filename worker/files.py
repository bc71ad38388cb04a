"""Files that a child made, taken without trusting it: plain names, and no link followed, also while the child runs.

A path would be looked up again at each use, and the child could put a link in its place in between: everything here
goes by descriptors, from a folder that is ours downwards.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,119}")
MAX_FILES = 64
LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Escape(Exception):
    pass


@contextmanager
def opened(root: Path, *names: str) -> Iterator[int]:
    """A descriptor of the folder `root/names…`: `root` is ours, every name below it the child's.

    Raises Escape, FileNotFoundError.
    """
    with ExitStack() as stack:
        folder = os.open(root, LOOK | os.O_DIRECTORY)
        stack.callback(os.close, folder)
        for name in names:
            folder = _open(folder, name, os.O_DIRECTORY)
            stack.callback(os.close, folder)
        yield folder


def names(folder: int) -> list[str]:
    """What the folder holds, sorted. Raises Escape where a name isn't plain, or there are too many."""
    found = sorted(os.listdir(folder))
    if len(found) > MAX_FILES:
        raise Escape(f"a folder of more than {MAX_FILES} files")
    for name in found:
        require_plain(name)
    return found


def copy(folder: int, name: str, target: Path) -> None:
    """Copies a file to a place that is ours. Raises Escape where it is no plain file, FileNotFoundError."""
    source = _open(folder, name, 0)
    if not stat.S_ISREG(os.fstat(source).st_mode):
        os.close(source)
        raise Escape(f"{name} is no plain file")
    with os.fdopen(source, "rb") as stream, target.open("wb") as made:
        shutil.copyfileobj(stream, made, 1 << 20)


def _open(folder: int, name: str, flags: int) -> int:
    require_plain(name)
    try:
        return os.open(name, LOOK | flags, dir_fd=folder)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Escape(f"{name}: {error.strerror}") from error


def require_plain(name: str) -> None:
    """Raises Escape unless the name is one of a file in a folder, and no more."""
    if not NAME.fullmatch(name):
        raise Escape(f"not a plain name: {name[:120]!r}")
