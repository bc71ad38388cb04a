"""Reads Niwaki's `.nwk` files, whole and alone: a companion to docs/nwk.md that can be copied anywhere.

    python nwk_reader.py model.nwk                      prints name, kind, type and shape of every tensor
    python nwk_reader.py model.nwk --out tensors.npz    writes them, too

    network, arrays = read(Path("model.nwk").read_bytes())

Needs Python 3.11 and numpy (written with 2.4.6), nothing else. What isn't a `.nwk` file as its writer makes it is a
ValueError. All loops are plain Python: an integer of the coder `adaptive` takes from 10 µs (pruned weights) to 1 ms (of
many bits), one of another coder about 1 µs; for large files Niwaki's own decoder is there.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import zipfile
import zlib
from bisect import bisect_left, bisect_right
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description="Reads the tensors of a .nwk file.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--out", type=Path, metavar="TENSORS.npz")
    chosen = parser.parse_args()
    try:
        file = chosen.file.read_bytes()
        for name, kind, dtype, shape, *_ in open_file(file)[1]:
            print(f"{name!r} {kind} {dtype} {shape}")
        arrays = read(file)[1]
    except (OSError, ValueError) as error:
        sys.exit(f"{chosen.file}: {error}")
    if chosen.out:
        with zipfile.ZipFile(chosen.out, "w", zipfile.ZIP_DEFLATED) as archive:  # np.savez has names of its own
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)


def read(file: bytes) -> tuple[dict[str, Any], dict[str, Array]]:
    """The network's document (graph, inputs, outputs, encodings …) and every parameter and buffer by name."""
    network, heads, data = open_file(file)
    arrays = {head[0]: read_tensor(head, data) for head in heads}
    data.end()
    need(len(arrays) == len(heads), "a tensor comes twice")
    return network, arrays


# --- The file: magic number and version, then two sections, each with its length and CRC-32 ---------------------------


def need(fits: bool, message: str) -> None:
    if not fits:
        raise ValueError(f"not a .nwk file, or a damaged one: {message}")


class Bytes:
    """Reads bytes from front to back."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def take(self, count: int) -> bytes:
        need(count <= len(self.data) - self.place, "it is cut short")
        self.place += count
        return self.data[self.place - count : self.place]

    def varint(self) -> int:
        """LEB128: seven bits a byte, the lowest first; the high bit says that more follow."""
        value = 0
        for shift in range(0, 42, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                need(byte > 0 or shift == 0, "a number is longer than it need be")
                return value
        raise ValueError("a number is too large")

    def end(self) -> None:
        need(self.place == len(self.data), "something follows the end")


def open_file(file: bytes) -> tuple[dict[str, Any], list[Any], Bytes]:
    """The network's document; a head for each tensor; the data, in the order of the heads."""
    source = Bytes(file)
    need(source.take(5) == b"\x89NWK\x01", "it doesn't begin as one of version 1")
    sections = []
    for _ in ("description", "data"):
        length, checksum = source.varint(), int.from_bytes(source.take(4), "little")
        sections.append(source.take(length))
        need(zlib.crc32(sections[-1]) == checksum, "a checksum doesn't fit")
    source.end()
    description = parse_json(inflate(sections[0]))
    need(isinstance(description, dict) and set(description) == {"network", "tensors"}, "its description")
    network, heads = description["network"], description["tensors"]
    need(isinstance(network, dict) and isinstance(heads, list), "its description")
    elements = 0
    for head in heads:
        check_head(head)
        elements += math.prod(max(length, 1) for length in head[3]) + (head[1] == "codebook" and head[4] * head[5])
        elements += head[1] == "blocks" and 2 * head[3][0] * -(-head[3][1] // head[4])
        need(elements <= min(max(1 << 24, 256 * len(file)), 1 << 29), "more elements than a file of its size has")
    return network, heads, Bytes(sections[1])


def inflate(section: bytes) -> bytes:
    """Raw deflate (RFC 1951), with the preset dictionary at the end of this file; at most 64 MiB."""
    unpacker = zlib.decompressobj(-15, zdict=DICTIONARY.encode())
    try:
        text = unpacker.decompress(section, 64 << 20)
    except zlib.error as error:
        raise ValueError("its description can't be unpacked") from error
    need(unpacker.eof and not unpacker.unused_data, "its description is too long, or cut short")
    return text


def parse_json(text: bytes) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        need(len(dict(pairs)) == len(pairs), "a key comes twice")
        return dict(pairs)

    try:
        return json.loads(text.decode(), object_pairs_hook=unique, parse_constant=lambda name: need(False, name))
    except RecursionError as error:
        raise ValueError("its description is nested without end") from error


def check_head(head: Any) -> None:
    """[name, kind, type, shape], then of a codebook: how many, values in each; of a grid: lowest and highest level,
    shape of the step; of blocks: entries in each, whether they have zeros."""
    need(isinstance(head, list) and len(head) >= 4 and all(isinstance(part, str) for part in head[:3]), "a head")
    name, kind, dtype, shape, *more = head
    need(len(more) == {"plain": 0, "mask": 0, "codebook": 2, "grid": 3, "blocks": 2}.get(kind), f"the kind of {name!r}")
    need(dtype in ("float32", "float64", *SHORT, "int64", "int32", "bool"), f"the type of {name!r}")
    need(
        isinstance(shape, list) and len(shape) <= 8 and all(whole(n, 0, 2**31 - 1) for n in shape),
        f"the shape of {name!r}",
    )
    need(kind == "plain" or dtype == "float32" or (kind == "mask" and dtype in SHORT), f"the type of {name!r}")
    need(kind == "plain" or 1 <= len(shape) <= 4, f"the shape of {name!r}")
    if kind == "codebook":
        need(
            whole(more[0], 1, max(shape[0], 1)) and whole(more[1], 1, max(math.prod(shape), 1)),
            f"the codebook of {name!r}",
        )
    if kind == "grid":
        need(whole(more[0], -(2**24), 0) and whole(more[1], 0, 2**24), f"the range of {name!r}")
        need(more[2] in ([], [shape[0]]), f"the steps of {name!r}")
    if kind == "blocks":
        fits = len(shape) == 2 and type(more[0]) is int and more[0] in (16, 32, 64, 128, 256)
        need(fits and type(more[1]) is bool, f"the blocks of {name!r}")


SHORT = ("float16", "bfloat16")


def whole(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


# --- Tensors: each a list of coded parts, one after the other ---------------------------------------------------------


def read_tensor(head: list[Any], data: Bytes) -> Array:
    kind, shape = head[1], tuple(head[3])
    if head[2] == "bfloat16":  # the upper halves of float32 numbers
        upper = read_tensor([head[0], kind, "uint16", shape], data)
        return (upper.astype(np.uint32) << 16).view(np.float32)
    dtype = np.dtype(head[2])
    if kind == "plain":
        return read_elements(data, dtype, math.prod(shape)).reshape(shape)
    symbols = read_integers(data, shape)
    if kind == "mask":  # 1 where an entry is kept; then the kept ones
        need(bool(np.isin(symbols, (0, 1)).all()), f"the mask of {head[0]!r}")
        values = np.zeros(shape, dtype)
        values[symbols == 1] = read_elements(data, dtype, int(symbols.sum()))
        return values
    if kind == "grid":  # levels, times the step: one, or one for each slice of the first axis
        step = read_elements(data, dtype, math.prod(head[6]))
        need(in_range(symbols, head[4], head[5]), f"a level of {head[0]!r}")
        return symbols.astype(np.float32) * (along_rows(step, shape) if head[6] else step[0])
    if kind == "blocks":  # levels, times the step of each block of each row
        blocks = (shape[0], -(-shape[1] // head[4]))
        step = read_elements(data, dtype, math.prod(blocks)).reshape(blocks)
        zero = read_integers(data, blocks) if head[5] else np.full(blocks, 8)
        need(in_range(zero, 0, 15), f"a zero of {head[0]!r}")
        step, zero = (np.repeat(part, head[4], axis=1)[:, : shape[1]] for part in (step, zero))
        need(in_range(symbols.astype(np.int64) + zero, 0, 15), f"a level of {head[0]!r}")
        return symbols.astype(np.float32) * step
    count, size = head[4:]  # a codebook: code + 1, or 0 for a zero; the values of all codebooks
    table = read_elements(data, dtype, count * size)
    need(in_range(symbols, 0, size), f"a code of {head[0]!r}")
    places = symbols.astype(np.int64)
    if count > 1:  # the number of the codebook of each slice of the first axis
        rows = read_integers(data, shape[:1]).astype(np.int64)
        need(in_range(rows, 0, count - 1), f"a codebook's number of {head[0]!r}")
        places = np.where(places > 0, places + along_rows(rows * size, shape), 0)
    return np.concatenate([np.zeros(1, np.float32), table])[places]


def along_rows(values: Array, shape: tuple[int, ...]) -> Array:
    return values.reshape(-1, *[1] * (len(shape) - 1))


def in_range(values: Array, least: int, most: int) -> bool:
    return not values.size or least <= int(values.min()) <= int(values.max()) <= most


def read_elements(data: Bytes, dtype: np.dtype[Any], count: int) -> Array:
    """0 and the little-endian bytes; or 5 and each byte of the elements apart: 0 and the bytes, or 3 and integers."""
    form = data.take(1)[0]
    need(form in (0, 5), "the form of elements")
    if form == 0:
        raw = data.take(count * dtype.itemsize)
    else:
        planes = []
        for _ in range(dtype.itemsize):
            need(data.data[data.place : data.place + 1] in (b"\0", b"\3"), "the coder of a plane")
            if data.data[data.place] == 0:
                planes.append(np.frombuffer(data.take(1 + count), np.uint8)[1:])
            else:
                plane = read_integers(data, (count,))
                need(in_range(plane, 0, 255), "a byte of a plane")
                planes.append(plane.astype(np.uint8))
        raw = np.stack(planes, axis=1).tobytes()
    need(dtype != np.bool_ or set(raw) <= {0, 1}, "a truth value")
    return np.frombuffer(raw, dtype.newbyteorder("<")).astype(dtype)


def read_integers(data: Bytes, shape: tuple[int, ...]) -> Array:
    """The coder's number, the payload's length, the payload → int32 of this shape. No integers have no payload."""
    number, payload, size = data.take(1)[0], data.take(data.varint()), math.prod(shape)
    need(1 <= number <= 4, "a coder that isn't known")
    if not size:
        need(not payload, "bytes for no symbols")
        return np.zeros(shape, np.int32)
    if number == 4:
        symbols = decode_adaptive(payload, shape)
    else:
        symbols = (decode_huffman, decode_sparse, decode_range)[number - 1](payload, size)
    need(in_range(symbols, -(2**31), 2**31 - 1), "an integer of more than 32 bits")
    return symbols.astype(np.int32).reshape(shape)


# --- Bits, and the alphabet that `huffman` and `range` begin with -----------------------------------------------------


class Bits:
    """Reads bits, the most significant of each byte first."""

    def __init__(self, payload: bytes) -> None:
        self.bits, self.place = np.unpackbits(np.frombuffer(payload, np.uint8)).tobytes(), 0

    def take(self, count: int) -> bytes:
        """Each bit as a byte."""
        need(count <= len(self.bits) - self.place, "a payload is cut short")
        self.place += count
        return self.bits[self.place - count : self.place]

    def read(self, width: int) -> int:
        value = 0
        for bit in self.take(width):
            value = 2 * value + bit
        return value

    def gamma(self) -> int:
        """Elias-gamma code of n + 1: as many zeros as bits follow the first one."""
        zeros = 0
        while not self.read(1):
            zeros += 1
            need(zeros <= 40, "a number is too large")
        return (1 << zeros | self.read(zeros)) - 1

    def signed(self) -> int:
        """0, −1, 1, −2, 2 … are 0, 1, 2, 3, 4 …"""
        value = self.gamma()
        return -(value + 1) // 2 if value % 2 else value // 2

    def align(self) -> int:
        """To the next byte, over zeros; its place."""
        need(self.read(-self.place % 8) == 0, "bits that aren't filled with zeros")
        return self.place // 8


def read_alphabet(bits: Bits, size: int) -> tuple[list[int], int]:
    """The letters, ascending: the symbols >> shift."""
    shift = bits.read(5) + 1 if bits.read(1) else 0
    count = bits.gamma() + 1
    need(count <= min(size, 4096), "an alphabet of too many letters")
    letters = [bits.signed()]
    spread = count > 1 and bits.read(1)  # else each is one more than that before
    for _ in range(count - 1):
        letters.append(letters[-1] + 1 + (bits.gamma() if spread else 0))
    need(letters[0] >= -(2**31) >> shift and letters[-1] <= 2**31 - 1 >> shift, "a letter of more than 32 bits")
    return letters, shift


def read_low(bits: Bits, size: int, shift: int) -> Array:
    """The low bits of every symbol, `shift` each."""
    low = np.frombuffer(bits.take(size * shift), np.uint8).reshape(size, shift)
    bits.align()
    return np.asarray(low @ (1 << np.arange(shift, dtype=np.int64)[::-1]))


# --- 1, `huffman`, and 2, `huffman-sparse` ----------------------------------------------------------------------------


def decode_huffman(payload: bytes, size: int) -> Array:
    """The alphabet, the length of each letter's code, the low bits, the codes."""
    if not size:
        need(not payload, "bytes for no symbols")
        return np.zeros(0, np.int64)
    bits = Bits(payload)
    letters, shift = read_alphabet(bits, size)
    lengths, length = [], 0
    for _ in letters:
        length += bits.signed()
        need(0 < length <= 48 or (len(letters) == 1 and length == 0), "the length of a code")
        lengths.append(length)
    bits.align()
    low = read_low(bits, size, shift)
    codes, code = {}, 0  # canonical: numbered by length, then letter
    for place in sorted(range(len(letters)), key=lengths.__getitem__):
        codes[lengths[place], code >> 48 - lengths[place]] = letters[place]
        code += 1 << 48 - lengths[place]
    need(code == 1 << 48, "code lengths that aren't those of a complete code")
    high = np.zeros(size, np.int64)
    for place in range(size):
        length = code = 0
        while (length, code) not in codes:
            length, code = length + 1, 2 * code + bits.take(1)[0]
        high[place] = codes[length, code]
    need(bits.align() == len(payload), "bytes after the last code")
    return high << shift | low


def decode_sparse(payload: bytes, size: int) -> Array:
    """Entries: a gap of zeros, then a value, which is zero only where the gap alone wasn't wide enough."""
    bits = Bits(payload)
    entries, width, length = bits.gamma(), bits.read(3) + 2, bits.gamma()
    start = bits.align()
    need(entries <= size and start + length <= len(payload), "more entries than there can be")
    gaps = decode_huffman(payload[start : start + length], entries)
    values = decode_huffman(payload[start + length :], entries)
    need(in_range(gaps, 0, (1 << width) - 1), "a gap that is too wide")
    places = np.cumsum(gaps + 1) - 1
    need(not entries or (places[-1] < size and values[-1] != 0), "entries that don't fit the tensor")
    symbols = np.zeros(size, np.int64)
    symbols[places] = values
    return symbols


# --- 3, `range`: a histogram and asymmetric numeral systems -----------------------------------------------------------


def decode_range(payload: bytes, size: int) -> Array:
    """The alphabet, the histogram, the low bits, the coder's words without the zero bytes at their end."""
    bits = Bits(payload)
    letters, shift = read_alphabet(bits, size)
    counts = read_counts(bits, len(letters), size)
    bits.align()
    low = read_low(bits, size, shift)
    stream = payload[bits.place // 8 :]
    if len(letters) == 1:
        need(not stream, "bytes after the end")
        return np.full(size, letters[0]) << shift | low
    need(stream[-1:] not in (b"", b"\0"), "the words' end")
    places = np.array(decode_words(stream + bytes(-len(stream) % 4), frequencies(counts), size))
    need(int(places.min()) > 0, "a symbol that is none")
    high: Array = np.array(letters, np.int64)[places - 1]
    return high << shift | low


def frequencies(counts: list[int]) -> list[int]:
    """Of 2²⁴: 1 for a dummy in front of the letters, at least 1 for each letter, the rest in proportion."""
    rest = (1 << 24) - 1 - len(counts)
    parts = [count * rest // sum(counts) for count in counts]
    parts[parts.index(max(parts))] += rest - sum(parts)
    return [1] + [part + 1 for part in parts]


def decode_words(stream: bytes, frequency: list[int], size: int) -> list[int]:
    """Asymmetric numeral systems (Duda 2013): a state of 64 bits, which the low 24 bits of tell the symbol; words of 32
    bits, little-endian, taken from the end whenever the state has no more than 32."""
    words = np.frombuffer(stream, "<u4").tolist()
    first = [0, *accumulate(frequency)]
    state, symbols = 0, []
    while words and state < 1 << 32:
        state = state << 32 | words.pop()
    for _ in range(size):
        remainder = state & (1 << 24) - 1
        symbol = bisect_right(first, remainder) - 1
        symbols.append(symbol)
        state = (state >> 24) * frequency[symbol] + remainder - first[symbol]
        if state < 1 << 32 and words:
            state = state << 32 | words.pop()
    need(state == 0 and not words, "the coder's end isn't the symbols'")
    return symbols


def read_counts(bits: Bits, letters: int, size: int) -> list[int]:
    """How often each letter occurs, about: the upper half of the bits, and the middle of what they leave open."""
    most = bits.read((letters - 1).bit_length())
    need(most < letters, "the most frequent letter")
    counts, length = [0] * letters, 1
    for letter in range(letters):
        if letter != most:
            length += bits.signed()
            need(0 < length <= size.bit_length(), "the length of a count")
            dropped = min(length - 1, length // 2 + 1)
            upper = 1 << length - dropped - 1 | bits.read(length - dropped - 1)
            counts[letter] = upper << dropped | 1 << dropped >> 1
    counts[most] = max(1, size - sum(counts))
    return counts


# --- 4, `adaptive`: every symbol as binary decisions, each with a chance mixed from what was decoded before -----------


def decode_adaptive(payload: bytes, shape: tuple[int, ...]) -> Array:
    size = math.prod(shape)
    need(len(payload) > 0, "a payload is cut short")
    if payload[0] == 0:  # as they are
        need(len(payload) == 1 + 4 * size, "the length of symbols")
        return np.frombuffer(payload, "<i4", offset=1)
    columns_first, stride = divmod(payload[0], 128)
    need(stride > 0, "a stride of 0")
    rows, columns, depth = (shape[0], shape[1], math.prod(shape[2:])) if len(shape) > 1 else (1, size, 1)
    if columns_first:
        rows, columns = columns, rows
    decisions = Decisions(payload[1:])
    alive = [1] * (rows + columns)
    if min(rows, columns) > 1 and read_flags(decisions, 1) == [1]:  # some rows or columns are zero throughout
        alive = read_flags(decisions, rows + columns)
    live_rows = [row for row in range(rows) if alive[row]]
    live_columns = [column for column in range(columns) if alive[rows + column]]
    table = np.zeros((rows, columns, depth), np.int64)
    for (row, column, k), value in read_symbols(decisions, len(live_rows), live_columns, depth, stride).items():
        table[live_rows[row], column, k] = value
    decisions.end()
    return table.transpose(1, 0, 2) if columns_first else table


def logistic() -> tuple[list[int], list[int]]:
    """65536 / (1 + e^(−x/256)) for x from −3071 to 3071, by integers of 96 bits behind the point; and its inverse."""
    one = 1 << 96
    root, term, divisor = 0, one, 0
    while term:  # e^(1/256) by its series
        root, divisor = root + term, divisor + 256
        term //= divisor
    upper, power = [], one
    for _ in range(3072):
        upper.append(65536 * power // (power + one))
        power = power * root >> 96
    squash = [max(1, 65536 - p) for p in upper[:0:-1]] + [min(65535, p) for p in upper]
    return squash, [min(3071, bisect_left(squash, p) - 3071) for p in range(65536)]


SQUASH, STRETCH = logistic()
NO_NEIGHBOURS = [0] * 18


class Decisions:
    """A binary arithmetic decoder with bounds of 32 bits, and the model that its chances come from: eleven adaptive
    chances, each of a context, and eighteen inputs more, mixed in the logistic domain (Mahoney 2005)."""

    def __init__(self, stream: bytes) -> None:
        self.stream, self.place = stream, 4
        self.low, self.high, self.value = 0, 2**32 - 1, int.from_bytes(stream[:4].ljust(4, b"\0"), "big")
        self.cells: dict[tuple[int, int, int], list[int]] = {}  # the chance of a 1, of 2²²; decisions so far
        self.weights = [[65536 * 85 // 1000] * 11 + [0] * 18 for _ in range(16)]

    def next(self, node: int, weight_set: int, contexts: list[int], inputs: list[int]) -> int:
        """One decision. `node`: which one of a symbol it is. `inputs`: the eighteen."""
        cells: list[list[int]] = []
        for i, context in enumerate(contexts):  # a new cell begins where the first, of all contexts together, stands
            cells.append(self.cells.setdefault((i, context, node), [cells[0][0] if i else 1 << 21, 0]))
        inputs = [STRETCH[chance >> 6] for chance, _ in cells] + inputs
        weights = self.weights[weight_set]
        dot = sum(weight * value for weight, value in zip(weights, inputs, strict=True)) >> 16
        chance = SQUASH[min(max(dot, -3071), 3071) + 3071]
        bit = self._bit(chance)
        error = ((bit << 16) - chance) * 2
        for i, value in enumerate(inputs):
            weights[i] += value * error + (1 << 17) >> 18
        for cell in cells:
            moved = cell[0] + (((bit << 22) - cell[0]) * (131072 // (2 * cell[1] + 5)) >> 16)
            cell[:] = min(max(moved, 64), (1 << 22) - 64), min(cell[1] + 1, 1023)
        return bit

    def _bit(self, chance: int) -> int:
        span = self.high - self.low
        middle = self.low + (span >> 16) * chance + ((span & 0xFFFF) * chance >> 16)
        bit = int(self.value <= middle)
        self.low, self.high = (self.low, middle) if bit else (middle + 1, self.high)
        while self.low >> 24 == self.high >> 24:
            following = self.stream[self.place] if self.place < len(self.stream) else 0
            self.value = (self.value << 8 & 0xFFFFFFFF) + following
            self.low, self.high = self.low << 8 & 0xFFFFFFFF, (self.high << 8 & 0xFFFFFFFF) + 255
            self.place += 1
        return bit

    def end(self) -> None:
        """The stream ends with the fewest bytes which, whatever follows them, are a value within the bounds."""
        for count in range(5):
            step = 1 << 32 - 8 * count
            value = -(-self.low // step) * step
            if value + step - 1 <= self.high:
                break
        ending = (value >> 32 - 8 * count).to_bytes(count, "big")
        shifted = self.place - 4
        need(shifted <= len(self.stream) and self.stream[shifted:] == ending, "the coder's end isn't the symbols'")


def read_flags(decisions: Decisions, count: int) -> list[int]:
    flags, history = [], 0
    for _ in range(count):  # contexts: the last one, two … six flags
        contexts = [0 if i in (0, 7, 8) else history & (1 << min(i, 6)) - 1 for i in range(11)]
        flags.append(decisions.next(63, 0, contexts, NO_NEIGHBOURS))
        history = history << 1 & 63 | flags[-1]
    return flags


def read_symbols(
    decisions: Decisions, rows: int, live_columns: list[int], depth: int, stride: int
) -> dict[tuple[int, int, int], int]:
    """All that aren't zero, by (row, column, place in the kernel); rows that are zero throughout aren't counted."""
    symbols: dict[tuple[int, int, int], int] = {}
    side = math.isqrt(depth)
    width = side if side * side == depth else depth  # of a square kernel; another is taken for a line
    column_count = dict.fromkeys(live_columns, 0)  # how many aren't zero
    column_balance = dict.fromkeys(live_columns, 0)  # how many more are positive than negative
    for row in range(rows):
        need(decisions.place <= len(decisions.stream) + 4, "it ends before its last symbol")
        row_count, row_balance, recent = 0, 0, 0
        for seen, column in enumerate(live_columns):
            inside = 0  # how many of this kernel aren't zero
            for k in range(depth):
                near = look_around(symbols, row, column, k, width, stride)
                place = (min(k, 63), min(column, 4096), min(row, 4096))
                by_row = density(row_count, seen * depth + k)
                by_column = density(column_count[column], row * depth + k)
                spread = min((recent >> 4).bit_length(), 9)
                contexts = significance_contexts(near, place, by_row, by_column, inside, spread)
                if not decisions.next(0, 0, contexts, [128 * min(abs(v), 2) for v in near] + [256]):
                    recent -= recent >> 4
                    continue
                tilts = tilt(row_balance), tilt(column_balance[column])
                signed = [128 * max(-2, min(v, 2)) for v in near] + [256]
                negative = decisions.next(1, 1, sign_contexts(near, place, *tilts), signed)
                contexts = magnitude_contexts(near, place, by_row, by_column, tilts[1], negative)
                sign = -1 if negative else 1
                symbols[row, column, k] = sign * read_magnitude(decisions, contexts, signed)
                inside, row_count, row_balance = inside + 1, row_count + 1, row_balance + sign
                column_count[column] += 1
                column_balance[column] += sign
                recent += 65536 - recent >> 4
    return symbols


def read_magnitude(decisions: Decisions, contexts: list[int], inputs: list[int]) -> int:
    """An Elias-gamma code: the number of bits after the first in unary, then these bits."""
    count, known = 0, 1
    while count < 31 and decisions.next(2 + min(count, 19), 2 + min(count, 9), contexts, inputs):
        count += 1
    for _ in range(count):
        node = 22 + known if count < 4 else 18 + 3 * min(count, 14) + (0 if known == 1 else 1 if known < 4 else 2)
        known = 2 * known + decisions.next(node, 12, contexts, inputs)
    return known


def look_around(
    symbols: dict[tuple[int, int, int], int], row: int, column: int, k: int, width: int, stride: int
) -> list[int]:
    """The seventeen neighbours: 0–3 before it in the row, 4–7 above it in the column, 8 and 9 aslant, 10–13 a stride
    before (in a picture's line above), 14–16 in the kernel. Zero where there is none, or it isn't decoded yet."""
    before = [(row, column - i, k) for i in (1, 2, 3, 4)]
    above = [(row - i, column, k) for i in (1, 2, 3, 4)] + [(row - 1, column - 1, k), (row - 1, column + 1, k)]
    line = [(row, column - i, k) for i in (stride, stride + 1, stride - 1, 2 * stride)]
    kernel = [(row, column, k - i) for i in (1, width, 2)]
    return [symbols.get(place, 0) for place in before + above + line + kernel]


# The eleven contexts of each kind of decision. `place`: in the kernel, column, row.


def significance_contexts(
    near: list[int], place: tuple[int, int, int], by_row: int, by_column: int, inside: int, spread: int
) -> list[int]:
    two = [min(abs(v), 2) for v in near]
    one = [min(v, 1) for v in two]
    around = 2 * (two[0] + two[4] + two[10] + two[14] + two[15]) + two[1] + two[5] + one[8] + one[9] + one[11] + one[12]
    return [
        0, digits(3, two[0], two[1], two[4], two[5]), by_row * 20 + by_column, digits(3, by_column, two[0], two[4]),
        digits(3, by_row, two[0], two[10]), digits(2, two[10], one[11], one[12]) * 9 + digits(3, two[0], two[4]),
        digits(3, place[0], two[14], two[15]), place[1], place[2], spread * 20 + by_column,
        (min(inside, 3) * 16 + min(around, 15)) * 10 + spread,
    ]  # fmt: skip


def sign_contexts(near: list[int], place: tuple[int, int, int], tilt_row: int, tilt_column: int) -> list[int]:
    sign = [0 if v == 0 else 1 if v > 0 else 2 for v in near]
    return [
        0, digits(3, sign[0], sign[1], sign[4], sign[5]), tilt_row * 7 + tilt_column,
        digits(3, tilt_column, sign[0], sign[4]), digits(3, tilt_row, sign[0], sign[10]),
        digits(3, sign[10], sign[11], sign[12], sign[0], sign[4]), digits(3, place[0], sign[14], sign[15]),
        place[1], place[2], tilt_column * 3 + sign[10], digits(3, sign[14], sign[15]) * 7 + tilt_column,
    ]  # fmt: skip


def magnitude_contexts(
    near: list[int], place: tuple[int, int, int], by_row: int, by_column: int, tilt_column: int, negative: int
) -> list[int]:
    seven = [min(abs(v), 7) for v in near]
    two = [min(v, 2) for v in seven]
    return [
        0, seven[0] * 8 + seven[4], by_row * 20 + by_column, digits(3, by_column, two[0], two[4]),
        negative * 20 + by_row, seven[10] * 8 + seven[0], digits(3, place[0], two[14], two[15]), place[1], place[2],
        min(seven[0] + seven[4] + seven[10] + seven[14] + seven[15], 31) * 2 + negative, tilt_column * 2 + negative,
    ]  # fmt: skip


def digits(radix: int, *values: int) -> int:
    number = 0
    for value in values:
        number = number * radix + value
    return number


def density(count: int, seen: int) -> int:
    """0 to 19, in octaves: how many of those seen aren't zero; while none is, how many were seen."""
    return 10 + min((count * 512 // seen).bit_length(), 9) if count else min(seen.bit_length(), 9)


def tilt(balance: int) -> int:
    """0 to 6: how many more are positive than negative: 0, 1, 2–4, more; then the same for negative."""
    size = abs(balance)
    level = (size > 0) + (size > 1) + (size > 4)
    return level if balance >= 0 else 3 + level


# --- The preset dictionary of the description, part of version 1 of the format ----------------------------------------

DICTIONARY = (
    '"aliases":{"parameters":["cls_token","position"],"buffers":["ellipsis":true"slice":[null,null,null]"dtype":"float32"'
    '"kind":"ConvTranspose2d","arguments":{"output_padding":"Upsample","arguments":{"size":null,"scale_factor":2.0,'
    '"mode":"nearest","align_corners":null"kind":"PReLU","arguments":{"num_parameters":"kind":"LSTM","arguments":{'
    '"input_size":"hidden_size":"bidirectional":false}"kind":"GRU""kind":"Embedding","arguments":{"num_embeddings":'
    '"embedding_dim":"padding_idx":null}"kind":"GroupNorm","arguments":{"num_groups":"num_channels":"eps":1e-05,'
    '"affine":true}"kind":"Softmax","arguments":{"dim":-1}"kind":"Hardsigmoid","arguments":{}"kind":"Sigmoid",'
    '"arguments":{}"kind":"Tanh","arguments":{}"kind":"SiLU","arguments":{}"kind":"Hardtanh","arguments":{"min_val":'
    '"max_val":"kind":"LeakyReLU","arguments":{"negative_slope":0.01}"kind":"Dropout2d""kind":"AvgPool2d",'
    '"arguments":{"kernel_size":2,"stride":2,"padding":0,"ceil_mode":false,"count_include_pad":true,'
    '"divisor_override":null}"op":"get_attr","target":"aten.select.int","aten.slice.Tensor","aten.expand.default",'
    '"args":["target":"scaled_dot_product_attention","kwargs":{"is_causal":false,"scale":"enable_gqa":false}'
    '"target":"permute","args":[{"node":{"tuple":[0,2,1,3]}"target":"transpose","target":"matmul","target":"chunk",'
    '"target":"split","target":"getitem","target":"unbind","target":"cat","args":[[{"node":"target":"mul","args":['
    '"target":"reshape","args":[{"node":{"tuple":[-1,"target":"size","args":[{"node":"target":"mean","args":[{"node":'
    '{"tuple":[2,3]}],"kwargs":{"keepdim":true}"kind":"GELU","arguments":{"approximate":"none"}"kind":"LayerNorm",'
    '"arguments":{"normalized_shape":{"tuple":["eps":1e-06,"elementwise_affine":true,"bias":true}"kind":"Hardswish",'
    '"arguments":{}"kind":"ReLU6","arguments":{}"kind":"Dropout","arguments":{"p":0.5}"kind":"Identity","arguments":{}'
    '"kind":"Flatten"{"name":"flatten","op":"call_function","target":"flatten","args":[{"node":"},1],"kwargs":{}},'
    '"kind":"AdaptiveAvgPool2d","arguments":{"output_size":1}{"name":"add","op":"call_function","target":"add","args":'
    '[{"node":"},{"node":"}],"kwargs":{}},"kind":"Conv2d","arguments":{"in_channels":64,"out_channels":64,'
    '"kernel_size":{"tuple":[1,1]},"stride":{"tuple":[2,2]},"padding":{"tuple":[0,0]},"dilation":{"tuple":[1,1]},'
    '"groups":1,"bias":false,"padding_mode":"zeros"}},"bn":{"kind":"BatchNorm2d","arguments":{"num_features":64,'
    '"eps":1e-05,"momentum":0.1,"affine":true}},"running_mean","plain","float32",[64]],".running_var","plain",'
    '"float32",[64]],".num_batches_tracked","plain","int64",[]],"codebook","float32","mask","float32",'
    '"kind":"Conv2d","arguments":{"in_channels":32,"out_channels":32,"kernel_size":{"tuple":[3,3]},"stride":'
    '{"tuple":[1,1]},"padding":{"tuple":[1,1]},"dilation":{"tuple":[1,1]},"groups":1,"bias":true,"padding_mode":'
    '"zeros"}},"relu2":{"kind":"ReLU","arguments":{}},"pool2":{"kind":"MaxPool2d","arguments":{"kernel_size":2,'
    '"stride":2,"padding":0,"dilation":1,"ceil_mode":false}},"c2":{"kind":"Conv2d","arguments":{"in_channels":'
    '1,"out_channels":20,"kernel_size":{"tuple":[5,5]},"stride":{"tuple":[1,1]},"padding":{"tuple":[0,0]},"dilation":'
    '{"tuple":[1,1]},"groups":1,"bias":true,"padding_mode":"zeros"}},"pool1":{"kind":"MaxPool2d","arguments":'
    '{"kernel_size":2,"stride":2,"padding":0,"dilation":1,"ceil_mode":false}},"f2":{"kind":"Linear","arguments":'
    '{"in_features":500,"out_features":10,"bias":true}},"relu3":{"kind":"ReLU","arguments":{}},"fc":{"kind":"Linear",'
    '"arguments":{"in_features":784,"out_features":300,"bias":true}}},"parameters":[],"buffers":[],"aliases":{}},'
    '{"name":"conv1","op":"call_module","target":"conv1","args":[{"node":"x"}],"kwargs":{}},{"name":"relu1","op":'
    '"call_module","target":"relu1","args":[{"node":"pool2"}],"kwargs":{}},{"name":"f1","op":"call_module","target":'
    '"f1","args":[{"node":"flatten"}],"kwargs":{}},{"name":"output","op":"output","target":"output","args":[{"node":"'
    '"}],"kwargs":{}}],"modules":{"{"network":{"format":1,"graph":{"nodes":[{"name":"x","op":"placeholder","target":"x",'
    '"args":[],"kwargs":{}},{"name":"c1","op":"call_module","target":"c1","args":[{"node":"x"}],"kwargs":{}},'
    '"inputs":[{"name":"x","shape":[1,28,28],"dtype":"float32"}],"outputs":["output"],"encodings":{"c1.weight":"grid",'
    '"c1.bias":"grid"},"variants":{"full":[0]},"provenance":[]},"tensors":[["c1.weight","grid","float32",[20,1,5,5],-1,1,'
    '[]],["c1.bias","grid","float32",[20],-127,127,[]],["f1.weight","grid","float32",[500,800],-1,1,[]],["f1.bias",'
)  # fmt: skip

if __name__ == "__main__":
    main()
