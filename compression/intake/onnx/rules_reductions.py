"""Reductions, and products over several axes."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from compression.intake.onnx.call import Call, Rule
from compression.intake.onnx.reshape import reshape_to
from compression.intake.onnx.rules_products import linear
from compression.intake.onnx.trace import Trace
from compression.intake.onnx.value import CannotLift, Value

_aten = torch.ops.aten


def _reduce(function: Callable[..., Any], *, before: Sequence[str] = (), after: Sequence[str] = ()) -> Rule:
    """A reduction, with functions of one value applied before and after it (ReduceL2: squares, sum, root)."""

    def rule(call: Call) -> Value:
        value, axes = call.value(), call.numbers("axes", 1)
        if not axes and call.get("noop_with_empty_axes", 0):
            return value
        axes = sorted(axis % max(value.rank, 1) for axis in axes or range(value.rank))
        for name in before:
            value = call.trace.call(getattr(_aten, name).default, value)
        keep = bool(call.get("keepdims", 1))
        if function in {torch.mean, torch.sum}:
            value = call.trace.call(function, value, axes, keepdim=keep)
        else:
            value = call.trace.call(function, value, axes, keep)
        for name in after:
            value = call.trace.call(getattr(_aten, name).default, value)
        if value.dtype == call.value().dtype:
            return value
        # Torch's sums of whole numbers are int64.
        return call.trace.call(_aten._to_copy.default, value, dtype=call.value().dtype)  # noqa: SLF001

    return rule


def _product(call: Call) -> Value:
    """The product over axes of known lengths, as numbers in shape arithmetic have them."""
    value = call.value()
    if not value.known:
        raise CannotLift("a product over an axis")
    axes = call.numbers("axes", 1) or list(range(value.rank))
    for axis in sorted((axis % max(value.rank, 1) for axis in axes), reverse=True):
        value = call.trace.call(torch.prod, value, axis, keepdim=bool(call.get("keepdims", 1)))
    return value


def _log_sum_exp(call: Call) -> Value:
    value, axes = call.value(), call.numbers("axes", 1)
    axes = sorted(axis % max(value.rank, 1) for axis in axes or range(value.rank))
    return call.trace.call(_aten.logsumexp.default, value, axes, bool(call.get("keepdims", 1)))


def _extreme_index(name: str) -> Rule:
    def rule(call: Call) -> Value:
        value, axis = call.value(), call.axis(0)
        if call.get("select_last_index", 0):
            raise CannotLift("the last of equal values")
        if name == "argmin":
            value = call.trace.call(operator.neg, value)
        return call.trace.call(_aten.argmax.default, value, axis, bool(call.get("keepdims", 1)))

    return rule


def _einsum(call: Call) -> Value:
    equation = call.get("equation", "").replace(" ", "")
    values = [value for value in call.inputs if value is not None]
    if "->" not in equation and "." not in equation:
        letters = equation.replace(",", "")
        equation += "->" + "".join(sorted(letter for letter in set(letters) if letters.count(letter) == 1))
    terms, _, result = equation.partition("->")
    left, _, right = terms.partition(",")
    if len(values) == 2 and "," not in right and "." not in equation:
        product = _as_linear(call, values, left, right, result) or _as_matmul(call.trace, values, left, right, result)
        if product is not None:
            return product
    return call.trace.call(_aten.einsum.default, equation, values)


def _as_linear(call: Call, values: Sequence[Value], left: str, right: str, result: str) -> Value | None:
    """A stored factor that is summed over the last axes of the other one, and adds its own axes behind: a linear layer,
    as Keras writes the projections of its attention (abc,cde->abde)."""
    value, stored = values
    summed = [letter for letter in left if letter in right]
    rows, columns = [letter for letter in left if letter not in right], [c for c in right if c not in left]
    if any(len(set(term)) != len(term) for term in (left, right, result)) or not (summed and rows and columns):
        return None
    outputs = [letter for letter in result if letter in columns]
    whole = list(left) == rows + summed and list(result) == rows + outputs and len(outputs) == len(columns)
    if not whole or not stored.constant or value.known or stored.dtype != torch.float32:
        return None
    lengths = dict(zip(right, stored.shape, strict=True))
    weight = stored.trials[0].permute([right.index(letter) for letter in [*summed, *outputs]])
    weight = weight.reshape(math.prod(lengths[letter] for letter in summed), -1)
    lead = [shape[: len(rows)] for shape in value.shapes]
    flat = reshape_to(call.trace, value, [[*shape, weight.shape[0]] for shape in lead])
    found = linear(call, flat, weight.t(), None, 1)
    return reshape_to(call.trace, found, [[*shape, *(lengths[letter] for letter in outputs)] for shape in lead])


def _as_matmul(trace: Trace, values: Sequence[Value], left: str, right: str, result: str) -> Value | None:
    """Two factors with one summed letter and at most one letter of their own each: a (batched) matrix product."""
    terms = (left, right, result)
    if any(len(set(term)) != len(term) for term in terms) or not set(result) <= set(left) | set(right):
        return None
    shared = [letter for letter in result if letter in left and letter in right]
    summed = [letter for letter in left if letter in right and letter not in result]
    rows = [letter for letter in left if letter not in right]
    columns = [letter for letter in right if letter not in left]
    if len(summed) != 1 or len(rows) != 1 or len(columns) != 1 or not set(rows + columns) <= set(result):
        return None
    one = _ordered(trace, values[0], left, [*shared, *rows, *summed])
    other = _ordered(trace, values[1], right, [*shared, *summed, *columns])
    return _ordered(trace, trace.call(torch.matmul, one, other), "".join([*shared, *rows, *columns]), list(result))


def _ordered(trace: Trace, value: Value, letters: str, wanted: Sequence[str]) -> Value:
    order = tuple(letters.index(letter) for letter in wanted)
    moved = [axis for axis, source in enumerate(order) if axis != source]
    if not moved:
        return value
    return trace.call(torch.transpose, value, *moved) if len(moved) == 2 else trace.call(torch.permute, value, order)


RULES: Mapping[str, Rule] = {
    "ReduceMean": _reduce(torch.mean),
    "ReduceSum": _reduce(torch.sum),
    "ReduceMax": _reduce(_aten.amax.default),
    "ReduceMin": _reduce(_aten.amin.default),
    "ReduceL1": _reduce(torch.sum, before=["abs"]),
    "ReduceL2": _reduce(torch.sum, before=["square"], after=["sqrt"]),
    "ReduceSumSquare": _reduce(torch.sum, before=["square"]),
    "ReduceLogSum": _reduce(torch.sum, after=["log"]),
    "ReduceLogSumExp": _log_sum_exp,
    "ReduceProd": _product,
    "ArgMax": _extreme_index("argmax"),
    "ArgMin": _extreme_index("argmin"),
    "Einsum": _einsum,
}
