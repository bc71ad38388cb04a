"""`MatMulNBits` of the domain com.microsoft: the one operator that is read besides the standard ones.

ONNX Runtime's kernel reads packed bytes at places that the node's attributes name. So nothing is left to it: the matrix
is stored in the file, and every part has exactly the type and shape that the attributes ask for
(`docs/decisions/0014-one-operator-of-another-domain.md`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from onnx import AttributeProto, NodeProto, TensorProto

from compression.errors import IntakeError
from compression.intake.onnx.tensors import LONGEST_AXIS

DOMAIN, OPERATOR = "com.microsoft", "MatMulNBits"
BLOCK_SIZES = frozenset({16, 32, 64, 128, 256})
ACCURACY_LEVELS = frozenset({0, 1, 4})
"""Not said, float32, and activations in eight bits."""


def is_packed_product(node: NodeProto) -> bool:
    return bool(node.domain == DOMAIN and node.op_type == OPERATOR)


def check_packed_product(node: NodeProto, stored: Mapping[str, TensorProto], where: str) -> None:
    """`stored`: tensors of the node's own graph that nothing can replace. IntakeError: it isn't such a product of
    four-bit blocks, or its parts don't fit each other."""
    if any(attribute.type != AttributeProto.INT for attribute in node.attribute):
        raise IntakeError("an attribute of MatMulNBits is no whole number", where, "model-unsupported")
    given = {"bits": 4, "accuracy_level": 0} | {attribute.name: attribute.i for attribute in node.attribute}
    if set(given) != {"K", "N", "bits", "block_size", "accuracy_level"}:
        raise IntakeError(f"MatMulNBits with the attributes {', '.join(given)[:200]}", where, "model-unsupported")
    rows, columns, size = given["N"], given["K"], given["block_size"]
    if given["bits"] != 4 or size not in BLOCK_SIZES or given["accuracy_level"] not in ACCURACY_LEVELS:
        raise IntakeError("MatMulNBits of other than 4 bits, or of an unusual block size", where, "model-unsupported")
    if not (1 <= rows <= LONGEST_AXIS and 1 <= columns <= LONGEST_AXIS):
        raise IntakeError(f"an impossible matrix: {rows} × {columns}", where, "model-unsafe")
    if not 3 <= len(node.input) <= 4 or len(node.output) != 1:
        raise IntakeError("MatMulNBits has activations, codes, steps, and zeros at most", where, "model-unsupported")
    blocks = -(-columns // size)
    wanted = (
        (TensorProto.UINT8, [rows, blocks, size // 2]),
        (TensorProto.FLOAT, [rows, blocks]),
        (TensorProto.UINT8, [rows, -(-blocks // 2)]),
    )
    for name, (kind, shape) in zip([name for name in node.input[1:] if name], wanted, strict=False):
        tensor = stored.get(name)
        if tensor is None:
            raise IntakeError(f"the part {name[:100]} isn't stored with the product", where, "model-unsupported")
        flat = len(shape) == 2 and list(tensor.dims) == [math.prod(shape)]
        if tensor.data_type != kind or not (list(tensor.dims) == shape or flat):
            raise IntakeError(f"the part {name[:100]} doesn't fit the attributes of its product", where)
    if not node.input[0] or not node.input[1] or not node.input[2]:
        raise IntakeError("a part of MatMulNBits is missing", where)
