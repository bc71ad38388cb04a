"""What is padded around a value, along its axes in space."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F  # noqa: N812

from compression.intake.onnx.call import Call
from compression.intake.onnx.value import CannotLift, Value


def pads(call: Call, kernel: Sequence[int]) -> tuple[list[int], list[int]]:
    """Padding before and after each axis in space, `auto_pad` included (which needs lengths that are fixed)."""
    axes = len(kernel)
    kind = call.get("auto_pad", "NOTSET")
    if kind == "NOTSET":
        given = list(call.get("pads", [0] * (2 * axes)))
        if len(given) != 2 * axes:
            raise CannotLift("its pads don't fit its kernel")
        return given[:axes], given[axes:]
    if kind == "VALID":
        return [0] * axes, [0] * axes
    if kind not in {"SAME_UPPER", "SAME_LOWER"}:
        raise CannotLift(f"auto_pad {kind}")
    strides, dilations = call.get("strides", [1] * axes), call.get("dilations", [1] * axes)
    before, after = [], []
    for length, size, stride, dilation in zip(call.value().shape[2:], kernel, strides, dilations, strict=True):
        total = max((math.ceil(length / stride) - 1) * stride + (size - 1) * dilation + 1 - length, 0)
        less, more = total // 2, total - total // 2
        before.append(less if kind == "SAME_UPPER" else more)
        after.append(more if kind == "SAME_UPPER" else less)
    return before, after


def padded(call: Call, value: Value, before: Sequence[int], after: Sequence[int], fill: float) -> Value:
    if not any((*before, *after)):
        return value
    amounts = [amount for pair in zip(reversed(before), reversed(after), strict=True) for amount in pair]
    return call.trace.call(F.pad, value, amounts, "constant", fill)
