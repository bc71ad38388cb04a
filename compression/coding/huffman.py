"""`huffman`: a canonical Huffman code (Huffman 1952), and `huffman-sparse`: that code over relative indices, as in
Deep Compression (Han 2016). For comparison: `range` is smaller and faster.

Payload of `huffman`: the alphabet (`alphabet.py`); the code lengths, each as its difference from the one before; the
low bits, if the alphabet needs them; the codes, most significant bit first. Codes are canonical: numbered by length,
then letter.

Payload of `huffman-sparse`: the number of entries, the width k of an index and the length of what comes next; the gaps
and the values of the entries, as two `huffman` payloads. An entry is a gap of zeros, below 2ᵏ, and a value; where more
zeros lie between two values, entries of the value zero fill in.
"""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from compression.coding.alphabet import join_low, letters_of, low_bytes, pack_low, read_values, write_values
from compression.coding.bits import BitReader, BitWriter
from compression.coding.malformed import malformed

_MAX_LENGTH = 48  # a code of length L needs F(L + 2) symbols, the Fibonacci number: 2³³ symbols for 47
_CHUNK = 1 << 20  # bits that are looked at together


def encode(symbols: NDArray[np.int32], /) -> bytes:
    flat = np.ascontiguousarray(symbols, np.int32).reshape(-1)
    if not flat.size:
        return b""
    letters = letters_of(flat)
    lengths = code_lengths(letters.counts().tolist())
    writer = BitWriter()
    write_values(writer, letters)
    for before, length in zip([0, *lengths], lengths, strict=False):
        writer.signed_gamma(length - before)
    return writer.to_bytes() + pack_low(letters) + _write_codes(letters.indices, lengths)


def decode(payload: bytes, shape: tuple[int, ...]) -> NDArray[np.int32]:
    """IntakeError: not what `encode` wrote for an array of this shape."""
    size = int(np.prod(shape, dtype=object))
    if not size:
        if payload:
            raise malformed("there are bytes for no symbols")
        return np.zeros(shape, np.int32)
    reader = BitReader(payload)
    values, shift = read_values(reader, size)
    lengths = _read_lengths(reader, len(values))
    start = reader.end()
    stop = start + low_bytes(size, shift)
    if stop > len(payload):
        raise malformed("it ends within its low bits")
    indices = _read_codes(payload[stop:], lengths, size)
    return join_low(values[indices], payload[start:stop], shift).reshape(shape)


def code_lengths(counts: list[int]) -> list[int]:
    """The lengths in bits of a Huffman code for letters that occur `counts` times; one letter alone needs no bits."""
    lengths = [0] * len(counts)
    heap = [(count, letter, [letter]) for letter, count in enumerate(counts)]
    heapq.heapify(heap)
    while len(heap) > 1:
        count, number, members = heapq.heappop(heap)
        other_count, _, others = heapq.heappop(heap)
        members = members + others
        for letter in members:
            lengths[letter] += 1
        heapq.heappush(heap, (count + other_count, number + len(counts), members))
    return lengths


def _read_lengths(reader: BitReader, letters: int) -> list[int]:
    lengths: list[int] = []
    for _ in range(letters):
        lengths.append((lengths[-1] if lengths else 0) + reader.signed_gamma())
        if not (0 < lengths[-1] <= _MAX_LENGTH or (letters == 1 and lengths[-1] == 0)):
            raise malformed(f"a code of {lengths[-1]} bits")
    if sum(1 << _MAX_LENGTH - length for length in lengths) != 1 << _MAX_LENGTH:
        raise malformed("its code lengths are not those of a complete prefix code")
    return lengths


def _canonical(lengths: list[int]) -> tuple[list[int], list[int]]:
    """Letters in the order of their codes, and the code of each of them, aligned to `_MAX_LENGTH` bits."""
    order = sorted(range(len(lengths)), key=lambda letter: (lengths[letter], letter))
    codes, code = [], 0
    for letter in order:
        codes.append(code)
        code += 1 << _MAX_LENGTH - lengths[letter]
    return order, codes


def _write_codes(indices: NDArray[np.int32], lengths: list[int]) -> bytes:
    order, aligned = _canonical(lengths)
    codes = np.zeros(len(lengths), np.uint64)
    codes[order] = np.array(aligned, np.uint64)
    widths = np.array(lengths, np.int64)
    parts, rest = [], np.zeros(0, np.uint8)
    for start in range(0, len(indices), _CHUNK):
        some = indices[start : start + _CHUNK]
        ends = np.cumsum(widths[some])
        starts = ends - widths[some]
        bits = np.zeros(int(ends[-1]), np.uint8)
        for place in range(max(lengths)):
            longer = widths[some] > place
            bit = codes[some[longer]] >> np.uint64(_MAX_LENGTH - 1 - place) & np.uint64(1)
            bits[starts[longer] + place] = bit
        bits = np.concatenate([rest, bits])
        whole = len(bits) // 8 * 8
        parts.append(np.packbits(bits[:whole]).tobytes())
        rest = bits[whole:]
    return b"".join(parts) + np.packbits(rest).tobytes()


def _read_codes(stream: bytes, lengths: list[int], size: int) -> NDArray[np.int32]:
    """Finds the letter that would start at every bit of a chunk at once, then follows the chain of those that do."""
    order, aligned = _canonical(lengths)
    letters, firsts = np.array(order, np.int32), np.array(aligned, np.uint64)
    widths = np.array(lengths, np.int64)[letters]
    if len(lengths) == 1:
        if stream:
            raise malformed("there are bytes after its end")
        return np.zeros(size, np.int32)
    octets = np.frombuffer(stream + bytes(16), np.uint8)
    total, position, found = 8 * len(stream), 0, 0
    out = np.empty(size, np.int32)
    while found < size and position < total:
        stop = min(total, position + _CHUNK)
        which = np.searchsorted(firsts, _windows(octets, position, stop), side="right") - 1
        steps, local = widths[which].tolist(), 0
        chain: list[int] = []
        while local < stop - position and found + len(chain) < size:
            chain.append(local)
            local += steps[local]
        out[found : found + len(chain)] = letters[which[chain]]
        found += len(chain)
        position += local
    if found < size or position > total:
        raise malformed("it ends before its last symbol")
    if total - position >= 8 or (position < total and stream[-1] & (1 << total - position) - 1):
        raise malformed("there are bits after its end")
    return out


def _windows(octets: NDArray[np.uint8], start: int, stop: int) -> NDArray[np.uint64]:
    """The next `_MAX_LENGTH` bits at each of the bits `start` to `stop`."""
    first = start // 8
    count = (stop + 7) // 8 - first
    words = np.zeros(count, np.uint64)
    for place in range(7):
        words = words << np.uint64(8) | octets[first + place : first + place + count]
    shifts = np.arange(8, -0, -1, dtype=np.uint64)  # a word has 56 bits: 8 more than a code
    windows = (words[:, None] >> shifts[None, :]) & np.uint64((1 << _MAX_LENGTH) - 1)
    return windows.reshape(-1)[start - 8 * first : stop - 8 * first]


def encode_sparse(symbols: NDArray[np.int32], /) -> bytes:
    flat = np.ascontiguousarray(symbols, np.int32).reshape(-1)
    if not flat.size:
        return b""
    return min((_encode_sparse(flat, width) for width in range(2, 10)), key=len)


def _encode_sparse(flat: NDArray[np.int32], width: int) -> bytes:
    places = np.flatnonzero(flat)
    gaps = np.diff(places, prepend=-1) - 1
    fillers = gaps >> width  # each stands for 2ᵏ − 1 zeros and the zero that it is itself
    ends = np.cumsum(fillers + 1) - 1
    entries = int(ends[-1]) + 1 if places.size else 0
    indices = np.full(entries, (1 << width) - 1, np.int32)
    values = np.zeros(entries, np.int32)
    indices[ends] = gaps & (1 << width) - 1
    values[ends] = flat[places]
    writer = BitWriter()
    writer.gamma(entries)
    writer.write(width - 2, 3)
    coded = encode(indices)
    writer.gamma(len(coded))
    return writer.to_bytes() + coded + encode(values)


def decode_sparse(payload: bytes, shape: tuple[int, ...]) -> NDArray[np.int32]:
    """IntakeError: not what `encode_sparse` wrote for an array of this shape."""
    size = int(np.prod(shape, dtype=object))
    if not size:
        return decode(payload, shape)
    reader = BitReader(payload)
    entries = reader.gamma()
    if entries > size:
        raise malformed("more entries than symbols")
    width = reader.read(3) + 2
    length = reader.gamma()
    start = reader.end()
    if start + length > len(payload):
        raise malformed("it ends within its indices")
    indices = decode(payload[start : start + length], (entries,))
    values = decode(payload[start + length :], (entries,))
    if indices.size and not 0 <= int(indices.min()) <= int(indices.max()) < 1 << width:
        raise malformed("an index is out of range")
    places = np.cumsum(indices.astype(np.int64) + 1) - 1
    if entries and (places[-1] >= size or values[-1] == 0):
        raise malformed("its entries do not fit the tensor")
    flat = np.zeros(size, np.int32)
    flat[places] = values
    return flat.reshape(shape)
