"""Data files: `.npz` and `.safetensors` arrays, told apart by content. Nothing is unpickled, and no header is believed:
a member's declared shape must equal the bytes that are there."""

from __future__ import annotations

import math
import re
import struct
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from compression.errors import DataError
from compression.intake.data_zip import open_zip, reading

MAX_ARRAYS = 64
MAX_MEMBERS = 500_000  # of an archive that turns out to hold no arrays: said so, not counted
NO_DATA_FILE = "a data file is .npz (numpy.savez), .safetensors, or a .zip of images; this is none of them"
MAX_HEADER = 4096
MAX_AXES = 16
Array = NDArray[np.generic]

# numpy's own reader takes any Python literal (`ast.literal_eval`, and the tokenizer on some); this is what it writes.
_HEADER = re.compile(
    rb"\{'descr': '(?P<type>[<>|](?:f2|f4|f8|[iu][1248]|b1))', 'fortran_order': (?P<fortran>True|False), "
    rb"'shape': \((?P<shape>(?:[0-9]{1,18}, ?)*(?:[0-9]{1,18})?)\), ?\} *\n"
)


def read_arrays(path: Path) -> dict[str, Array]:
    """All arrays of the file by name: numbers and booleans alone."""
    with path.open("rb") as file:
        magic = file.read(9)
    if magic.startswith(b"PK\x03\x04"):
        arrays = _read_npz(path)
    elif len(magic) == 9 and magic[8:9] == b"{":
        arrays = _read_safetensors(path)
    else:
        raise DataError(NO_DATA_FILE, path.name, "data-unreadable")
    if not arrays:
        raise DataError("the file holds no arrays", path.name)
    for name, value in arrays.items():
        if value.dtype.kind not in "fiub":
            raise DataError(f"arrays hold numbers, not {value.dtype}", name)
    return arrays


def _read_npz(path: Path) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    with open_zip(path, MAX_MEMBERS) as (archive, members):
        if not any(member.filename.endswith(".npy") for member in members):
            raise DataError("an archive without arrays or images; if it is a model, upload it as one", path.name)
        if len(members) > MAX_ARRAYS:
            raise DataError(f"more than {MAX_ARRAYS} arrays", path.name)
        for member in members:
            name = member.filename.removesuffix(".npy")
            if name in arrays:
                raise DataError("the array is in the file twice", name, "data-unsafe")
            with reading(name), archive.open(member) as file:
                arrays[name] = _read_npy(file, name, member.file_size)
    return arrays


def _read_npy(file: IO[bytes], name: str, size: int) -> Array:
    prefix = file.read(8)
    lengths = {b"\x93NUMPY\x01\x00": "<H", b"\x93NUMPY\x02\x00": "<I"}
    if prefix not in lengths:
        raise DataError("not a .npy array of version 1 or 2", name, "data-unreadable")
    packed = file.read(struct.calcsize(lengths[prefix]))
    if len(packed) != struct.calcsize(lengths[prefix]):
        raise DataError("the array is cut short", name, "data-unreadable")
    header = _HEADER.fullmatch(file.read(min(struct.unpack(lengths[prefix], packed)[0], MAX_HEADER)))
    if header is None:
        raise DataError("not an array of numbers or booleans (objects and strings are not read)", name)
    dtype, fortran = np.dtype(header["type"].decode()), header["fortran"] == b"True"
    shape = tuple(int(extent) for extent in header["shape"].replace(b" ", b"").split(b",") if extent)
    expected = math.prod(int(extent) for extent in shape) * dtype.itemsize
    if expected != size - file.tell():
        message = f"the header promises {expected} bytes of data, the file holds {size - file.tell()}"
        raise DataError(message, name, "data-unreadable")
    data = bytearray(file.read(expected))
    if len(data) != expected:
        raise DataError("the array is cut short", name, "data-unreadable")
    if len(shape) > MAX_AXES:
        raise DataError(f"more than {MAX_AXES} axes", name)
    flat = np.frombuffer(data, dtype=dtype)
    value = flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)
    return value.astype(dtype.newbyteorder("="), copy=False)


def _read_safetensors(path: Path) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    try:
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            if len(names) > MAX_ARRAYS:
                raise DataError(f"more than {MAX_ARRAYS} arrays", path.name)
            for name in names:
                arrays[name] = file.get_tensor(name)
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"the file can't be read: {str(error)[:200]}", path.name, "data-unreadable") from error
    return arrays
