"""The values of a tensor as an alphabet: what the two static coders, `huffman` and `range`, code.

An alphabet has at most 4,096 letters. Integers with more different values are split: the alphabet is that of
value >> shift, and the low `shift` bits of each follow as they are (they are all but noise by then).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from compression.coding.bits import BitReader, BitWriter
from compression.coding.malformed import malformed

MAX_LETTERS = 4096
_COUNTED = 1 << 16  # a range of values up to this is counted in a table, a larger one sorted


@dataclass(frozen=True)
class Letters:
    """`values` (letters, ascending, int64) of the symbols >> `shift`, `indices` (n, int32) into them, and `low`: the
    bits of each symbol below the shift (n, uint32)."""

    values: NDArray[np.int64]
    indices: NDArray[np.int32]
    shift: int
    low: NDArray[np.uint32]

    def counts(self) -> NDArray[np.int64]:
        return np.bincount(self.indices, minlength=len(self.values)).astype(np.int64)


def letters_of(symbols: NDArray[np.int32], most: int = MAX_LETTERS) -> Letters:
    """The alphabet, of `most` letters at most, of one-dimensional `symbols`, at least one."""
    shift = 0
    while True:
        high = symbols >> shift
        some = high[:: high.size // 16384 + 1]
        if len(np.unique(some)) <= most:  # else there is no need to look at all
            values, indices = _indexed(high)
            if len(values) <= most:
                return Letters(values, indices, shift, symbols.view(np.uint32) & np.uint32((1 << shift) - 1))
        shift += 1


def _indexed(symbols: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    low_end = int(symbols.min())
    if int(symbols.max()) - low_end < _COUNTED:
        offsets = symbols - np.int32(low_end)
        there = np.flatnonzero(np.bincount(offsets))
        position = np.zeros(there[-1] + 1, np.int32)
        position[there] = np.arange(len(there), dtype=np.int32)
        return there.astype(np.int64) + low_end, position[offsets]
    values, indices = np.unique(symbols, return_inverse=True)
    return values.astype(np.int64), indices.astype(np.int32)


def write_values(writer: BitWriter, letters: Letters) -> None:
    writer.write(int(letters.shift > 0), 1)
    if letters.shift:
        writer.write(letters.shift - 1, 5)
    values = letters.values.tolist()
    writer.gamma(len(values) - 1)
    writer.signed_gamma(values[0])
    if len(values) > 1:
        gaps = [after - before - 1 for before, after in pairwise(values)]
        writer.write(int(any(gaps)), 1)
        if any(gaps):
            for gap in gaps:
                writer.gamma(gap)


def read_values(reader: BitReader, size: int) -> tuple[NDArray[np.int64], int]:
    """The values and the shift. IntakeError: not an alphabet of `size` symbols of 32 bits."""
    shift = reader.read(5) + 1 if reader.read(1) else 0
    count = reader.gamma() + 1
    if count > min(size, MAX_LETTERS):
        raise malformed(f"its alphabet has {count} letters")
    values = [reader.signed_gamma()]
    spread = count > 1 and reader.read(1)
    for _ in range(count - 1):
        values.append(values[-1] + 1 + (reader.gamma() if spread else 0))
    if values[0] < -(1 << 31) >> shift or values[-1] > (1 << 31) - 1 >> shift:
        raise malformed("a value of its alphabet is not of 32 bits")
    return np.array(values, np.int64), shift


def pack_low(letters: Letters) -> bytes:
    """The low bits of all symbols, `shift` each, most significant first."""
    if not letters.shift:
        return b""
    octets = letters.low.astype(">u4").view(np.uint8).reshape(-1, 4)
    return np.packbits(np.unpackbits(octets, axis=1)[:, 32 - letters.shift :]).tobytes()


def join_low(high: NDArray[np.int64], payload: bytes, shift: int) -> NDArray[np.int32]:
    """The symbols (n, int32) of their values >> shift (n) and of what `pack_low` wrote."""
    if not shift:
        return high.astype(np.int32)
    bits = np.unpackbits(np.frombuffer(payload, np.uint8))
    if bits[high.size * shift :].any():
        raise malformed("its low bits are not filled with zeros")
    padded = np.zeros((high.size, 32), np.uint8)
    padded[:, 32 - shift :] = bits[: high.size * shift].reshape(high.size, shift)
    low = np.packbits(padded, axis=1).view(">u4").reshape(-1).astype(np.int64)
    return ((high << shift) | low).astype(np.int32)


def low_bytes(size: int, shift: int) -> int:
    return (size * shift + 7) // 8
