"""Convolutions: they become leaf modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from compression.intake.onnx.call import Call, Rule
from compression.intake.onnx.padding import padded, pads
from compression.intake.onnx.stored import filled, stored_bias, stored_weight
from compression.intake.onnx.value import CannotLift, Value


def _convolution(call: Call) -> Value:
    weight, bias = stored_weight(call, 1, (3, 4)), stored_bias(call, 2)
    axes, groups, value = weight.dim() - 2, call.get("group", 1), call.value()
    before, after = pads(call, list(weight.shape[2:]))
    symmetric = before == after and min(before) >= 0
    if not symmetric:
        value = padded(call, value, before, after, 0.0)
    cls = {1: nn.Conv1d, 2: nn.Conv2d}[axes]
    leaf = cls(
        weight.shape[1] * groups,
        weight.shape[0],
        tuple(weight.shape[2:]),  # type: ignore[arg-type]
        tuple(call.get("strides", [1] * axes)),  # type: ignore[arg-type]
        tuple(before) if symmetric else 0,  # type: ignore[arg-type]
        tuple(call.get("dilations", [1] * axes)),  # type: ignore[arg-type]
        groups,
        bias is not None,
        device="meta",
    )
    return call.trace.module(leaf, value, call.path(1), filled(call, leaf, weight, bias))


def _transposed(call: Call) -> Value:
    """Over one axis in space as over two of which the first has the length 1. Torch pads both ends alike and takes
    no other output length, so what the file cuts away beyond that is cut off afterwards."""
    weight, bias, value = stored_weight(call, 1, (3, 4)), stored_bias(call, 2), call.value()
    axes = weight.dim() - 2
    strides, dilations = call.get("strides", [1] * axes), call.get("dilations", [1] * axes)
    extra = list(call.get("output_padding", [0] * axes))
    before, after = _transposed_pads(call, list(weight.shape[2:]), extra)
    even = [max(min(pair), 0) for pair in zip(before, after, strict=True)]
    starts = [one - pad for one, pad in zip(before, even, strict=True)]
    ends = [other - pad - more for other, pad, more in zip(after, even, extra, strict=True)]
    if axes == 1:
        weight, value = weight.unsqueeze(2), call.trace.call(torch.unsqueeze, value, 2)
    leaf = nn.ConvTranspose2d(
        weight.shape[0],
        weight.shape[1] * call.get("group", 1),
        tuple(weight.shape[2:]),  # type: ignore[arg-type]
        _pair(strides, 1),
        _pair(even, 0),
        _pair([max(-end, 0) for end in ends], 0),
        call.get("group", 1),
        bias is not None,
        _pair(dilations, 1),
        device="meta",
    )
    found = call.trace.module(leaf, value, call.path(1), filled(call, leaf, weight, bias))
    found = found if axes == 2 else call.trace.call(torch.squeeze, found, (2,))
    return padded(call, found, [-start for start in starts], [-max(end, 0) for end in ends], 0.0)


def _pair(sizes: Sequence[int], first: int) -> tuple[int, int]:
    """Of two axes in space, where `sizes` may have the second alone."""
    return (first, sizes[0]) if len(sizes) == 1 else (sizes[0], sizes[1])


def _transposed_pads(call: Call, kernel: Sequence[int], extra: Sequence[int]) -> tuple[list[int], list[int]]:
    """As the standard has it: with an output shape the padding follows from that."""
    kind, wanted = call.get("auto_pad", "NOTSET"), call.get("output_shape")
    strides = call.get("strides", [1] * len(kernel))
    lengths = call.value().shape[2:]
    if wanted is None and not kind.startswith("SAME"):
        return pads(call, kernel)
    if wanted is None:
        wanted = [length * stride for length, stride in zip(lengths, strides, strict=True)]
    dilations = call.get("dilations", [1] * len(kernel))
    before, after = [], []
    for axis, size in enumerate(wanted[-len(kernel) :]):
        reach = (kernel[axis] - 1) * dilations[axis] + 1
        total = strides[axis] * (lengths[axis] - 1) + extra[axis] + reach - size
        if total < 0:
            raise CannotLift("its output is larger than what it covers")
        less = total // 2 if kind == "SAME_UPPER" else total - total // 2
        before.append(less)
        after.append(total - less)
    return before, after


RULES: Mapping[str, Rule] = {
    "Conv": _convolution,
    "ConvTranspose": _transposed,
}
