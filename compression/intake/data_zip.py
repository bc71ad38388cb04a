"""The zip around a data file: its members, checked before any of them is read.

What no honest writer makes is refused as data-unsafe: paths that lead elsewhere, links, members that share bytes or
names, and archives that unpack to far more than they are.
"""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compression.errors import DataError
from compression.intake.archive import ZIP_ERRORS, Zip

MAX_BYTES = 16 << 30  # of all members, unpacked
MAX_DIRECTORY = 40 << 20  # bytes: 500,000 images with names of 37 letters
MAX_NAME = 500
SMALL = 256 << 20  # up to here the ratio doesn't matter
MAX_RATIO = 200
_LOCAL_HEADER = 30


@contextmanager
def open_zip(path: Path, most: int) -> Iterator[tuple[zipfile.ZipFile, list[zipfile.ZipInfo]]]:
    """The archive and its files in their order there, folders left out. DataError: what is wrong with it."""
    try:
        archive = Zip(path, MAX_DIRECTORY)
    except ZIP_ERRORS as error:
        raise DataError(f"the archive can't be read: {error}", path.name, "data-unreadable") from error
    with archive:
        yield archive, _members(archive.infolist(), path, most)


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Around the reading of a member: damage becomes a DataError that names it."""
    try:
        yield
    except DataError:
        raise
    except ZIP_ERRORS as error:
        raise DataError(f"the member is damaged: {str(error)[:200]}", name[:200], "data-unreadable") from error


def _members(infos: list[zipfile.ZipInfo], path: Path, most: int) -> list[zipfile.ZipInfo]:
    if len(infos) > most:
        raise DataError(f"more than {most:,} files in the archive", path.name, "data-unsafe")
    total, end = 0, 0
    names: set[str] = set()
    for info in sorted(infos, key=lambda member: member.header_offset):
        _check_member(info)
        if info.filename in names:
            raise DataError("the archive holds this name twice", info.filename, "data-unsafe")
        names.add(info.filename)
        if info.header_offset < end:
            raise DataError("members of the archive share bytes", info.filename, "data-unsafe")
        end = info.header_offset + _LOCAL_HEADER + len(info.filename.encode()) + info.compress_size
        total += info.file_size
    if total > MAX_BYTES:
        raise DataError(f"the archive unpacks to more than {MAX_BYTES >> 30} GiB", path.name, "data-unsafe")
    size = path.stat().st_size
    if total > SMALL and total > MAX_RATIO * size:
        message = f"{size:,} bytes unpack to {total:,}: more than {MAX_RATIO} times as many; write it uncompressed"
        raise DataError(message, path.name, "data-unsafe")
    return [info for info in infos if not info.is_dir()]


def _check_member(info: zipfile.ZipInfo) -> None:
    name = info.filename
    parts = name.rstrip("/").split("/")
    shown = name[:200]
    strange = any(character < " " or character == "\x7f" for character in name) or info.orig_filename != name
    if len(name) > MAX_NAME or {"", ".", ".."} & set(parts) or "\\" in name or strange:
        raise DataError("a path that is not allowed in an archive", shown, "data-unsafe")
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise DataError("not a plain file", shown, "data-unsafe")
    if info.flag_bits & 0x1:
        raise DataError("the member is encrypted: upload it without a password", shown, "data-unreadable")
    if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise DataError("packed by a method other than deflate: pack it with any common zip", shown, "data-unreadable")
