"""Zips written field by field, so that each may lie (APPNOTE.TXT 4.3)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """A member. Each field that is None is what the truth would be."""

    name: bytes
    content: bytes = b""
    method: int = 0
    flags: int = 0
    crc: int | None = None
    size: int | None = None  # unpacked
    packed: int | None = None
    offset: int | None = None
    attributes: int = 0
    local_name: bytes | None = None
    extra: bytes = b""

    @property
    def fields(self) -> tuple[int, int, int]:
        """CRC, packed size, unpacked size."""
        return (
            zlib.crc32(self.content) if self.crc is None else self.crc,
            len(self.content) if self.packed is None else self.packed,
            len(self.content) if self.size is None else self.size,
        )


def raw_zip(
    entries: Sequence[Entry], *, count: int | None = None, directory: int | None = None, tail: bytes = b""
) -> bytes:
    """`count` and `directory`: what the end record says of the number of members and the directory's place; `tail`
    stands between the directory and the end record."""
    data, central = bytearray(), bytearray()
    for entry in entries:
        crc, packed, size = entry.fields
        name = entry.name if entry.local_name is None else entry.local_name
        offset = len(data) if entry.offset is None else entry.offset
        head = struct.pack("<HHHHH", 20, entry.flags, entry.method, 0, 0x21)
        sizes = struct.pack("<III", crc, packed, size)
        if entry.offset is None:
            data += b"PK\x03\x04" + head + sizes + struct.pack("<HH", len(name), 0) + name + entry.content
        central += b"PK\x01\x02" + struct.pack("<H", 0x314) + head + sizes
        central += struct.pack("<HHHHHII", len(entry.name), len(entry.extra), 0, 0, 0, entry.attributes, offset)
        central += entry.name + entry.extra
    said = len(entries) if count is None else count
    place = len(data) if directory is None else directory
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, said & 0xFFFF, said & 0xFFFF, len(central), place, 0)
    return bytes(data + central + tail + end)


def zeros_deflated(gigabytes: int) -> bytes:
    """A deflate stream of so many GiB of zeros, about a thousandth as long."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(1 << 26)) + packer.flush(zlib.Z_FULL_FLUSH)
    return block * (16 * gigabytes) + zlib.compressobj(9, zlib.DEFLATED, -15).flush()
