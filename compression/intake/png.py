"""Whether a PNG holds all rows that its header promises: a stream that ends early, but soundly, Pillow shows as black.

ISO/IEC 15948 (PNG), 8.1 (interlace passes), 9 (a filter byte before each row), 11.2 (chunks).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_WHOLE = ((0, 0, 1, 1),)
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_PIECE = 1 << 20


def is_complete(content: bytes) -> bool:
    """Of a file whose header has been judged: at most as much is unpacked as the header promises."""
    wanted, found = _promised(content[16:29]), 0
    unpack = zlib.decompressobj()
    for data in _image_data(content):
        rest = data
        while found < wanted:
            piece = unpack.decompress(rest, _PIECE)
            rest = unpack.unconsumed_tail
            found += len(piece)
            if not piece and not rest:
                break
    return found >= wanted


def _promised(header: bytes) -> int:
    """Bytes of all rows, from IHDR's thirteen."""
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    bits = header[8] * _SAMPLES.get(header[9], 1)
    total = 0
    for left, top, across, down in _ADAM7 if header[12] else _WHOLE:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0:
            total += max(rows, 0) * (1 + (columns * bits + 7) // 8)
    return total


def _image_data(content: bytes) -> Iterator[bytes]:
    """The data of each IDAT chunk, up to the first that doesn't follow another."""
    at, begun = 8, False
    while at + 8 <= len(content):
        length, kind = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        if kind == b"IDAT":
            begun = True
            yield content[at + 8 : at + 8 + length]
        elif begun:
            return
        at += 12 + length
