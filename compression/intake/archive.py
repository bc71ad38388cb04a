"""Zips of strangers: opened with a bound on their directory, and the one around a torch.export archive, whose members
are checked before any of them is read.

torch writes its members uncompressed, so a member is never larger than the file: what says otherwise is refused.
"""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from pathlib import Path
from types import TracebackType

from compression.errors import IntakeError

MOST_MEMBERS = 20_000
LARGEST_JSON = 64 << 20
LARGEST_DIRECTORY = 4 << 20
ZIP_ERRORS = (
    *(zipfile.BadZipFile, ValueError, EOFError, OSError, NotImplementedError, RuntimeError, struct.error, zlib.error),
    *(UnicodeError, OverflowError, IndexError),
)
"""What `zipfile` raises on a damaged or odd file (RuntimeError: an encrypted member)."""


class Zip(zipfile.ZipFile):
    """A zip to read, whose directory has at most `largest` bytes: `zipfile` makes an object of every entry, whatever
    their number is said to be. Raises BadZipFile, or another of ZIP_ERRORS."""

    _file: _BoundedFile | None = None  # also where opening it fails and the object goes

    def __init__(self, path: Path, largest: int = LARGEST_DIRECTORY) -> None:
        self._file = _BoundedFile(path, largest)
        try:
            super().__init__(self._file)
            self._begins_with_the_file()
        except BaseException:
            self._file.close()
            raise
        self._file.bound = None

    def _begins_with_the_file(self) -> None:
        """Otherwise it is the tail of a zip that was cut short, or hidden behind another file."""
        if min((member.header_offset for member in self.filelist), default=0) > 0:
            raise zipfile.BadZipFile("its members don't begin where the file does")

    def close(self) -> None:
        super().close()
        if self._file is not None:
            self._file.close()


class _BoundedFile(io.BufferedReader):
    """A file of which no more than `bound` bytes are read at once."""

    def __init__(self, path: Path, bound: int) -> None:
        super().__init__(io.FileIO(path))
        self.size = path.stat().st_size
        self.bound: int | None = bound

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(self.size - self.tell(), 0)
        wanted = left if size is None or size < 0 else min(size, left)
        if self.bound is not None and wanted > self.bound:
            raise zipfile.BadZipFile(f"its directory is larger than {self.bound} bytes")
        return super().read(size)


class Archive:
    """Members by their path below the archive's one top folder ("models/model.json"). A context manager."""

    def __init__(self, path: Path) -> None:
        try:
            self._zip = Zip(path)
        except ZIP_ERRORS as error:
            raise IntakeError(f"the file is damaged or cut short ({error}): upload it again", path.name) from error
        try:
            self._members = _members(self._zip.infolist(), path.stat().st_size)
        except IntakeError:
            self._zip.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *exception: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._zip.close()

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def names(self, prefix: str = "") -> list[str]:
        return sorted(name for name in self._members if name.startswith(prefix))

    def size(self, name: str) -> int:
        """Bytes of a member. IntakeError: there is none."""
        if name not in self._members:
            raise IntakeError("the archive lacks this member", name[:200])
        return self._members[name].file_size

    def read(self, name: str, at_most: int = LARGEST_JSON) -> bytes:
        """A member's bytes, with their checksum verified. IntakeError: none, too large, or damaged."""
        if self.size(name) > at_most:
            raise IntakeError(f"larger than {at_most} bytes", name, kind="model-unsafe")
        try:
            return self._zip.read(self._members[name])
        except ZIP_ERRORS as error:
            raise IntakeError(f"the member is damaged: {error}", name) from error


def _members(infos: list[zipfile.ZipInfo], file_size: int) -> dict[str, zipfile.ZipInfo]:
    if not infos or len(infos) > MOST_MEMBERS:
        raise IntakeError(f"an archive has 1 to {MOST_MEMBERS} members, this has {len(infos)}", kind="model-unsafe")
    members: dict[str, zipfile.ZipInfo] = {}
    end = 0
    for info in sorted(infos, key=lambda member: member.header_offset):
        _check_member(info)
        if info.header_offset < end or info.header_offset + info.file_size > file_size:
            raise IntakeError("members overlap or leave the file", info.filename[:200], kind="model-unsafe")
        end = info.header_offset + info.file_size
        _, _, name = info.filename.partition("/")
        if name in members:
            raise IntakeError("a member comes twice", info.filename[:200], kind="model-unsafe")
        members[name] = info
    if len({info.filename.partition("/")[0] for info in infos}) != 1:
        raise IntakeError("an archive has one top folder", kind="model-unsafe")
    return members


def _check_member(info: zipfile.ZipInfo) -> None:
    parts = info.filename.split("/")
    printable = info.filename.isprintable() and info.orig_filename == info.filename  # a NUL cuts a name
    odd = len(info.filename) > 500 or "\\" in info.filename or not printable
    if odd or len(parts) < 2 or {"", ".", ".."} & set(parts):
        raise IntakeError("a member's path is not allowed", info.filename[:200], kind="model-unsafe")
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size or info.flag_bits & 0x1:
        raise IntakeError("a member is compressed or encrypted; torch.export.save does neither", info.filename[:200])
    mode = info.external_attr >> 16
    if mode and not stat.S_ISREG(mode) and stat.S_IFMT(mode):
        raise IntakeError("a member is not a plain file", info.filename[:200], kind="model-unsafe")
