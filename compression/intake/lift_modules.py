"""ATen calls that become leaf modules: one rule an operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from compression.errors import IntakeError
from compression.intake.aten_call import AtenCall, Value


@dataclass(frozen=True)
class Leaf:
    """A leaf module to be called on the argument `input`; `owner` is the argument whose tensor gives it its name."""

    module: nn.Module
    input: str = "self"
    owner: str | None = None


def lift_module(call: AtenCall) -> Leaf | None:
    """The leaf module that a call is, or None: no rule, or a weight is computed rather than stored."""
    rule = RULES.get(call.operator)
    if rule is None or any(isinstance(call.shapes[0][node], int) for node in call.node.all_input_nodes):
        return None  # a length that is computed can't be a constructor's argument
    try:
        return rule(call)
    except LookupError:
        return None


def _sizes(value: Value, count: int) -> tuple[int, ...]:
    return tuple(value) * count if len(value) == 1 else tuple(value)


def _one(value: Value) -> Value:
    """A pooling's size as its module takes it: a number where all axes agree."""
    return value[0] if len(set(value)) == 1 else tuple(value)


def _set(module: nn.Module, **tensors: Tensor | None) -> None:
    for name, tensor in tensors.items():
        if tensor is not None:
            is_parameter = name in {"weight", "bias"}
            setattr(module, name, nn.Parameter(tensor) if is_parameter and not _is_parameter(tensor) else tensor)


def _is_parameter(tensor: Tensor) -> bool:
    return isinstance(tensor, nn.Parameter)


def _needed(call: AtenCall, name: str) -> Tensor:
    tensor = call.attribute(name)
    if tensor is None:
        raise LookupError(f"{name} is absent")
    return tensor


def _convolution(call: AtenCall) -> Leaf:
    weight, bias = _needed(call, "weight"), call.attribute("bias")
    axes = weight.dim() - 2
    cls = {1: nn.Conv1d, 2: nn.Conv2d}[axes]
    padding = call["padding"]
    module = cls(
        weight.shape[1] * call["groups"],
        weight.shape[0],
        tuple(weight.shape[2:]),  # type: ignore[arg-type]
        _sizes(call["stride"], axes),  # type: ignore[arg-type]
        padding if isinstance(padding, str) else _sizes(padding, axes),  # type: ignore[arg-type]
        _sizes(call["dilation"], axes),  # type: ignore[arg-type]
        call["groups"],
        bias is not None,
        device="meta",
    )
    _set(module, weight=weight, bias=bias)
    return Leaf(module, "input", "weight")


def _transposed(call: AtenCall) -> Leaf:
    weight, bias = _needed(call, "weight"), call.attribute("bias")
    module = nn.ConvTranspose2d(
        weight.shape[0],
        weight.shape[1] * call["groups"],
        tuple(weight.shape[2:]),  # type: ignore[arg-type]
        _sizes(call["stride"], 2),  # type: ignore[arg-type]
        _sizes(call["padding"], 2),  # type: ignore[arg-type]
        _sizes(call["output_padding"], 2),  # type: ignore[arg-type]
        call["groups"],
        bias is not None,
        _sizes(call["dilation"], 2),  # type: ignore[arg-type]
        device="meta",
    )
    _set(module, weight=weight, bias=bias)
    return Leaf(module, "input", "weight")


def _linear(call: AtenCall) -> Leaf:
    weight, bias = _needed(call, "weight"), call.attribute("bias")
    module = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    _set(module, weight=weight, bias=bias)
    return Leaf(module, "input", "weight")


def _batch_norm(call: AtenCall) -> Leaf:
    if call["training"]:
        raise training_mode(call)
    mean, variance = _needed(call, "running_mean"), _needed(call, "running_var")
    weight, bias = call.attribute("weight"), call.attribute("bias")
    if (weight is None) != (bias is None):
        raise LookupError("half an affine map")
    cls = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[len(call.shape(call["input"]))]
    # momentum 0 is how a cumulative average looks in eval mode: torch's default takes its place
    module = cls(mean.numel(), call["eps"], call["momentum"] or 0.1, weight is not None)
    _set(module, running_mean=mean, running_var=variance, weight=weight, bias=bias)
    return Leaf(module, "input", "running_mean")


def _layer_norm(call: AtenCall) -> Leaf:
    weight, bias = call.attribute("weight"), call.attribute("bias")
    if weight is None and bias is not None:
        raise LookupError("half an affine map")
    shape = list(call["normalized_shape"])
    module = nn.LayerNorm(shape, call["eps"], weight is not None, bias is not None, device="meta")
    _set(module, weight=weight, bias=bias)
    return Leaf(module, "input", "weight" if weight is not None else None)


def _group_norm(call: AtenCall) -> Leaf:
    weight, bias = call.attribute("weight"), call.attribute("bias")
    if (weight is None) != (bias is None):
        raise LookupError("half an affine map")
    channels = call.shape(call["input"])[1]
    module = nn.GroupNorm(call["num_groups"], channels, call["eps"], weight is not None, device="meta")
    _set(module, weight=weight, bias=bias)
    return Leaf(module, "input", "weight" if weight is not None else None)


def _embedding(call: AtenCall) -> Leaf:
    weight = _needed(call, "weight")
    padding = call["padding_idx"] if call["padding_idx"] >= 0 else None
    module = nn.Embedding(weight.shape[0], weight.shape[1], padding, device="meta")
    _set(module, weight=weight)
    return Leaf(module, "indices", "weight")


def _prelu(call: AtenCall) -> Leaf:
    weight = _needed(call, "weight")
    module = nn.PReLU(weight.numel(), device="meta")
    _set(module, weight=weight)
    return Leaf(module, "self", "weight")


def _hardtanh(call: AtenCall) -> Leaf:
    low, high = float(call["min_val"]), float(call["max_val"])
    return Leaf(nn.ReLU6() if (low, high) == (0.0, 6.0) else nn.Hardtanh(low, high))


def _elu(call: AtenCall) -> Leaf:
    if (call["scale"], call["input_scale"]) != (1, 1):
        raise LookupError("a scaled ELU")
    return Leaf(nn.ELU(call["alpha"]))


def _softmax(cls: type[nn.Softmax | nn.LogSoftmax]) -> Callable[[AtenCall], Leaf]:
    def rule(call: AtenCall) -> Leaf:
        if call["dtype"] is not None:
            raise LookupError("it changes the type")
        return Leaf(cls(call["dim"]))

    return rule


def _dropout(cls: type[nn.Dropout | nn.Dropout2d]) -> Callable[[AtenCall], Leaf]:
    def rule(call: AtenCall) -> Leaf:
        if call["train"]:
            raise training_mode(call)
        return Leaf(cls(call["p"]), "input")

    return rule


def _max_pool(cls: type[nn.MaxPool1d | nn.MaxPool2d]) -> Callable[[AtenCall], Leaf]:
    def rule(call: AtenCall) -> Leaf:
        kernel, stride = _one(call["kernel_size"]), _one(call["stride"] or call["kernel_size"])
        padding, dilation = _one(call["padding"]), _one(call["dilation"])
        return Leaf(cls(kernel, stride, padding, dilation, ceil_mode=call["ceil_mode"]))

    return rule


def _avg_pool(cls: type[nn.AvgPool1d | nn.AvgPool2d]) -> Callable[[AtenCall], Leaf]:
    def rule(call: AtenCall) -> Leaf:
        kernel, stride = _one(call["kernel_size"]), _one(call["stride"] or call["kernel_size"])
        rest: dict[str, Any] = {"ceil_mode": call["ceil_mode"], "count_include_pad": call["count_include_pad"]}
        if cls is nn.AvgPool2d:
            rest["divisor_override"] = call["divisor_override"]
        return Leaf(cls(kernel, stride, _one(call["padding"]), **rest))

    return rule


def _adaptive(cls: type[nn.Module]) -> Callable[[AtenCall], Leaf]:
    return lambda call: Leaf(cls(_one(call["output_size"])))


def _upsample(mode: str) -> Callable[[AtenCall], Leaf]:
    def rule(call: AtenCall) -> Leaf:
        factors = call.arguments.get("scale_factors")
        if not factors:
            raise LookupError("it has a size instead of factors")
        corners = call.arguments.get("align_corners")
        return Leaf(nn.Upsample(scale_factor=tuple(factors), mode=mode, align_corners=corners), "input")

    return rule


def _plain(cls: type[nn.Module]) -> Callable[[AtenCall], Leaf]:
    return lambda _: Leaf(cls())


RULES: Mapping[str, Callable[[AtenCall], Leaf]] = {
    "conv1d": _convolution,
    "conv2d": _convolution,
    "conv_transpose2d": _transposed,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "embedding": _embedding,
    "prelu": _prelu,
    "hardtanh": _hardtanh,
    "elu": _elu,
    "relu": _plain(nn.ReLU),
    "relu6": _plain(nn.ReLU6),
    "silu": _plain(nn.SiLU),
    "sigmoid": _plain(nn.Sigmoid),
    "tanh": _plain(nn.Tanh),
    "hardswish": _plain(nn.Hardswish),
    "hardsigmoid": _plain(nn.Hardsigmoid),
    "mish": _plain(nn.Mish),
    "gelu": lambda call: Leaf(nn.GELU(call["approximate"])),
    "leaky_relu": lambda call: Leaf(nn.LeakyReLU(call["negative_slope"])),
    "softplus": lambda call: Leaf(nn.Softplus(call["beta"], call["threshold"])),
    "softmax": _softmax(nn.Softmax),
    "log_softmax": _softmax(nn.LogSoftmax),
    "dropout": _dropout(nn.Dropout),
    "feature_dropout": _dropout(nn.Dropout2d),
    "max_pool1d": _max_pool(nn.MaxPool1d),
    "max_pool2d": _max_pool(nn.MaxPool2d),
    "avg_pool1d": _avg_pool(nn.AvgPool1d),
    "avg_pool2d": _avg_pool(nn.AvgPool2d),
    "adaptive_avg_pool1d": _adaptive(nn.AdaptiveAvgPool1d),
    "adaptive_avg_pool2d": _adaptive(nn.AdaptiveAvgPool2d),
    "upsample_nearest2d": _upsample("nearest"),
    "upsample_bilinear2d": _upsample("bilinear"),
    "pixel_shuffle": lambda call: Leaf(nn.PixelShuffle(call["upscale_factor"])),
}


def training_mode(call: AtenCall) -> IntakeError:
    message = "the model was exported in training mode: call model.eval() before torch.export.export"
    return IntakeError(message, str(call.node.target), kind="operator-unsupported")
