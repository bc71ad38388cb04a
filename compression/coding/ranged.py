"""`range`: a static model, coded by asymmetric numeral systems (Duda 2013) of the package constriction.

Payload: the alphabet (`alphabet.py`); the histogram; the low bits, if the alphabet needs them; the coder's words, 32
bits, little-endian, without the zero bytes at their end.

A count is stored as its length in bits (the difference from the length before) and the upper half of those bits, which
saves more than it loses; the largest is what the others leave of the number of symbols. From them both sides make
frequencies: integers that sum to 2²⁴, constriction's precision. Its models give every letter one unit and share out
the rest by the numbers they are given: with frequency − 1 as these numbers (whole, and exact in float64) the model is
exactly the frequencies.
The first letter of each model is a dummy of frequency 1 that is never written: a decoder whose words ran out reads it.
"""

from __future__ import annotations

import constriction
import numpy as np
from numpy.typing import NDArray

from compression.coding.alphabet import (
    MAX_LETTERS,
    join_low,
    letters_of,
    low_bytes,
    pack_low,
    read_values,
    write_values,
)
from compression.coding.bits import BitReader, BitWriter
from compression.coding.malformed import malformed

PRECISION = 24


def encode(symbols: NDArray[np.int32], /) -> bytes:
    flat = np.ascontiguousarray(symbols, np.int32).reshape(-1)
    if not flat.size:
        return b""
    payload = _encode(flat, MAX_LETTERS)
    few = max(256, flat.size // 256)
    if few < MAX_LETTERS and len(np.unique(flat[: 1 << 16])) > few:  # a coarser histogram may be worth its table
        payload = min(payload, _encode(flat, few), key=len)
    return payload


def _encode(flat: NDArray[np.int32], most: int) -> bytes:
    letters = letters_of(flat, most)
    writer = BitWriter()
    write_values(writer, letters)
    counts = _write_counts(writer, letters.counts())
    head = writer.to_bytes() + pack_low(letters)
    if len(counts) == 1:
        return head
    coder = constriction.stream.stack.AnsCoder()
    coder.encode_reverse(letters.indices + np.int32(1), _model(counts))
    words: NDArray[np.uint32] = coder.get_compressed()
    return head + words.astype("<u4").tobytes().rstrip(b"\0")


def decode(payload: bytes, shape: tuple[int, ...]) -> NDArray[np.int32]:
    """IntakeError: not what `encode` wrote for an array of this shape."""
    size = int(np.prod(shape, dtype=object))
    if not size:
        if payload:
            raise malformed("there are bytes for no symbols")
        return np.zeros(shape, np.int32)
    reader = BitReader(payload)
    values, shift = read_values(reader, size)
    counts = _read_counts(reader, len(values), size)
    start = reader.end()
    stop = start + low_bytes(size, shift)
    if stop > len(payload):
        raise malformed("it ends within its low bits")
    indices = _decode_indices(payload[stop:], counts, size)
    return join_low(values[indices], payload[start:stop], shift).reshape(shape)


def _decode_indices(stream: bytes, counts: list[int], size: int) -> NDArray[np.int32]:
    if len(counts) == 1:
        if stream:
            raise malformed("there are bytes after its end")
        return np.zeros(size, np.int32)
    if not stream or stream[-1] == 0:
        raise malformed("its words end with zeros")
    words = np.frombuffer(stream + bytes(-len(stream) % 4), "<u4").astype(np.uint32)
    coder = constriction.stream.stack.AnsCoder(words)
    indices: NDArray[np.int32] = coder.decode(_model(counts), size) - np.int32(1)
    if not coder.is_empty() or int(indices.min()) < 0:
        raise malformed("it does not end where its symbols do")
    return indices


def _write_counts(writer: BitWriter, counts: NDArray[np.int64]) -> list[int]:
    """Returns the counts as the decoder will know them."""
    exact = counts.tolist()
    largest = exact.index(max(exact))
    writer.write(largest, (len(exact) - 1).bit_length())
    known, before = [], 1
    for letter, count in enumerate(exact):
        if letter == largest:
            known.append(0)
            continue
        length = count.bit_length()
        dropped = _dropped(length)
        writer.signed_gamma(length - before)
        writer.write((count >> dropped) - (1 << length - dropped - 1), length - dropped - 1)
        known.append(_middle(count >> dropped, dropped))
        before = length
    known[largest] = max(1, sum(exact) - sum(known))
    return known


def _read_counts(reader: BitReader, letters: int, size: int) -> list[int]:
    largest = reader.read((letters - 1).bit_length())
    if largest >= letters:
        raise malformed("the letter that it calls the most frequent is not in its alphabet")
    known, length = [], 1
    for letter in range(letters):
        if letter == largest:
            known.append(0)
            continue
        length += reader.signed_gamma()
        if not 0 < length <= size.bit_length():
            raise malformed("a count that is not one of the tensor")
        dropped = _dropped(length)
        known.append(_middle(1 << length - dropped - 1 | reader.read(length - dropped - 1), dropped))
    known[largest] = max(1, size - sum(known))
    return known


def _dropped(length: int) -> int:
    return min(length - 1, length // 2 + 1)


def _middle(upper: int, dropped: int) -> int:
    return upper << dropped | (1 << dropped >> 1)


def frequencies(counts: list[int]) -> list[int]:
    """Integers that sum to 2²⁴: 1 for the dummy in front, at least 1 for every letter, the rest in proportion."""
    shared = (1 << PRECISION) - 1 - len(counts)
    total = sum(counts)
    parts = [count * shared // total for count in counts]
    parts[parts.index(max(parts))] += shared - sum(parts)
    return [1] + [part + 1 for part in parts]


def _model(counts: list[int]) -> constriction.stream.model.Categorical:
    shares = np.array(frequencies(counts), np.float64) - 1.0
    return constriction.stream.model.Categorical(shares, perfect=False)
