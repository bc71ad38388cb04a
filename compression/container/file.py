"""A `.nwk` file as JSON and numpy arrays: what a reader without torch gets, and what a writer gives.

The description is one JSON object: `network`, what `compression.intake.weights` knows as a network's document (graph,
inputs, outputs, encodings, variants, provenance), and `tensors`, one list for each tensor, in the order of the data:
[name, kind, type, shape, …] (`compression.container.tensors.Tensor.head`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from compression.container.sections import Bytes, join, malformed, split
from compression.container.tensors import BFLOAT16, BLOCK_SIZES, Choose, Tensor, read, write
from compression.container.text import pack, unpack
from compression.errors import IntakeError
from compression.strict_json import parse_json

MOST_AXES = 8
MOST_TENSORS = 100_000
ELEMENTS_OF_ANY_FILE = 1 << 24
ELEMENTS_A_BYTE = 256
MOST_ELEMENTS = 1 << 29
"""16 Mi elements may be of any few bytes; a larger network needs a byte for 256 of them: a mask or a level of an honest
one costs more than a thirtieth of a bit. None has more than 2²⁹, 2 GiB."""
_DTYPES = frozenset({"float32", "float64", "float16", BFLOAT16, "int64", "int32", "bool"})
_SHORT = frozenset({"float16", BFLOAT16})
_LENGTHS = {"plain": 4, "mask": 4, "codebook": 6, "grid": 7, "blocks": 6}


@dataclass(frozen=True)
class Container:
    """`network`: the document. `tensors`: every parameter and buffer, in the file's order."""

    network: dict[str, Any]
    tensors: list[Tensor]


@dataclass(frozen=True)
class Written:
    """A file's bytes: those of the description (with the section's frame), and of each tensor by name."""

    file: bytes
    description: int
    tensors: dict[str, int]


def write_container(container: Container, choose: Choose) -> Written:
    """The file's bytes. They depend on the container and the coders alone. VerificationError: see `tensors.write`."""
    coded = {tensor.name: write(tensor, choose) for tensor in container.tensors}
    document = {"network": container.network, "tensors": [tensor.head() for tensor in container.tensors]}
    description = pack(json.dumps(document, separators=(",", ":"), allow_nan=False))
    file = join(description, b"".join(coded.values()))
    sizes = {name: len(part) for name, part in coded.items()}
    return Written(file, len(file) - sum(sizes.values()), sizes)


def read_container(file: bytes) -> Container:
    """What `write_container` wrote. IntakeError: any fault of the file, which is not trusted."""
    description, data = split(file)
    document = parse_json(unpack(description), "description")
    if not isinstance(document, dict) or set(document) != {"network", "tensors"}:
        raise malformed("it has no network and tensors", "description")
    network, heads = document["network"], document["tensors"]
    if not isinstance(network, dict) or not isinstance(heads, list) or len(heads) > MOST_TENSORS:
        raise malformed("its lists are no lists, or too long", "description")
    for head in heads:
        _check(head)
    _check_memory(heads, len(file))
    source = Bytes(data)
    tensors = [_named(head, source) for head in heads]
    source.end()
    return Container(network, tensors)


def _named(head: list[Any], source: Bytes) -> Tensor:
    try:
        return read(head, source)
    except IntakeError as error:
        raise IntakeError(error.message, head[0], error.kind) from error


def _check(head: Any) -> None:
    """A head that `Tensor.head` may have made."""
    if not isinstance(head, list) or len(head) < 4 or not isinstance(head[0], str) or len(head[0]) > 500:
        raise malformed("a tensor without name, kind, type and shape", "tensors")
    name, kind, dtype, shape = head[:4]
    if not (isinstance(kind, str) and isinstance(dtype, str) and _LENGTHS.get(kind) == len(head) and dtype in _DTYPES):
        raise malformed("a kind or type that isn't known", name)
    typed = kind == "plain" or dtype == "float32" or (kind == "mask" and dtype in _SHORT)
    if not typed or not _is_shape(shape) or (kind != "plain" and not 1 <= len(shape) <= 4):
        raise malformed("an impossible type or shape", name)
    elements, first = math.prod(shape), shape[0] if shape else 1
    if kind == "codebook" and not (_is_length(head[4], first) and _is_length(head[5], elements)):
        raise malformed("more codebooks than slices, or more values than elements", name)
    if kind == "grid":
        low, high, steps = head[4:]
        if not (type(low) is type(high) is int and -(2**24) <= low <= 0 <= high <= 2**24) or steps not in ([], [first]):
            raise malformed("an impossible range, or number of steps", name)
    if kind == "blocks":
        _check_blocks(head)


def _check_blocks(head: list[Any]) -> None:
    name, shape, size, zeros = head[0], head[3], head[4], head[5]
    if len(shape) != 2 or type(size) is not int or size not in BLOCK_SIZES or type(zeros) is not bool:
        raise malformed("blocks of an impossible size, or of no matrix", name)


def _check_memory(heads: Sequence[list[Any]], size: int) -> None:
    elements = 0
    for name, kind, _, shape, *rest in heads:
        elements += math.prod(max(length, 1) for length in shape)
        if kind == "codebook":
            elements += rest[0] * rest[1]
        if kind == "blocks":
            elements += 2 * shape[0] * -(-shape[1] // rest[0])
        if elements > min(max(ELEMENTS_OF_ANY_FILE, ELEMENTS_A_BYTE * size), MOST_ELEMENTS):
            raise IntakeError(
                f"at least {elements:,} elements in a file of {size:,} bytes: no honest network is so regular",
                name,
                "model-unsafe",
            )


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= MOST_AXES and all(type(n) is int and 0 <= n < 2**31 for n in value)


def _is_length(value: Any, most: int) -> bool:
    return type(value) is int and 1 <= value <= max(most, 1)


def arrays(container: Container) -> dict[str, np.ndarray[Any, Any]]:
    """Every parameter and buffer by name."""
    return {tensor.name: tensor.values for tensor in container.tensors}
