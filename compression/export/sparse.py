"""A file that leaves zeros out: safetensors in which each tensor is plain, a bit mask with the other values, or rows of
columns (CSR), whichever is the smallest. What pruned weights are worth without an entropy coder.

A tensor NAME is kept as `NAME` (plain); as `NAME#bits` (uint8, eight places a byte, the first the highest bit) and
`NAME#values`; or as `NAME#rows` (uint32, where each row's entries begin, and the end), `NAME#columns` (uint8, uint16 or
uint32) and `NAME#values`. Rows lie along the first axis. Shapes are in the metadata. Negative zeros lose
their sign.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

Array = NDArray[Any]
Layout = Literal["plain", "bits", "csr"]


def write_sparse(tensors: Mapping[str, Array], path: Path) -> dict[Layout, int]:
    """Writes the file: how many tensors are kept each way."""
    parts: dict[str, Array] = {}
    layouts: dict[str, Layout] = {}
    for name, value in tensors.items():
        ways = _ways(value)
        layouts[name] = min(ways, key=lambda layout: sum(part.nbytes for part in ways[layout].values()))
        parts |= {f"{name}{suffix}": part for suffix, part in ways[layouts[name]].items()}
    shapes = {name: [layouts[name], *value.shape] for name, value in tensors.items()}
    save_file(parts, path, metadata={"shapes": json.dumps(shapes)})
    return dict(Counter(layouts.values()))


def read_sparse(path: Path) -> dict[str, Array]:
    """The tensors that `write_sparse` wrote; of our own files alone, no check is made."""
    found: dict[str, Array] = {}
    with safe_open(path, framework="np") as file:
        for name, (layout, *shape) in json.loads(file.metadata()["shapes"]).items():
            if layout == "plain":
                found[name] = file.get_tensor(name)
                continue
            values = file.get_tensor(f"{name}#values")
            whole = np.zeros(int(np.prod(shape)), values.dtype)
            whole[_places(file, name, layout, shape)] = values
            found[name] = whole.reshape(shape)
    return found


def _ways(value: Array) -> dict[Layout, dict[str, Array]]:
    plain = {"": np.asarray(value, order="C")}
    if value.ndim < 2 or not value.size:
        return {"plain": plain}
    rows = value.reshape(len(value), -1)
    there = rows != 0
    counts = np.concatenate([[0], np.cumsum(there.sum(axis=1))])
    columns = np.nonzero(there)[1].astype(_index_type(rows.shape[1]))
    values = {"#values": rows[there]}
    return {
        "plain": plain,
        "bits": {"#bits": np.packbits(there.reshape(-1)), **values},
        "csr": {"#rows": counts.astype(np.uint32), "#columns": columns, **values},
    }


def _places(file: Any, name: str, layout: Layout, shape: list[int]) -> Array:
    size = int(np.prod(shape))
    if layout == "bits":
        return np.flatnonzero(np.unpackbits(file.get_tensor(f"{name}#bits"), count=size))
    rows, columns = file.get_tensor(f"{name}#rows"), file.get_tensor(f"{name}#columns")
    starts = np.repeat(np.arange(shape[0]) * (size // shape[0]), np.diff(rows.astype(np.int64)))
    return np.asarray(starts + columns)


def _index_type(count: int) -> type[np.unsignedinteger[Any]]:
    return np.uint8 if count <= 1 << 8 else np.uint16 if count <= 1 << 16 else np.uint32
