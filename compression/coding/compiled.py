"""`kernel.py` in its two forms: interpreted over lists, and, where the extra `fast` (Numba) is installed, compiled over
int64 arrays. The bytes are the same; `tests/engine/coding/test_adaptive.py` compares them.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compression.coding import kernel

COMPILED = importlib.util.find_spec("numba") is not None
WORTH_COMPILING = 20_000  # symbols; compiling takes seconds where it isn't on disk yet


@dataclass(frozen=True)
class Kernel:
    module: ModuleType
    numbers: Callable[[list[int] | NDArray[np.int64]], Any]  # a list, or an int64 array
    octets: Callable[[bytes], Any]


def kernel_for(symbols: int) -> Kernel:
    """The form that is sooner done with so many symbols."""
    return compiled() if COMPILED and symbols >= WORTH_COMPILING else interpreted()


def interpreted() -> Kernel:
    return Kernel(kernel, _list, bytearray)


@cache
def compiled() -> Kernel:
    """Another instance of the module, every function of which Numba compiles when it is first called. What it has
    compiled is kept beside the source, or in the user's cache, where that can be written."""
    import numba  # takes half a second, and isn't always there

    name = f"{kernel.__name__}_compiled"
    spec = importlib.util.spec_from_file_location(name, kernel.__file__)
    assert spec is not None and spec.loader is not None  # noqa: S101, PT018 - the file is the one just imported
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where Numba looks for what it had kept
    spec.loader.exec_module(module)
    for function in [value for value in vars(module).values() if isinstance(value, FunctionType)]:
        setattr(module, function.__name__, _compile(numba.njit, function))
    return Kernel(module, _array, _octets)


def _compile(njit: Callable[..., Any], function: FunctionType) -> Any:
    try:
        return njit(cache=True)(function)
    except RuntimeError:  # there is no place where it may be kept
        return njit(function)


def _list(values: list[int] | NDArray[np.int64]) -> list[int]:
    return values.tolist() if isinstance(values, np.ndarray) else list(values)


def _array(values: list[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def _octets(values: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(bytearray(values), np.uint8)
