"""How one tensor lies in a `.nwk` file: as a list of coded parts. Numpy alone.

    kind        parts
    plain       the bytes of its elements, little-endian; or one plane for each byte of an element. Of a bfloat16 it
                is the upper half of a float32
    mask        1 where an entry is kept, else 0 (the tensor's shape); the kept entries, plain
    codebook    code + 1, or 0 for a zero (the tensor's shape); the codebooks, flat, plain; where there are several, the
                codebook's number for each slice of the first axis
    grid        levels (the tensor's shape); the step, or one for each slice of the first axis, plain
    blocks      levels (code − zero, the tensor's shape); a step for each block of each row, plain; the zeros, where
                they have their own

Integers are: one byte, the coder's number; the payload's length as a varint; the payload. Plain elements are: 0 and the
bytes; or 5 and the planes, each as 0 and its bytes, or like integers.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from compression.coding.adaptive import seconds_expected
from compression.coding.coder import CODERS, smallest
from compression.container.sections import Bytes, malformed, varint

Kind = Literal["plain", "mask", "codebook", "grid", "blocks"]
Array = NDArray[Any]
Choose = Callable[[NDArray[np.int32]], tuple[str, bytes]]
"""The coder's name and the payload, for integers."""

BFLOAT16 = "bfloat16"
BLOCK_SIZES = frozenset({16, 32, 64, 128, 256})
CODES, MIDDLE = 16, 8
"""Of `blocks`: how many codes there are, and the one that is zero where a block has no zero of its own."""
TOLD_SECONDS = 15
_LOG = logging.getLogger(__name__)
_RAW, _PLANES = 0, 5
_NUMBERS: Mapping[str, int] = {"huffman": 1, "huffman-sparse": 2, "range": 3, "adaptive": 4}
_NAMES = {number: name for name, number in _NUMBERS.items()}


@dataclass(frozen=True)
class Tensor:
    """`values`: as the network has them. `parts`: what the encoding consists of, by name, as numpy arrays: `keep`
    (bool), `codes` (int64) with `rows` (int64) where there are several codebooks, `step` (float32) with `range`
    (int64, lowest and highest level) or with `size` (int64) and, if blocks have zeros, `zero` (uint8). `bfloat16`: the
    values, float32, are such; numpy has no type for them."""

    name: str
    kind: Kind
    values: Array
    parts: Mapping[str, Array] = field(default_factory=dict)
    bfloat16: bool = False

    def head(self) -> list[Any]:
        """JSON: name, kind, type, shape, then what the kind adds: how many codebooks and values, or the range."""
        values = self.values
        dtype = BFLOAT16 if self.bfloat16 else values.dtype.name
        head: list[Any] = [self.name, self.kind, dtype, list(values.shape)]
        if self.kind == "codebook":
            codes, rows = self.parts["codes"], self.parts.get("rows")
            head += [1 if rows is None else int(rows.max(initial=0)) + 1, max(1, int(codes.max(initial=-1)) + 1)]
        elif self.kind == "grid":
            head += [int(limit) for limit in self.parts["range"]] + [list(self.parts["step"].shape)]
        elif self.kind == "blocks":
            head += [int(self.parts["size"]), "zero" in self.parts]
        return head


def chooser(coder: str) -> Choose:
    """`auto` takes the coder that needs the fewest bytes, tensor by tensor."""
    if coder == "auto":
        return smallest
    return lambda symbols: (coder, CODERS[coder].encode(symbols))


def write(tensor: Tensor, choose: Choose) -> bytes:
    """The tensor's parts, one after the other."""
    values, parts = tensor.values, tensor.parts
    if tensor.bfloat16:
        values = (values.view(np.uint32) >> 16).astype(np.uint16)
    if tensor.kind == "mask":
        keep = parts["keep"]
        return _integers(keep, choose) + _plain(values[keep])
    if tensor.kind == "codebook":
        rows = parts.get("rows")
        numbers = b"" if rows is None else _integers(rows, choose)
        return _integers(parts["codes"] + 1, choose) + _plain(_codebooks(tensor)) + numbers
    if tensor.kind == "grid":
        return _integers(_levels(values, parts["step"]), choose) + _plain(parts["step"])
    if tensor.kind == "blocks":
        levels = np.rint(values / _along_blocks(parts["step"], tensor.head()[4], values)).astype(np.int32)
        zeros = _integers(parts["zero"], choose) if "zero" in parts else b""
        return _integers(levels, choose) + _plain(parts["step"]) + zeros
    return _plain(values)


def read(head: list[Any], data: Bytes) -> Tensor:
    """The tensor of this head. IntakeError: the parts don't fit it. The caller has checked that the shape is one that
    memory is there for."""
    name, kind, shape, short = head[0], head[1], tuple(head[3]), head[2] == BFLOAT16
    dtype = np.dtype(np.uint16 if short else head[2])
    if kind == "mask":
        kept = _read_integers(data, shape)
        if not np.isin(kept, (0, 1)).all():
            raise malformed("a mask of other values than 0 and 1", name)
        keep = kept.astype(bool)
        values = np.zeros(shape, dtype)
        values[keep] = _read_plain(data, dtype, (int(keep.sum()),))
        return Tensor(name, kind, _widened(values) if short else values, {"keep": keep}, short)
    if kind == "codebook":
        return _read_codebook(head, data)
    if kind == "grid":
        levels = _read_integers(data, shape)
        step = _read_plain(data, np.dtype(np.float32), tuple(head[6]))
        if levels.size and not head[4] <= levels.min() <= levels.max() <= head[5]:
            raise malformed("a level out of range", name)
        parts = {"step": step, "range": np.array(head[4:6], np.int64)}
        return Tensor(name, kind, levels.astype(np.float32) * _along_rows(step, len(shape)), parts)
    if kind == "blocks":
        return _read_blocks(head, data)
    values = _read_plain(data, dtype, shape)
    return Tensor(name, "plain", _widened(values) if short else values, bfloat16=short)


def _widened(upper: Array) -> Array:
    """The float32 numbers of which these are the upper halves."""
    return (upper.astype(np.uint32) << 16).view(np.float32)


def _read_codebook(head: list[Any], data: Bytes) -> Tensor:
    name, kind, shape, count, size = head[0], head[1], tuple(head[3]), head[4], head[5]
    codes = _read_integers(data, shape).astype(np.int64) - 1
    table = _read_plain(data, np.dtype(np.float32), (count * size,))
    if codes.size and not -1 <= codes.min() <= codes.max() < size:
        raise malformed("a code out of range", name)
    places, parts = codes, {"codes": codes}
    if count > 1:
        rows = _read_integers(data, shape[:1]).astype(np.int64)
        if rows.size and not 0 <= rows.min() <= rows.max() < count:
            raise malformed("a codebook's number out of range", name)
        parts["rows"] = rows
        places = np.where(codes < 0, -1, codes + _along_rows(rows * size, len(shape)))
    return Tensor(name, kind, np.concatenate([np.zeros(1, np.float32), table])[places + 1], parts)


def _read_blocks(head: list[Any], data: Bytes) -> Tensor:
    name, kind, shape, size = head[0], head[1], tuple(head[3]), head[4]
    levels = _read_integers(data, shape)
    by_block = (shape[0], -(-shape[1] // size))
    step = _read_plain(data, np.dtype(np.float32), by_block)
    parts: dict[str, Array] = {"step": step, "size": np.array(size, np.int64)}
    zero = np.full(by_block, MIDDLE, np.int32)
    if head[5]:
        zero = _read_integers(data, by_block)
        if zero.size and not 0 <= zero.min() <= zero.max() < CODES:
            raise malformed("a zero out of range", name)
        parts["zero"] = zero.astype(np.uint8)
    codes = levels.astype(np.int64) + _along_blocks(zero, size, levels)
    if codes.size and not 0 <= codes.min() <= codes.max() < CODES:
        raise malformed("a level out of range", name)
    return Tensor(name, kind, levels.astype(np.float32) * _along_blocks(step, size, levels), parts)


def _codebooks(tensor: Tensor) -> Array:
    """The codebooks' values, flat; zero where no entry has that code."""
    codes, rows = tensor.parts["codes"], tensor.parts.get("rows")
    _, _, _, _, count, size = tensor.head()
    places = codes if rows is None else np.where(codes < 0, -1, codes + _along_rows(rows * size, codes.ndim))
    table = np.zeros(count * size, np.float32)
    used = places >= 0
    table[places[used]] = tensor.values[used]
    return table


def _levels(values: Array, step: Array) -> Array:
    return np.rint(values / _along_rows(step, values.ndim)).astype(np.int32)


def _along_rows(value: Array, axes: int) -> Array:
    return value.reshape(-1, *[1] * (axes - 1)) if value.ndim else value


def _along_blocks(by_block: Array, size: int, values: Array) -> Array:
    """For each entry of the matrix `values` what its block has."""
    return np.repeat(by_block, size, axis=1)[:, : values.shape[1]]


def _integers(symbols: Array, choose: Choose) -> bytes:
    name, payload = choose(symbols.astype(np.int32))
    return bytes([_NUMBERS[name]]) + varint(len(payload)) + payload


def _read_integers(data: Bytes, shape: tuple[int, ...]) -> NDArray[np.int32]:
    number = data.take(1)[0]
    if number not in _NAMES:
        raise malformed(f"a coder that isn't known: {number}")
    seconds = seconds_expected(math.prod(shape)) if _NAMES[number] == "adaptive" else 0
    if seconds > TOLD_SECONDS:
        _LOG.warning("%s numbers to decode: up to %.0f s; much less with Numba (extra `fast`)", shape, seconds)
    return CODERS[_NAMES[number]].decode(data.take(data.varint()), shape)


def _plain(values: Array) -> bytes:
    """Each byte of the elements apart: of floats, the one with the exponents is worth coding. Or as they are."""
    raw = values.astype(values.dtype.newbyteorder("<")).tobytes()
    planes = np.frombuffer(raw, np.uint8).reshape(-1, values.dtype.itemsize).T
    coded = b"".join(map(_plane, planes))
    return bytes([_PLANES]) + coded if len(coded) < len(raw) else bytes([_RAW]) + raw


def _plane(plane: NDArray[np.uint8]) -> bytes:
    payload = CODERS["range"].encode(plane.astype(np.int32))
    if len(payload) < plane.size:
        return bytes([_NUMBERS["range"]]) + varint(len(payload)) + payload
    return bytes([_RAW]) + plane.tobytes()


def _read_plain(data: Bytes, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    count, number = math.prod(shape), data.take(1)[0]
    if number == _PLANES:
        raw = np.stack([_read_plane(data, count) for _ in range(dtype.itemsize)], axis=1).tobytes()
    elif number == _RAW:
        raw = data.take(count * dtype.itemsize)
    else:
        raise malformed(f"plain elements in another form: {number}")
    if dtype == np.bool_ and not set(raw) <= {0, 1}:
        raise malformed("a truth value other than 0 and 1")
    return np.frombuffer(raw, dtype.newbyteorder("<")).astype(dtype).reshape(shape)


def _read_plane(data: Bytes, count: int) -> NDArray[np.uint8]:
    number = data.take(1)[0]
    if number == _RAW:
        return np.frombuffer(data.take(count), np.uint8)
    if number != _NUMBERS["range"]:
        raise malformed(f"bytes in a coder for integers: {number}")
    values = CODERS["range"].decode(data.take(data.varint()), (count,))
    if values.size and not 0 <= values.min() <= values.max() <= 255:
        raise malformed("a byte out of range")
    return values.astype(np.uint8)
