"""Tensors of a model: checked without reading their numbers, and read as numpy arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from compression.errors import IntakeError

Array = NDArray[np.generic]
LARGEST_TENSOR = 2**31
"""Elements of one tensor."""
LONGEST_AXIS = 2**31 - 1
MOST_AXES = 16


@dataclass(frozen=True)
class _Type:
    """`bits` of an element in raw_data; `field` holds it otherwise; `dtype` is None for what numpy can't hold."""

    bits: int
    field: str
    dtype: str | None


_T = TensorProto
TYPES: Mapping[int, _Type] = {
    _T.FLOAT: _Type(32, "float_data", "float32"),
    _T.UINT8: _Type(8, "int32_data", "uint8"),
    _T.INT8: _Type(8, "int32_data", "int8"),
    _T.UINT16: _Type(16, "int32_data", "uint16"),
    _T.INT16: _Type(16, "int32_data", "int16"),
    _T.INT32: _Type(32, "int32_data", "int32"),
    _T.INT64: _Type(64, "int64_data", "int64"),
    _T.BOOL: _Type(8, "int32_data", "bool"),
    _T.FLOAT16: _Type(16, "int32_data", "float16"),
    _T.DOUBLE: _Type(64, "double_data", "float64"),
    _T.UINT32: _Type(32, "uint64_data", "uint32"),
    _T.UINT64: _Type(64, "uint64_data", "uint64"),
    _T.BFLOAT16: _Type(16, "int32_data", None),
    **dict.fromkeys(
        (_T.FLOAT8E4M3FN, _T.FLOAT8E4M3FNUZ, _T.FLOAT8E5M2, _T.FLOAT8E5M2FNUZ), _Type(8, "int32_data", None)
    ),
    **dict.fromkeys((_T.INT4, _T.UINT4), _Type(4, "int32_data", None)),
}
"""The types a tensor may have; strings and complex numbers aren't among them."""
_FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")


def check_tensor(tensor: TensorProto, where: str) -> int:
    """That the tensor is whole and holds what its shape says; its bytes. IntakeError otherwise."""
    if tensor.data_location != TensorProto.DEFAULT or tensor.external_data:
        message = "the tensor lies in another file; save the model as a single file (external_data=False)"
        raise IntakeError(message, where, "model-unsafe")
    if tensor.HasField("segment"):
        raise IntakeError("a tensor cut into segments", where, "model-unsupported")
    if tensor.data_type == TensorProto.STRING:
        raise IntakeError("a tensor of strings", where, "model-unsupported")
    kind = TYPES.get(tensor.data_type)
    if kind is None:
        raise IntakeError(f"a tensor of the type {tensor.data_type}", where, "model-unsupported")
    count = check_shape(list(tensor.dims), where)
    if tensor.string_data:
        raise IntakeError("strings in a tensor of numbers", where)
    filled = [name for name in _FIELDS if len(getattr(tensor, name))]
    size = (count * kind.bits + 7) // 8
    if tensor.HasField("raw_data"):
        if filled or len(tensor.raw_data) != size:
            raise IntakeError(f"{len(tensor.raw_data)} bytes for a shape of {size}", where)
        return size
    held = len(getattr(tensor, kind.field))
    if kind.bits == 4:
        count = (count + 1) // 2
    if held != count or (filled and filled != [kind.field]):
        raise IntakeError(f"{held} numbers for a shape of {count}", where)
    return size


def check_shape(dims: list[int], where: str) -> int:
    """The number of elements. IntakeError: a negative or absurd length, or too many elements."""
    if len(dims) > MOST_AXES:
        raise IntakeError(f"more than {MOST_AXES} axes", where, "model-unsafe")
    if any(length < 0 or length > LONGEST_AXIS for length in dims):
        raise IntakeError(f"an impossible shape: {dims}", where, "model-unsafe")
    count = math.prod(dims)
    if math.prod(max(length, 1) for length in dims) > LARGEST_TENSOR:
        raise IntakeError(f"a shape of more than {LARGEST_TENSOR} elements: {dims}", where, "model-unsafe")
    return count


def to_array(tensor: TensorProto) -> Array | None:
    """The numbers of a checked tensor, as an array of its own memory; None: numpy has no such type."""
    kind = TYPES[tensor.data_type]
    if kind.dtype is None:
        return None
    dtype = np.dtype(kind.dtype)
    if tensor.HasField("raw_data"):
        flat = np.frombuffer(tensor.raw_data, dtype.newbyteorder("<")).astype(dtype)
    elif kind.dtype == "float16":
        flat = np.array(tensor.int32_data, dtype=np.int32).astype(np.uint16).view(np.float16)
    else:
        flat = np.array(getattr(tensor, kind.field)).astype(dtype)
    return flat.reshape(tuple(tensor.dims))
