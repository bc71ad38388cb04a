"""The bytes of a `.nwk` file: the magic number with the version, then two sections, each with its length and CRC-32.

    89 "NWK" 01 · varint n · CRC-32 of the n bytes, little-endian · n bytes: the description
                · varint m · CRC-32 · m bytes: the data · end of file

A varint is LEB128: seven bits a byte, the lowest first, the high bit set where more follow.
"""

from __future__ import annotations

import zlib

from compression.errors import IntakeError

MAGIC = b"\x89NWK"
VERSION = 1
_LONGEST = 6  # bytes of a varint: 42 bits


def malformed(message: str, where: str = "") -> IntakeError:
    return IntakeError(f"a damaged .nwk file: {message}", where)


def join(description: bytes, data: bytes) -> bytes:
    """A whole file."""
    parts = [MAGIC, bytes([VERSION])]
    for section in (description, data):
        parts += [varint(len(section)), zlib.crc32(section).to_bytes(4, "little"), section]
    return b"".join(parts)


def split(file: bytes) -> tuple[bytes, bytes]:
    """The description and the data. IntakeError: another format or version, cut short, altered or too long."""
    if file[: len(MAGIC)] != MAGIC or len(file) == len(MAGIC):
        raise malformed("it doesn't begin as one")
    if file[len(MAGIC) : len(MAGIC) + 1] != bytes([VERSION]):
        raise IntakeError(
            f"this .nwk file is not of version {VERSION}, the one known here", "version", "model-unsupported"
        )
    reader = Bytes(file, len(MAGIC) + 1)
    found = []
    for name in ("description", "data"):
        length = reader.varint()
        checksum = int.from_bytes(reader.take(4), "little")
        section = reader.take(length)
        if zlib.crc32(section) != checksum:
            raise malformed("the checksum doesn't fit", name)
        found.append(section)
    reader.end()
    return found[0], found[1]


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


class Bytes:
    """Reads bytes from front to back. IntakeError: there are fewer than asked for, or more at the end."""

    def __init__(self, data: bytes, position: int = 0) -> None:
        self._data = data
        self._position = position

    def take(self, count: int) -> bytes:
        if count > len(self._data) - self._position:
            raise malformed("it is cut short")
        self._position += count
        return self._data[self._position - count : self._position]

    def varint(self) -> int:
        value = 0
        for place in range(_LONGEST):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                if place and not byte:
                    raise malformed("a number is longer than it need be")
                return value
        raise malformed("a number is too large")

    def end(self) -> None:
        if self._position != len(self._data):
            raise malformed("something follows the end")
