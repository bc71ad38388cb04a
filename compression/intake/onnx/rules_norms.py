"""Norms: they become leaf modules."""

from __future__ import annotations

import operator
from collections.abc import Mapping

import torch
from torch import nn

from compression.intake.onnx.call import Call, Rule
from compression.intake.onnx.stored import filled
from compression.intake.onnx.value import CannotLift, Value

_aten = torch.ops.aten


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


RULES: Mapping[str, Rule] = {
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "InstanceNormalization": _instance_norm,
    "GroupNormalization": _group_norm,
    "RMSNormalization": _rms_norm,
}
