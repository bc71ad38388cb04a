"""Data files: `.npz` and `.safetensors` arrays, told apart by content. Nothing is unpickled, and no header is believed:
a member's declared shape must equal the bytes that are there."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from compression.errors import DataError

MAX_ARRAYS = 64
MAX_BYTES = 16 << 30  # of all arrays of a file, unpacked
Array = NDArray[np.generic]


def read_arrays(path: Path) -> dict[str, Array]:
    """All arrays of the file by name: numbers and booleans alone."""
    with path.open("rb") as file:
        magic = file.read(9)
    if magic.startswith(b"PK\x03\x04"):
        arrays = _read_npz(path)
    elif len(magic) == 9 and magic[8:9] == b"{":
        arrays = _read_safetensors(path)
    else:
        raise DataError("a data file is .npz (numpy.savez) or .safetensors; this is neither", path.name)
    if not arrays:
        raise DataError("the file holds no arrays", path.name)
    for name, value in arrays.items():
        if value.dtype.kind not in "fiub":
            raise DataError(f"arrays hold numbers, not {value.dtype}", name)
    return arrays


def _read_npz(path: Path) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > MAX_ARRAYS:
                raise DataError(f"more than {MAX_ARRAYS} arrays", path.name)
            if sum(member.file_size for member in members) > MAX_BYTES:
                raise DataError(f"more than {MAX_BYTES >> 30} GiB of arrays", path.name)
            for member in members:
                name = member.filename.removesuffix(".npy")
                if name in arrays:
                    raise DataError("the array is in the file twice", name)
                with archive.open(member) as file:
                    arrays[name] = _read_npy(file, name, member.file_size)
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise DataError(f"the archive can't be read: {error}", path.name) from error
    return arrays


def _read_npy(file: IO[bytes], name: str, size: int) -> Array:
    try:
        version = npy.read_magic(file)
        if version == (1, 0):
            shape, fortran, dtype = npy.read_array_header_1_0(file)
        elif version == (2, 0):
            shape, fortran, dtype = npy.read_array_header_2_0(file)
        else:
            raise DataError(f"npy version {version} isn't read", name)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise DataError(f"not a readable array: {str(error)[:200]}", name) from error
    if dtype.hasobject or dtype.kind not in "fiub":
        raise DataError(f"arrays hold numbers, not {dtype}", name)
    expected = math.prod(int(extent) for extent in shape) * dtype.itemsize
    if any(extent < 0 for extent in shape) or expected != size - file.tell():
        raise DataError(f"the header promises {expected} bytes of data, the file holds {size - file.tell()}", name)
    data = bytearray(file.read(expected))
    if len(data) != expected:
        raise DataError("the array is cut short", name)
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
        raise DataError(f"the file can't be read: {str(error)[:200]}", path.name) from error
    return arrays
