"""Arithmetic, comparisons and activations: each value by itself."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from compression.intake.onnx.call import Call, Rule, dtype_of
from compression.intake.onnx.value import CannotLift, Value

_aten = torch.ops.aten


def operand(value: Value, other: Value) -> Value | float | int:
    """A constant of one number as that number, where this leaves the shape as it is."""
    if value.constant and value.trials[0].numel() == 1 and value.rank <= other.rank and not other.known:
        return value.number()
    return value


def _operands(call: Call) -> tuple[Value | float | int, Value | float | int]:
    one, other = call.value(0), call.value(1)
    return operand(one, other), operand(other, one)


def _arithmetic(function: Callable[..., Any]) -> Rule:
    return lambda call: call.trace.call(function, *_operands(call))


def _divide(call: Call) -> Value:
    one, other = _operands(call)
    if call.value().dtype.is_floating_point:
        return call.trace.call(operator.truediv, one, other)
    if not isinstance(one, Value):
        raise CannotLift("a number divided by whole numbers")
    overload = _aten.div.Tensor_mode if isinstance(other, Value) else _aten.div.Scalar_mode
    return call.trace.call(overload, one, other, rounding_mode="trunc")


def _power(call: Call) -> Value:
    """Of the base's type, whatever the exponent's is."""
    found = _raised(call)
    wanted = call.value().dtype
    return found if found.dtype == wanted else call.trace.call(_aten._to_copy.default, found, dtype=wanted)  # noqa: SLF001


def _raised(call: Call) -> Value:
    one, other = _operands(call)
    if not isinstance(other, Value):
        return call.trace.call(_aten.pow.Tensor_Scalar, one, other)
    if not isinstance(one, Value):
        return call.trace.call(_aten.pow.Scalar, one, other)
    return call.trace.call(_aten.pow.Tensor_Tensor, one, other)


def _modulo(call: Call) -> Value:
    one, other = _operands(call)
    if not isinstance(one, Value):
        raise CannotLift("the remainder of a number")
    kind = "fmod" if call.get("fmod", 0) else "remainder"
    return call.trace.call(
        getattr(getattr(_aten, kind), "Tensor" if isinstance(other, Value) else "Scalar"), one, other
    )


def _compare(name: str) -> Rule:
    mirrored = {"lt": "gt", "gt": "lt", "le": "ge", "ge": "le", "eq": "eq"}

    def rule(call: Call) -> Value:
        one, other = _operands(call)
        if isinstance(one, Value):
            packet = getattr(_aten, name)
            return call.trace.call(packet.Tensor if isinstance(other, Value) else packet.Scalar, one, other)
        return call.trace.call(getattr(_aten, mirrored[name]).Scalar, other, one)

    return rule


def _extreme(name: str, clamp: str) -> Rule:
    """Max and Min of any number of values; against a number it is a clamp."""

    def rule(call: Call) -> Value:
        result = call.value()
        for index in range(1, len(call.inputs)):
            other = call.value(index)
            small, large = (result, other) if result.constant and not other.known else (other, result)
            number = operand(small, large)
            if isinstance(number, Value):
                result = call.trace.call(getattr(_aten, name).default, result, other)
            else:
                result = call.trace.call(getattr(_aten, clamp).default, large, number)
        return result

    return rule


def _sum(call: Call) -> Value:
    result = call.value()
    for index in range(1, len(call.inputs)):
        result = call.trace.call(operator.add, result, call.value(index))
    return result


def _mean(call: Call) -> Value:
    return call.trace.call(operator.truediv, _sum(call), float(len(call.inputs)))


def _where(call: Call) -> Value:
    return call.trace.call(_aten.where.self, call.value(0), call.value(1), call.value(2))


def _clip(call: Call) -> Value:
    value = call.value()
    low, high = call.get("min", call.number(1)), call.get("max", call.number(2))
    if low is None and high is None:
        return value
    if value.known or not value.dtype.is_floating_point:
        return call.trace.call(_aten.clamp.default, value, low, high)
    low = -math.inf if low is None or low <= -3.4e38 else float(low)
    high = math.inf if high is None or high >= 3.4e38 else float(high)
    if low > high:
        raise CannotLift("its lower bound is above its upper one")
    if high == math.inf:
        leaf: nn.Module = nn.ReLU() if low == 0 else nn.Identity()
        return call.trace.module(leaf, value, call.path()) if low == 0 else _bounded(call, value, low, None)
    if low == -math.inf:
        return _bounded(call, value, None, high)
    if low == high:
        return _bounded(call, value, low, high)
    return call.trace.module(nn.ReLU6() if (low, high) == (0.0, 6.0) else nn.Hardtanh(low, high), value, call.path())


def _bounded(call: Call, value: Value, low: float | None, high: float | None) -> Value:
    return call.trace.call(_aten.clamp.default, value, low, high)


def _cast(call: Call) -> Value:
    value = call.value()
    like = call.given(1)
    dtype = like.dtype if call.operator == "CastLike" and like is not None else dtype_of(call.get("to"))
    if value.dtype == dtype:
        return value
    return call.trace.call(_aten._to_copy.default, value, dtype=dtype)  # noqa: SLF001 - torch's name of the operator


def _function(name: str, overload: str = "default") -> Rule:
    return lambda call: call.trace.call(getattr(getattr(_aten, name), overload), call.value())


def _activation(make: Callable[[Call], nn.Module]) -> Rule:
    return lambda call: call.trace.module(make(call), call.value(), call.path())


def _folded_or(rule: Rule, function: Callable[..., Any]) -> Rule:
    """A constant is computed; only what follows from the input gets a module."""
    return lambda call: call.trace.call(function, call.value()) if call.value().known else rule(call)


def _hard_sigmoid(call: Call) -> Value:
    alpha, beta = call.get("alpha", 0.2), call.get("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return call.trace.module(nn.Hardsigmoid(), call.value(), call.path())
    scaled = call.trace.call(operator.mul, call.value(), alpha)
    return call.trace.module(nn.Hardtanh(0.0, 1.0), call.trace.call(operator.add, scaled, beta), call.path())


def _prelu(call: Call) -> Value:
    value, slope = call.value(), call.constant(1, "slope")
    per_channel = slope.numel() == value.shape[1] if value.rank > 1 else False
    aligned = slope.dim() == value.rank - 1 or (slope.dim() == value.rank and slope.shape[0] == 1)
    if slope.numel() != 1 and not (per_channel and aligned and slope.shape[-(value.rank - 1)] == slope.numel()):
        raise CannotLift("its slope is neither one number nor one a channel")
    leaf = nn.PReLU(slope.numel())
    leaf.weight = call.trace.parameter(slope.reshape(-1))
    return call.trace.module(leaf, value, call.path(1))


def _softmax(leaf: type[nn.Softmax | nn.LogSoftmax]) -> Rule:
    def rule(call: Call) -> Value:
        value = call.value()
        if call.opset >= 13:
            return call.trace.module(leaf(call.axis(-1)), value, call.path())
        axis = call.axis(1)
        if all(length == 1 for shape in value.shapes for length in shape[axis + 1 :]):
            return call.trace.module(leaf(axis), value, call.path())
        # Before opset 13 all axes from this one on are one distribution.
        flat = call.trace.call(torch.flatten, value, axis, -1)
        result = call.trace.module(leaf(axis), flat, call.path())
        return call.trace.call(torch.reshape, result, tuple(value.length(index) for index in range(value.rank)))

    return rule


def _gelu(call: Call) -> nn.Module:
    return nn.GELU(call.get("approximate", "none"))


def _shrink_elu(call: Call) -> Value:
    """SELU and CELU as their formulas: γ·(max(0, x) + min(0, α·(exp(x / β) − 1)))."""
    alpha = call.get("alpha", 1.6732632423543772 if call.operator == "Selu" else 1.0)
    gamma, beta = (call.get("gamma", 1.0507009873554805), 1.0) if call.operator == "Selu" else (1.0, alpha)
    scaled = call.trace.call(operator.truediv, call.value(), beta) if beta != 1 else call.value()
    grown = call.trace.module(nn.ELU(alpha if call.operator == "Selu" else 1.0), scaled, call.path())
    factor = gamma * beta
    return call.trace.call(operator.mul, grown, factor) if factor != 1 else grown


def _softsign(call: Call) -> Value:
    below = call.trace.call(operator.add, call.trace.call(_aten.abs.default, call.value()), 1.0)
    return call.trace.call(operator.truediv, call.value(), below)


RULES: Mapping[str, Rule] = {
    "Add": _arithmetic(operator.add),
    "Sub": _arithmetic(operator.sub),
    "Mul": _arithmetic(operator.mul),
    "Div": _divide,
    "Pow": _power,
    "Mod": _modulo,
    "Neg": lambda call: call.trace.call(operator.neg, call.value()),
    "Abs": _function("abs"),
    "Sqrt": _function("sqrt"),
    "Exp": _function("exp"),
    "Log": _function("log"),
    "Erf": _function("erf"),
    "Reciprocal": _function("reciprocal"),
    "Floor": _function("floor"),
    "Ceil": _function("ceil"),
    "Round": _function("round"),
    "Sign": _function("sign"),
    "Sin": _function("sin"),
    "Cos": _function("cos"),
    "IsNaN": _function("isnan"),
    "Not": _function("logical_not"),
    "And": _arithmetic(_aten.logical_and.default),
    "Or": _arithmetic(_aten.logical_or.default),
    "Xor": _arithmetic(_aten.logical_xor.default),
    "Equal": _compare("eq"),
    "Less": _compare("lt"),
    "LessOrEqual": _compare("le"),
    "Greater": _compare("gt"),
    "GreaterOrEqual": _compare("ge"),
    "Max": _extreme("maximum", "clamp_min"),
    "Min": _extreme("minimum", "clamp_max"),
    "Sum": _sum,
    "Mean": _mean,
    "Where": _where,
    "Clip": _clip,
    "Cast": _cast,
    "CastLike": _cast,
    "Relu": _folded_or(_activation(lambda _: nn.ReLU()), _aten.relu.default),
    "LeakyRelu": _activation(lambda call: nn.LeakyReLU(call.get("alpha", 0.01))),
    "PRelu": _prelu,
    "Elu": _activation(lambda call: nn.ELU(call.get("alpha", 1.0))),
    "Selu": _shrink_elu,
    "Celu": _shrink_elu,
    "Sigmoid": _folded_or(_activation(lambda _: nn.Sigmoid()), _aten.sigmoid.default),
    "Tanh": _folded_or(_activation(lambda _: nn.Tanh()), _aten.tanh.default),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _activation(lambda _: nn.Hardswish()),
    "Gelu": _activation(_gelu),
    "Mish": _activation(lambda _: nn.Mish()),
    "Softplus": _activation(lambda _: nn.Softplus()),
    "Softsign": _softsign,
    "Softmax": _softmax(nn.Softmax),
    "LogSoftmax": _softmax(nn.LogSoftmax),
}
