"""The closed set of leaf modules and functions that a lifted graph is made of.

A graph has five kinds of nodes: placeholders (one per input), `get_attr` of a tensor, `call_module` of a leaf of
`MODULES` with one argument, `call_function` of a function of `FUNCTIONS` (or of an allow-listed ATen overload, written
"aten.NAME.OVERLOAD"), and one output. There is no `call_method` and nothing works in place.
"""

from __future__ import annotations

import keyword
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, fx, nn
from torch._ops import OpOverload


def size(value: Tensor, dim: int) -> int:
    """The length of axis `dim`: a function, so that a graph needs no `call_method`."""
    return value.size(dim)


_CONV = (
    "in_channels",
    "out_channels",
    "kernel_size",
    "stride",
    "padding",
    "dilation",
    "groups",
    "bias",
    "padding_mode",
)
_TRANSPOSED = (*_CONV[:5], "output_padding", *_CONV[5:])
_BATCH_NORM = ("num_features", "eps", "momentum", "affine")
_MAX_POOL = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
_AVG_POOL = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")

MODULES: Mapping[type[nn.Module], tuple[str, ...]] = {
    nn.Conv1d: _CONV,
    nn.Conv2d: _CONV,
    nn.ConvTranspose2d: _TRANSPOSED,
    nn.Linear: ("in_features", "out_features", "bias"),
    nn.BatchNorm1d: _BATCH_NORM,
    nn.BatchNorm2d: _BATCH_NORM,
    nn.LayerNorm: ("normalized_shape", "eps", "elementwise_affine", "bias"),
    nn.GroupNorm: ("num_groups", "num_channels", "eps", "affine"),
    nn.Embedding: ("num_embeddings", "embedding_dim", "padding_idx"),
    nn.PReLU: ("num_parameters",),
    nn.ReLU: (),
    nn.ReLU6: (),
    nn.Hardtanh: ("min_val", "max_val"),
    nn.SiLU: (),
    nn.Sigmoid: (),
    nn.Tanh: (),
    nn.GELU: ("approximate",),
    nn.Hardswish: (),
    nn.Hardsigmoid: (),
    nn.LeakyReLU: ("negative_slope",),
    nn.ELU: ("alpha",),
    nn.Mish: (),
    nn.Softplus: ("beta", "threshold"),
    nn.Softmax: ("dim",),
    nn.LogSoftmax: ("dim",),
    nn.Dropout: ("p",),
    nn.Dropout2d: ("p",),
    nn.Identity: (),
    nn.MaxPool1d: _MAX_POOL,
    nn.MaxPool2d: _MAX_POOL,
    nn.AvgPool1d: _AVG_POOL,
    nn.AvgPool2d: (*_AVG_POOL, "divisor_override"),
    nn.AdaptiveAvgPool1d: ("output_size",),
    nn.AdaptiveAvgPool2d: ("output_size",),
    nn.AdaptiveMaxPool2d: ("output_size",),
    nn.Upsample: ("size", "scale_factor", "mode", "align_corners"),
    nn.PixelShuffle: ("upscale_factor",),
    nn.LSTM: ("input_size", "hidden_size", "bidirectional"),  # one layer, steps first
    nn.GRU: ("input_size", "hidden_size", "bidirectional"),
}
"""Each leaf class with the constructor arguments that describe it."""


@dataclass(frozen=True)
class Function:
    """A function of the vocabulary: `call` takes `least` to `most` positional arguments and the named `keywords`."""

    call: Callable[..., Any]
    least: int
    most: int
    keywords: frozenset[str] = frozenset()


FUNCTIONS: Mapping[str, Function] = {
    "add": Function(operator.add, 2, 2),
    "sub": Function(operator.sub, 2, 2),
    "mul": Function(operator.mul, 2, 2),
    "truediv": Function(operator.truediv, 2, 2),
    "floordiv": Function(operator.floordiv, 2, 2),
    "mod": Function(operator.mod, 2, 2),
    "neg": Function(operator.neg, 1, 1),
    "getitem": Function(operator.getitem, 2, 2),
    "matmul": Function(torch.matmul, 2, 2),
    "flatten": Function(torch.flatten, 1, 3),  # value, first axis, last axis
    "reshape": Function(torch.reshape, 2, 2),  # value, shape
    "permute": Function(torch.permute, 2, 2),  # value, axes
    "transpose": Function(torch.transpose, 3, 3),  # value, axis, axis
    "squeeze": Function(torch.squeeze, 2, 2),  # value, axis or axes
    "unsqueeze": Function(torch.unsqueeze, 2, 2),  # value, axis
    "cat": Function(torch.cat, 2, 2),  # values, axis
    "stack": Function(torch.stack, 2, 2),  # values, axis
    "chunk": Function(torch.chunk, 3, 3),  # value, chunks, axis
    "split": Function(torch.split, 3, 3),  # value, size or sizes, axis
    "unbind": Function(torch.unbind, 2, 2),  # value, axis
    "mean": Function(torch.mean, 1, 2, frozenset({"keepdim"})),  # value, axes
    "sum": Function(torch.sum, 1, 2, frozenset({"keepdim"})),  # value, axes
    "pad": Function(F.pad, 4, 4),  # value, amounts, mode, fill
    "scaled_dot_product_attention": Function(
        F.scaled_dot_product_attention, 3, 4, frozenset({"is_causal", "scale", "enable_gqa"})
    ),
    "size": Function(size, 2, 2),  # value, axis
}

# fmt: off
ATEN = frozenset({
    "conv1d", "conv2d", "conv_transpose2d", "linear", "batch_norm", "layer_norm", "group_norm", "embedding", "relu",
    "relu6", "hardtanh", "silu", "sigmoid", "tanh", "gelu", "hardswish", "hardsigmoid", "leaky_relu", "elu", "mish",
    "softplus", "prelu", "softmax", "log_softmax", "dropout", "feature_dropout", "max_pool1d", "max_pool2d",
    "avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "flatten",
    "unflatten", "view", "reshape", "permute", "transpose", "t", "contiguous", "squeeze", "unsqueeze", "expand",
    "expand_as", "repeat", "cat", "concat", "stack", "split", "split_with_sizes", "chunk", "unbind", "select",
    "slice", "index", "pad", "constant_pad_nd", "roll", "narrow", "add", "sub", "mul", "div", "rsub", "neg", "pow",
    "sqrt", "rsqrt", "exp", "log", "abs", "square", "reciprocal", "mean", "sum", "amax", "amin", "maximum",
    "minimum", "clamp", "clamp_min", "clamp_max", "where", "eq", "ne", "lt", "gt", "le", "ge", "logical_not",
    "matmul", "bmm", "mm", "addmm", "einsum", "scaled_dot_product_attention", "argmax", "cumsum", "sym_size", "to",
    "_to_copy", "type_as", "clone", "detach", "alias", "arange", "zeros", "ones", "full", "scalar_tensor",
    "zeros_like", "ones_like", "full_like", "lift_fresh_copy", "masked_fill", "tril", "triu", "upsample_nearest2d",
    "upsample_bilinear2d", "pixel_shuffle", "erf", "floor", "ceil", "round", "sign", "sin", "cos", "isnan",
    "logical_and", "logical_or", "logical_xor", "remainder", "fmod", "index_select", "flip", "logsumexp", "lstm", "gru",
})
# fmt: on
"""ATen operators that may be read and run: functions of tensors alone; none reads a file or keeps state."""

_NAMES = {function.call: name for name, function in FUNCTIONS.items()}
KINDS: Mapping[str, type[nn.Module]] = {leaf.__name__: leaf for leaf in MODULES}
RESERVED = frozenset([*dir(fx.GraphModule(nn.Module(), fx.Graph())), *keyword.kwlist])
"""Names that no module or tensor may have: they would hide an attribute of `GraphModule`, or are keywords."""
_PART = re.compile(r"\w{1,200}", re.ASCII)


def is_identifier(name: str) -> bool:
    """Whether `name` can be an input: it becomes a parameter of the generated `forward`."""
    return bool(_PART.fullmatch(name)) and name.isidentifier() and not keyword.iskeyword(name) and name != "self"


def is_path(name: str) -> bool:
    """Whether `name` ("blocks.0.conv1") can be that of a module or a tensor."""
    return len(name) <= 500 and all(_PART.fullmatch(part) and part not in RESERVED for part in name.split("."))


def function_name(target: object) -> str:
    """The name of a `call_function` target: "add", "flatten" … or "aten.NAME.OVERLOAD". ValueError: it has none."""
    if isinstance(target, OpOverload):
        name = f"aten.{target.__name__}"
        if aten(name) is target:
            return name
    elif callable(target) and target in _NAMES:
        return _NAMES[target]
    raise ValueError(f"{target} is not in the vocabulary")


def aten(name: str) -> OpOverload[..., Any] | None:
    """The allow-listed overload called "aten.NAME.OVERLOAD", or None: those that write to an argument are left out."""
    parts = name.split(".")
    if len(parts) != 3 or parts[0] != "aten" or parts[1] not in ATEN or not _PART.fullmatch(parts[2]):
        return None
    overload = getattr(getattr(torch.ops.aten, parts[1]), parts[2], None)
    if not isinstance(overload, OpOverload) or schema(overload).is_mutable:
        return None
    return overload


def schema(overload: OpOverload[..., Any]) -> torch.FunctionSchema:
    """The operator's schema: its arguments in order, with their defaults."""
    return overload._schema  # noqa: SLF001 - torch has no public name for it


def takes(overload: OpOverload[..., Any], positional: int, keywords: Iterable[str]) -> bool:
    """Whether so many positional arguments and these keywords fit the operator's schema. fx writes keywords
    into the code that it generates, so none may get there unchecked."""
    names = [argument.name for argument in schema(overload).arguments if not argument.kwarg_only]
    free = {argument.name for argument in schema(overload).arguments} - set(names[:positional])
    return positional <= len(names) and set(keywords) <= free


def module_arguments(module: nn.Module) -> dict[str, Any]:
    """The constructor arguments of a leaf module. ValueError: the module isn't in the vocabulary."""
    names = MODULES.get(type(module))
    if names is None:
        raise ValueError(f"{type(module).__name__} is not in the vocabulary")
    return {name: getattr(module, name) is not None if name == "bias" else getattr(module, name) for name in names}


def used_tensors(module: fx.GraphModule) -> dict[str, Tensor]:
    """Parameters and buffers that the graph uses, by name; one that has several names comes once, under its first."""
    return {name: tensor for name, (tensor, first) in tensor_names(module).items() if name == first}


def called(module: fx.GraphModule) -> list[str]:
    """The names of the leaf modules that the graph calls, in order."""
    return list(dict.fromkeys(str(node.target) for node in module.graph.nodes if node.op == "call_module"))


def state(leaf: nn.Module) -> dict[str, Tensor]:
    """A leaf module's parameters and buffers by name."""
    return {**dict(leaf.named_parameters()), **dict(leaf.named_buffers())}


def tensor_names(module: fx.GraphModule) -> dict[str, tuple[Tensor, str]]:
    """Every name of every tensor in use, with the tensor and the first of its names: leaf modules come first."""
    alone = dict.fromkeys(str(node.target) for node in module.graph.nodes if node.op == "get_attr")
    values = {f"{name}.{part}": t for name in called(module) for part, t in state(module.get_submodule(name)).items()}
    values |= {name: _attribute(module, name) for name in alone}
    first: dict[int, str] = {}
    return {name: (tensor, first.setdefault(id(tensor), name)) for name, tensor in values.items()}


def _attribute(module: nn.Module, path: str) -> Tensor:
    holder, _, name = path.rpartition(".")
    value = getattr(module.get_submodule(holder), name)
    if not isinstance(value, Tensor):
        raise TypeError(f"{path} is no tensor")
    return value
