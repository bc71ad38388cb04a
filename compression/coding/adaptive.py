"""`adaptive`: context-modelled binary arithmetic coding, after DeepCABAC (Wiedemann 2020), with mixed predictions.

Payload: one byte, then the arithmetic coder's. The byte is 0 where the symbols follow as they are (noise: int32,
little-endian); else its highest bit says that the first two axes changed places, and the others are the stride, 1 to
127: how many columns before a symbol its neighbour in a picture's line above stands.

A tensor is read as rows (its first axis), columns (its second) and kernels (all others). Rows and columns that are zero
throughout are told by flags and not coded: pruned networks have many. Left-out rows are closed up, so that the row
above is one that says something; columns stay in place, so that the stride holds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compression.coding.compiled import COMPILED, WORTH_COMPILING, Kernel, kernel_for
from compression.coding.kernel import CONTEXTS, INPUTS, NEARBY, NODES, WEIGHT_SETS, context_sizes
from compression.coding.logistic import SQUASH, STRETCH
from compression.coding.malformed import malformed

_COLUMNS_FIRST = 128
_STRIDES = 127
_FIRST_WEIGHT = 65536 * 85 // 1000  # eleven of them are nearly one
_RATES = [131072 // (2 * seen + 5) for seen in range(1024)]  # 1 / (n + 2½): an average that begins at its parent's
_SECONDS_COMPILED, _SECONDS_INTERPRETED = 5e-7, 6e-5  # a symbol, on one core of 2026
_SECONDS_OF_COMPILING = 10.0


@dataclass(frozen=True)
class Scan:
    """How a tensor is walked through."""

    columns_first: bool
    stride: int


def seconds_expected(symbols: int, *, compiled: bool = COMPILED) -> float:
    """About how long decoding takes at most, on one core; encoding tries two scans and takes twice that. Without the
    extra `fast` a million weights take a minute; with it, the first call may have to compile the loops."""
    if compiled and symbols >= WORTH_COMPILING:
        return _SECONDS_OF_COMPILING + symbols * _SECONDS_COMPILED
    return symbols * _SECONDS_INTERPRETED


def encode(symbols: NDArray[np.int32], /) -> bytes:
    if not symbols.size:
        return b""
    kernel = kernel_for(symbols.size)
    payloads = [encode_with(symbols, scan, kernel) for scan in _scans(symbols)]
    plain = b"\0" + symbols.astype("<i4").tobytes()
    return min([*payloads, plain], key=len)


def decode(payload: bytes, shape: tuple[int, ...]) -> NDArray[np.int32]:
    """IntakeError: not what `encode` wrote for an array of this shape."""
    size = math.prod(shape)
    if not size or not payload:
        if size or payload:
            raise malformed("there are bytes for no symbols, or symbols without bytes")
        return np.zeros(shape, np.int32)
    if payload[0] == 0:
        if len(payload) != 1 + 4 * size:
            raise malformed("its length is not that of its symbols")
        return np.frombuffer(payload, "<i4", offset=1).astype(np.int32).reshape(shape)
    return decode_with(payload, shape, kernel_for(size))


def _scans(symbols: NDArray[np.int32]) -> list[Scan]:
    orders = (False, True) if min(_view(symbols.shape)[:2]) > 1 else (False,)
    return [Scan(columns_first, _best_stride(_oriented(symbols, columns_first))) for columns_first in orders]


def _view(shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(shape) < 2:
        return 1, math.prod(shape), 1
    return shape[0], shape[1], math.prod(shape[2:])


def _oriented(symbols: NDArray[Any], columns_first: bool) -> NDArray[Any]:
    table = symbols.reshape(_view(symbols.shape))
    return table.transpose(1, 0, 2) if columns_first else table


def _alive(table: NDArray[np.int32], axis: int) -> NDArray[np.bool_]:
    others = (1, 2) if axis == 0 else (0, 2)
    alive: NDArray[np.bool_] = (table != 0).any(axis=others)
    return alive


def _best_stride(table: NDArray[np.int32]) -> int:
    """The distance at which signs agree most often, less how often they differ; 1 where none does."""
    some = np.sign(table[: max(1, (1 << 20) // (table[0].size + 1))]).astype(np.int8)
    agreed = {1: 0}
    for stride in range(2, min(_STRIDES, table.shape[1] // 2) + 1):
        agreed[stride] = int(np.sum(some[:, stride:] * some[:, :-stride], dtype=np.int64))
    return max(agreed, key=lambda stride: (agreed[stride], -stride))


def encode_with(symbols: NDArray[np.int32], scan: Scan, kernel: Kernel) -> bytes:
    table = _oriented(symbols, scan.columns_first)
    stream = kernel.octets(bytes(4 * symbols.size + 64))
    coder = kernel.numbers([0, 0xFFFFFFFF, 0, 0])
    model = _model(table.shape, kernel)
    alive_rows, alive_columns = _alive(table, 0), _alive(table, 1)
    if min(table.shape[:2]) > 1:
        flags = [int(not (alive_rows.all() and alive_columns.all()))]
        kernel.module.code_flags(kernel.numbers(flags), False, model, coder, stream)
        if flags[0]:
            flags = np.concatenate([alive_rows, alive_columns]).astype(int).tolist()
            kernel.module.code_flags(kernel.numbers(flags), False, model, coder, stream)
    else:
        alive_rows[:] = alive_columns[:] = True
    _code(table[alive_rows], alive_columns, scan.stride, False, model, coder, stream, kernel)
    low, high, _, written = (int(number) for number in coder)
    if written > len(stream):
        return b"\0" * (4 * symbols.size + 2)  # longer than the symbols as they are: never the smallest
    head = bytes([_COLUMNS_FIRST * scan.columns_first + scan.stride])
    return head + bytes(stream[:written]) + _ending(low, high)


def decode_with(payload: bytes, shape: tuple[int, ...], kernel: Kernel) -> NDArray[np.int32]:
    columns_first, stride = payload[0] >= _COLUMNS_FIRST, payload[0] % _COLUMNS_FIRST
    if not stride:
        raise malformed("its stride is 0")
    view = _view(shape)
    if columns_first:
        view = (view[1], view[0], view[2])
    stream = kernel.octets(payload[1:])
    coder = kernel.numbers([0, 0xFFFFFFFF, int.from_bytes(payload[1:5].ljust(4, b"\0"), "big"), 4])
    model = _model(view, kernel)
    alive_rows, alive_columns = np.ones(view[0], np.bool_), np.ones(view[1], np.bool_)
    if min(view[:2]) > 1:
        flags = kernel.numbers([0])
        kernel.module.code_flags(flags, True, model, coder, stream)
        if flags[0]:
            flags = kernel.numbers([0] * (view[0] + view[1]))
            kernel.module.code_flags(flags, True, model, coder, stream)
            alive_rows, alive_columns = np.split(np.array(flags, np.bool_), [view[0]])
    table = np.zeros(view, np.int64)
    part = np.zeros((int(alive_rows.sum()), *view[1:]), np.int64)
    table[alive_rows] = _code(part, alive_columns, stride, True, model, coder, stream, kernel)
    low, high, _, read = (int(number) for number in coder)
    end = 1 + read - 4  # what was shifted out of the bounds; the rest is the ending
    if end > len(payload) or payload[end:] != _ending(low, high):
        raise malformed("it does not end where its symbols do")
    if int(table.min()) < -(1 << 31) or int(table.max()) >= 1 << 31:
        raise malformed("a symbol has more than 32 bits")
    oriented = table.transpose(1, 0, 2) if columns_first else table
    return oriented.astype(np.int32).reshape(shape)


def _code(
    table: NDArray[Any], alive: NDArray[np.bool_], stride: int, decoding: bool, model: Any, coder: Any, stream: Any,
    kernel: Kernel,
) -> NDArray[np.int64]:  # fmt: skip
    """`table` (rows, columns, depth), of which a decoder takes the shape alone, as it is after coding."""
    rows, columns, depth = table.shape
    symbols = kernel.numbers(table.reshape(-1).astype(np.int64))
    finished = kernel.module.code_symbols(
        symbols, rows, columns, depth, _kernel_width(depth), stride, decoding, kernel.numbers([0] * NEARBY),
        kernel.numbers([0] * columns), kernel.numbers([0] * columns), kernel.numbers(alive.astype(np.int64)),
        model, coder, stream,
    )  # fmt: skip
    if not finished:
        raise malformed("it ends before its last symbol")
    return np.array(symbols, np.int64).reshape(table.shape)


def _kernel_width(depth: int) -> int:
    """Of a square kernel; another is taken for a line."""
    width = math.isqrt(depth)
    return width if width * width == depth else depth


def _model(view: tuple[int, ...], kernel: Kernel) -> Any:
    """`kernel.Model`: nothing seen, all chances even, the same weight for every context and none for a neighbour."""
    sizes = [size * NODES for size in context_sizes(view[0], view[1])]
    starts = [sum(sizes[:place]) for place in range(CONTEXTS)]
    weights = ([_FIRST_WEIGHT] * CONTEXTS + [0] * (INPUTS - CONTEXTS)) * WEIGHT_SETS
    parts = (
        [1 << 21] * sum(sizes), [0] * sum(sizes), weights, [0] * INPUTS, [0] * CONTEXTS, starts,
        STRETCH, SQUASH, _RATES,
    )  # fmt: skip
    return tuple(kernel.numbers(part) for part in parts)


def _ending(low: int, high: int) -> bytes:
    """The fewest bytes which, whatever follows them, are a value from `low` to `high`: so no payload is the beginning
    of another, and one that was cut off is never taken for whole."""
    for count in range(4):
        step = 1 << 32 - 8 * count
        value = -(-low // step) * step
        if value + step - 1 <= high:
            return (value >> 32 - 8 * count).to_bytes(count, "big")
    return low.to_bytes(4, "big")
