"""Integers of 1, 2 or 4 bits in an `.onnx` file: several in a byte, and the nodes that take them apart.

ONNX has types for four bits and lately for two, which few runtimes know; whole-number division and remainder do the
same everywhere. ONNX Runtime computes them once, when a session is made.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

WIDTHS = (1, 2, 4)


def width_of(integers: NDArray[np.integer]) -> int | None:
    """The least of the widths that holds the integers, counted from the smallest one; None: none does."""
    span = int(integers.max()) - int(integers.min()) if integers.size else 0
    return next((width for width in WIDTHS if span < 1 << width), None)


def unpacking(
    name: str, integers: NDArray[np.integer], width: int, out: str
) -> tuple[list[onnx.NodeProto], list[TensorProto]]:
    """Nodes and tensors that give the integers as int32 under the name `out`; all other names begin with `name`."""
    each, low, count = 8 // width, int(integers.min()), integers.size
    digits = np.zeros(-(-count // each) * each, np.uint8)
    digits[:count] = (integers.astype(np.int64) - low).ravel()
    places = np.arange(0, 8, width, dtype=np.uint8)
    packed = (digits.reshape(-1, each) << places).sum(1, keepdims=True, dtype=np.uint8)
    wide, value, tensors = f"{name}/bytes", f"{name}/digits", [numpy_helper.from_array(packed, f"{name}/packed")]

    def stored(what: str, array: NDArray[np.integer]) -> str:
        tensors.append(numpy_helper.from_array(array, f"{name}/{what}"))
        return tensors[-1].name

    nodes = [
        helper.make_node("Cast", [tensors[0].name], [wide], f"{wide}/Cast", to=TensorProto.INT32),
        helper.make_node("Div", [wide, stored("powers", 1 << places.astype(np.int32))], [f"{wide}/Div"], f"{wide}/Div"),
        helper.make_node("Mod", [f"{wide}/Div", stored("base", np.array(1 << width, np.int32))], [value], value),
    ]
    if digits.size > count:
        nodes.append(helper.make_node("Reshape", [value, stored("flat", np.array([-1]))], [f"{value}/flat"]))
        ends = [stored("start", np.array([0])), stored("end", np.array([count]))]
        value = f"{value}/own"
        nodes.append(helper.make_node("Slice", [nodes[-1].output[0], *ends], [value]))
    shaped = f"{value}/shaped" if low else out
    nodes.append(helper.make_node("Reshape", [value, stored("shape", np.array(integers.shape))], [shaped]))
    if low:
        nodes.append(helper.make_node("Add", [shaped, stored("lowest", np.array(low, np.int32))], [out]))
    return nodes, tensors
