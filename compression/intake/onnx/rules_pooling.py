"""Pooling: it becomes leaf modules."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from compression.intake.onnx.call import Call, Rule
from compression.intake.onnx.padding import padded, pads
from compression.intake.onnx.value import CannotLift, Value

_aten = torch.ops.aten


def _max_pool(call: Call) -> Value:
    if sum(bool(name) for name in call.node.output) > 1:
        raise CannotLift("its indices are used as well")
    kernel, value = list(call.get("kernel_shape")), call.value()
    axes = len(kernel)
    before, after = pads(call, kernel)
    if before != after or any(2 * pad > size for pad, size in zip(before, kernel, strict=True)):
        value, before = padded(call, value, before, after, -math.inf), [0] * axes
    if axes > 2:
        raise CannotLift("pooling of three axes")
    cls = {1: nn.MaxPool1d, 2: nn.MaxPool2d}[axes]
    strides, dilations = call.get("strides", [1] * axes), call.get("dilations", [1] * axes)
    leaf = cls(_one(kernel), _one(strides), _one(before), _one(dilations), ceil_mode=bool(call.get("ceil_mode", 0)))
    return call.trace.module(leaf, value, call.path())


def _average_pool(call: Call) -> Value:
    kernel, value, counted = list(call.get("kernel_shape")), call.value(), bool(call.get("count_include_pad", 0))
    axes = len(kernel)
    if axes > 2 or any(entry != 1 for entry in call.get("dilations", [])):
        raise CannotLift("pooling of three axes, or dilated")
    before, after = pads(call, kernel)
    strides, up = call.get("strides", [1] * axes), bool(call.get("ceil_mode", 0))
    even = before == after and all(2 * pad <= size for pad, size in zip(before, kernel, strict=True))
    if not even and not counted:
        rounding = _same_windows(value.shape[2:], kernel, strides, before, after, up=up)
        if rounding is None:
            return _scaled_average(call, value, kernel, strides, before, after, up=up)
        up = rounding
    elif not even:
        value, before = padded(call, value, before, after, 0.0), [0] * axes
    return call.trace.module(_average(kernel, strides, before, up, counted or not any(before)), value, call.path())


def _average(
    kernel: Sequence[int], strides: Sequence[int], before: Sequence[int], up: bool, counted: bool
) -> nn.Module:
    if len(kernel) == 1:
        return nn.AvgPool1d(kernel[0], strides[0], before[0], up, counted)
    return nn.AvgPool2d(_one(kernel), _one(strides), _one(before), up, counted)


def _scaled_average(
    call: Call,
    value: Value,
    kernel: Sequence[int],
    strides: Sequence[int],
    before: Sequence[int],
    after: Sequence[int],
    *,
    up: bool,
) -> Value:
    """The average with the padding counted, over the share of each window that is none."""
    if up:
        raise CannotLift("uneven padding that does not count, and a ceil_mode")
    leaf = _average(kernel, strides, [0] * len(kernel), up, True)
    found = call.trace.module(leaf, padded(call, value, before, after, 0.0), call.path())
    amounts = [amount for pair in zip(reversed(before), reversed(after), strict=True) for amount in pair]
    shares = leaf(F.pad(torch.ones(1, 1, *value.shape[2:]), amounts))
    return call.trace.call(operator.truediv, found, call.trace.constant(shares))


def _same_windows(
    lengths: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    before: Sequence[int],
    after: Sequence[int],
    *,
    up: bool,
) -> bool | None:
    """Whether torch has to round up to take as many windows with the padding in front alone on both sides: they begin
    at the same places, and padding that isn't counted changes nothing else. None: neither way."""
    for rounding in (up, not up):
        fits = [
            2 * one <= size
            and _windows(length, size, stride, one, other, up=up)
            == _windows(length, size, stride, one, one, up=rounding)
            for length, size, stride, one, other in zip(lengths, kernel, strides, before, after, strict=True)
        ]
        if all(fits):
            return rounding
    return None


def _windows(length: int, size: int, stride: int, before: int, after: int, *, up: bool) -> int:
    """How many windows fit; none of those that rounding up adds begins in the padding behind."""
    room = length + before + after - size
    count = (-(-room // stride) if up else room // stride) + 1
    return count - 1 if up and (count - 1) * stride >= length + before else count


def _global_pool(call: Call) -> Value:
    value = call.value()
    average = call.operator == "GlobalAveragePool"
    if value.rank == 4:
        leaf: nn.Module = nn.AdaptiveAvgPool2d(1) if average else nn.AdaptiveMaxPool2d(1)
        return call.trace.module(leaf, value, call.path())
    axes = list(range(2, value.rank))
    if average:
        return call.trace.call(torch.mean, value, axes, keepdim=True)
    return call.trace.call(_aten.amax.default, value, axes, True)


def _one(sizes: Sequence[int]) -> Any:
    """A size as torch writes it: one number where all axes agree."""
    return sizes[0] if len(set(sizes)) == 1 else tuple(sizes)


RULES: Mapping[str, Rule] = {
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
}
