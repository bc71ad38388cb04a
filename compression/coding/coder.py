"""The coders by name: what turns the integers of one tensor into bytes and back.

A payload holds no shape and no checksum: the container keeps both. A decoder takes nothing on trust: it refuses what
its encoder doesn't write and takes memory for the shape that it is given and the payload; the caller bounds the shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from compression.coding import adaptive, huffman, ranged


@dataclass(frozen=True)
class Coder:
    """`encode(symbols)`: int32 of any shape of at most four dimensions → bytes; `decode(payload, shape)`: back, or
    IntakeError."""

    name: str
    encode: Callable[[NDArray[np.int32]], bytes]
    decode: Callable[[bytes, tuple[int, ...]], NDArray[np.int32]]


CODERS: Mapping[str, Coder] = MappingProxyType(
    {
        coder.name: coder
        for coder in (
            Coder("huffman", huffman.encode, huffman.decode),
            Coder("huffman-sparse", huffman.encode_sparse, huffman.decode_sparse),
            Coder("range", ranged.encode, ranged.decode),
            Coder("adaptive", adaptive.encode, adaptive.decode),
        )
    }
)


def smallest(symbols: NDArray[np.int32]) -> tuple[str, bytes]:
    """The name and the payload of the coder that needs the fewest bytes; of equals, the first."""
    payloads = {name: coder.encode(symbols) for name, coder in CODERS.items()}
    return min(payloads.items(), key=lambda entry: len(entry[1]))


def entropy_bits(symbols: NDArray[np.int32]) -> float:
    """The order-0 entropy of all symbols together, in bits: what a code of each symbol by itself can't go below when
    it knows their histogram (Shannon 1948)."""
    counts = np.unique(symbols, return_counts=True)[1]
    return float(-(counts * np.log2(counts / symbols.size)).sum()) if symbols.size else 0.0
