"""Operators with stored weights, and pooling: they become leaf modules."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, fx, nn

from compression.intake.onnx.call import Call, Rule
from compression.intake.onnx.value import CannotLift, Value

_aten = torch.ops.aten
_MOST_CHANNELS = 2**24


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


def _weight(call: Call, index: int, axes: Sequence[int]) -> Tensor:
    weight = call.constant(index, "weight")
    if weight.dim() not in axes or weight.dtype != torch.float32:
        raise CannotLift(f"a weight of {weight.dim()} axes and type {str(weight.dtype).removeprefix('torch.')}")
    return weight


def _bias(call: Call, index: int) -> Tensor | None:
    return None if call.given(index) is None else call.constant(index, "bias").reshape(-1)


def filled(call: Call, leaf: nn.Module, weight: Tensor, bias: Tensor | None) -> tuple[int, ...]:
    """Gives a leaf its parameters; what tells it from other leaves: calls of one stored matrix are one layer."""
    leaf.weight = call.trace.parameter(weight)
    leaf.register_parameter("bias", None if bias is None else call.trace.parameter(bias))
    return id(leaf.weight), 0 if bias is None else bias.data_ptr()


def _convolution(call: Call) -> Value:
    weight, bias = _weight(call, 1, (3, 4)), _bias(call, 2)
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
    weight, bias, value = _weight(call, 1, (3, 4)), _bias(call, 2), call.value()
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


def _batch_norm(call: Call) -> Value:
    if call.get("training_mode", 0) or sum(bool(name) for name in call.node.output) > 1:
        raise CannotLift("it is in training mode; export the model in eval mode")
    value = call.value()
    scale, shift, mean, variance = (call.constant(index, "statistic") for index in (1, 2, 3, 4))
    cls = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}.get(value.rank)
    if cls is None or scale.dtype != torch.float32:
        raise CannotLift(f"a value of {value.rank} axes")
    leaf = cls(scale.numel(), call.get("epsilon", 1e-5), 1 - call.get("momentum", 0.9), device="meta")
    leaf.weight, leaf.bias = call.trace.parameter(scale), call.trace.parameter(shift)
    leaf.running_mean, leaf.running_var = mean.clone(), variance.clone()
    leaf.num_batches_tracked = torch.tensor(0)
    return call.trace.module(leaf, value, call.path(1))


def _layer_norm(call: Call) -> Value:
    value, axis = call.value(), call.axis(-1)
    if sum(bool(name) for name in call.node.output) > 1:
        raise CannotLift("its mean or deviation is used as well")
    shapes = {shape[axis:] for shape in value.shapes}
    if len(shapes) != 1:
        raise CannotLift("it normalises over the batch")
    shape = shapes.pop()
    weight = call.constant(1, "scale").expand(shape)
    bias = None if call.given(2) is None else call.constant(2, "bias").expand(shape)
    leaf = nn.LayerNorm(list(shape), call.get("epsilon", 1e-5), bias=bias is not None, device="meta")
    filled(call, leaf, weight, bias)
    return call.trace.module(leaf, value, call.path(1))


def _instance_norm(call: Call) -> Value:
    value = call.value()
    weight, bias = call.constant(1, "scale"), call.constant(2, "bias")
    leaf = nn.GroupNorm(value.shape[1], value.shape[1], call.get("epsilon", 1e-5), device="meta")
    filled(call, leaf, weight, bias)
    return call.trace.module(leaf, value, call.path(1))


def _group_norm(call: Call) -> Value:
    value, groups = call.value(), call.get("num_groups")
    weight, bias = call.constant(1, "scale"), call.constant(2, "bias")
    if not groups or value.shape[1] % groups:
        raise CannotLift("its groups don't fit the channels")
    if call.opset < 21:  # one number a group
        weight, bias = (part.repeat_interleave(value.shape[1] // groups) for part in (weight, bias))
    leaf = nn.GroupNorm(groups, value.shape[1], call.get("epsilon", 1e-5), device="meta")
    filled(call, leaf, weight, bias)
    return call.trace.module(leaf, value, call.path(1))


def _rms_norm(call: Call) -> Value:
    """x / √(mean(x²) + ε) · scale, over the axes from `axis` on."""
    value = call.value()
    axes = list(range(call.axis(-1), value.rank))
    squares = call.trace.call(torch.mean, call.trace.call(operator.mul, value, value), axes, keepdim=True)
    root = call.trace.call(_aten.rsqrt.default, call.trace.call(operator.add, squares, call.get("epsilon", 1e-5)))
    return call.trace.call(operator.mul, call.trace.call(operator.mul, value, root), call.value(1))


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
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "InstanceNormalization": _instance_norm,
    "GroupNormalization": _group_norm,
    "RMSNormalization": _rms_norm,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
}
