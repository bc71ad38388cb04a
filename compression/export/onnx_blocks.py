"""Products with a matrix of four-bit blocks, in an `.onnx` file: `MatMulNBits`, an operator of ONNX Runtime's own.

It multiplies with the packed codes; nothing makes floats of the whole matrix. It is a MatMul alone, so of a Gemm the
bias becomes an Add. Its accuracy level is 1: activations stay float32 (at level 4 it would round them to eight bits).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from compression.encodings.blocks import CODES, MIDDLE, Blocks

DOMAIN = "com.microsoft"
OPERATOR = "MatMulNBits"
FLOAT32 = 1


def multiply_packed(
    model: onnx.ModelProto,
    stored: TensorProto,
    blocks: Blocks,
    levels: NDArray[np.integer],
    factor: NDArray[np.float32] | None,
    *,
    turned: bool,
) -> str | None:
    """Replaces every product with the initializer `stored` in `model`, in place, and the initializer. `levels`: code −
    zero, rows × columns; `stored` holds them so, or `turned` (columns × rows), times the step and `factor` (rows × 1).
    What stands in the way, if anything does: then nothing is changed."""
    rows, columns = levels.shape
    if factor is not None and factor.shape != (rows, 1):
        return "the exporter scaled its inputs"
    users = [node for node in model.graph.node if stored.name in node.input]
    if not all(_is_product(node, stored.name, turned) for node in users):
        return "something else than a product uses it"
    packed = _packed(stored.name, blocks, levels, factor)
    if sum(tensor.ByteSize() for tensor in packed) >= stored.ByteSize():
        return "it takes no more bytes as it is"
    nodes: list[NodeProto] = []
    names = [tensor.name for tensor in packed]
    for node in model.graph.node:
        nodes += [node] if stored.name not in node.input else _products(node, names, blocks.size, rows, columns)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.remove(stored)
    model.graph.initializer.extend(packed)
    if all(entry.domain != DOMAIN for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return None


def _is_product(node: NodeProto, weight: str, turned: bool) -> bool:
    """x · Wᵀ of the matrix rows × columns, W."""
    if list(node.input).index(weight) != 1 or list(node.input).count(weight) > 1:
        return False
    if node.op_type == "MatMul":
        return turned
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    wanted = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": int(not turned)}
    return node.op_type == "Gemm" and {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0} | given == wanted


def _products(node: NodeProto, packed: Sequence[str], size: int, rows: int, columns: int) -> list[NodeProto]:
    bias = list(node.input[2:3])
    made = f"{node.name}/product" if bias else node.output[0]
    product = helper.make_node(
        OPERATOR,
        [node.input[0], *packed],
        [made],
        node.name,
        domain=DOMAIN,
        K=columns,
        N=rows,
        bits=4,
        block_size=size,
        accuracy_level=FLOAT32,
    )
    return (
        [product, helper.make_node("Add", [made, *bias], [node.output[0]], f"{node.name}/Add")] if bias else [product]
    )


def _packed(
    name: str, blocks: Blocks, levels: NDArray[np.integer], factor: NDArray[np.float32] | None
) -> list[TensorProto]:
    """Codes, rows × blocks × size / 2; steps, rows × blocks; zeros, if there are any, rows × blocks / 2. Of two in a
    byte, the first is in the lower half."""
    rows, columns = levels.shape
    count = blocks.step.shape[1]
    zero = np.full((rows, count), MIDDLE, np.uint8) if blocks.zero is None else blocks.zero.numpy()
    wide = np.pad(levels, ((0, 0), (0, count * blocks.size - columns))).reshape(rows, count, blocks.size)
    codes = (wide + zero[:, :, None].astype(np.int8)).astype(np.uint8)
    step = blocks.step.numpy() if factor is None else blocks.step.numpy() * factor
    parts = {"codes": _in_halves(codes), "steps": np.ascontiguousarray(step)}
    if blocks.zero is not None:
        parts["zeros"] = _in_halves(np.pad(zero, ((0, 0), (0, count % 2))))
    return [numpy_helper.from_array(part, f"{name}/{key}") for key, part in parts.items()]


def _in_halves(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(codes[..., 0::2] + CODES * codes[..., 1::2])
