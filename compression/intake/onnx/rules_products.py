"""Products with a stored matrix, and the rows of one: they become leaf modules."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from compression.intake.onnx.call import Call, Rule
from compression.intake.onnx.stored import filled
from compression.intake.onnx.value import Value

_aten = torch.ops.aten
_MOST_CHANNELS = 2**24


def linear(call: Call, value: Value, weight: Tensor, bias: Tensor | None, owner: int) -> Value:
    leaf = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    return call.trace.module(leaf, value, call.path(owner), filled(call, leaf, weight, bias))


def _gemm(call: Call) -> Value:
    value, other, third = call.value(0), call.value(1), call.given(2)
    alpha, beta = call.get("alpha", 1.0), call.get("beta", 1.0)
    if call.get("transA", 0):
        value = call.trace.call(torch.transpose, value, 0, 1)
    stored = other.constant and other.dtype == torch.float32 and not value.known
    if stored and (third is None or (third.constant and _along_columns(third, _outputs(call, other)))):
        weight = other.trials[0] if call.get("transB", 0) else other.trials[0].t()
        bias = None if third is None else third.trials[0].reshape(-1).expand(weight.shape[0]) * beta
        bias = third.trials[0].reshape(-1) if third is not None and beta == 1 and third.rank == 1 else bias
        return linear(call, value, weight if alpha == 1 else weight * alpha, bias, 1)
    if call.get("transB", 0):
        other = call.trace.call(torch.transpose, other, 0, 1)
    product = call.trace.call(torch.matmul, value, other)
    product = product if alpha == 1 else call.trace.call(operator.mul, product, alpha)
    if third is None:
        return product
    return call.trace.call(operator.add, product, third if beta == 1 else call.trace.call(operator.mul, third, beta))


def _along_columns(third: Value, width: int) -> bool:
    """Whether it is one number, or one a column of the product."""
    count = third.trials[0].numel()
    return count == 1 or (count == width and third.shape[-1] == width)


def _outputs(call: Call, other: Value) -> int:
    return other.shape[0] if call.get("transB", 0) else other.shape[-1]


def _matmul(call: Call) -> Value:
    value, other = call.value(0), call.value(1)
    if other.constant and other.rank == 2 and other.dtype == torch.float32 and not value.known and value.rank > 1:
        return linear(call, value, other.trials[0].t(), None, 1)
    return call.trace.call(torch.matmul, value, other)


def _embedding(call: Call, table: Value, indices: Value) -> Value:
    """Ids that come as floating-point numbers may be negative, at random inputs at least: they count from the end."""
    weight, node = table.trials[0], indices.node
    if node is not None and node.target is _aten._to_copy.default and _is_floating(node):  # noqa: SLF001
        indices = call.trace.call(_aten.remainder.Scalar, indices, weight.shape[0])
    leaf = nn.Embedding(weight.shape[0], weight.shape[1], device="meta")
    leaf.weight = call.trace.parameter(weight)
    return call.trace.module(leaf, indices, call.path(0), id(leaf.weight))


def _is_floating(copy: fx.Node) -> bool:
    """Whether what is copied to another type is floating point."""
    source: Any = copy.args[0]
    return bool(source.meta["trials"][0].is_floating_point())


def embedding(call: Call) -> Value | None:
    """A Gather of the rows of a stored table: an embedding."""
    table, indices = call.value(0), call.value(1)
    stored = table.constant and table.rank == 2 and table.dtype == torch.float32 and call.axis(0) == 0
    if not stored or indices.known or max(table.shape) > _MOST_CHANNELS:
        return None
    return _embedding(call, table, indices)


RULES: Mapping[str, Rule] = {
    "Gemm": _gemm,
    "MatMul": _matmul,
}
