"""ATen calls that become plain functions, and the reshapes, which are written so that they follow a changed width."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812
from torch import fx

from compression.intake.aten_call import AtenCall, Value
from compression.vocabulary import size

Called: TypeAlias = tuple[Callable[..., Any], tuple[Value, ...], dict[str, Value]]
"""A function, its arguments and its keywords; nodes are still those of the ATen graph."""

_ARITHMETIC = {operator.mul, operator.floordiv}
BURNT = {"view", "reshape", "expand", "repeat", "zeros", "ones", "full"}
"""Operators whose sizes hold the batch as a number when it was static at export."""


def lift_function(call: AtenCall) -> Called | None:
    """The function that a call is, or None where no rule fits: then the ATen overload itself stays."""
    rule = RULES.get(call.operator)
    return rule(call) if rule is not None else None


def passes_through(call: AtenCall) -> bool:
    """Whether a call only hands on its first argument's values."""
    if call.operator in {"contiguous", "clone", "alias", "lift_fresh_copy"}:
        return True
    return call.operator in {"to", "_to_copy"} and call.dtype(call["self"]) == call.dtype(call.node)


def _arithmetic(function: Callable[..., Any]) -> Callable[[AtenCall], Called | None]:
    def rule(call: AtenCall) -> Called | None:
        if call.arguments.get("alpha", 1) != 1 or call.arguments.get("rounding_mode") is not None:
            return None
        return function, (call["self"], call["other"]), {}

    return rule


def _matmul(other: str) -> Callable[[AtenCall], Called]:
    return lambda call: (torch.matmul, (call["self"], call[other]), {})


def _reduction(function: Callable[..., Any]) -> Callable[[AtenCall], Called | None]:
    def rule(call: AtenCall) -> Called | None:
        if call.arguments.get("dtype") is not None:
            return None
        if not call.arguments.get("dim"):
            return (function, (call["self"],), {}) if "dim" not in call.arguments else None
        return function, (call["self"], list(call["dim"])), {"keepdim": call["keepdim"]}

    return rule


def _squeeze(call: AtenCall) -> Called | None:
    axes = call.arguments.get("dim")  # without axes it would squeeze a batch of one
    if axes is None:
        return None
    return torch.squeeze, (call["self"], axes if isinstance(axes, int) else tuple(axes)), {}


def _split(call: AtenCall) -> Called:
    sizes = call.arguments.get("split_size", call.arguments.get("split_sizes"))
    return torch.split, (call["self"], sizes, call["dim"]), {}


def _pad(call: AtenCall) -> Called:
    mode = call.arguments.get("mode", "constant")
    return F.pad, (call["self"], list(call["pad"]), mode, call["value"]), {}


def _attention(call: AtenCall) -> Called | None:
    if call["dropout_p"] != 0:
        return None
    values = (call["query"], call["key"], call["value"])
    mask = () if call["attn_mask"] is None else (call["attn_mask"],)
    keywords = {"is_causal": call["is_causal"], "scale": call["scale"], "enable_gqa": call["enable_gqa"]}
    return F.scaled_dot_product_attention, (*values, *mask), keywords


def _flatten(call: AtenCall) -> Called:
    return torch.flatten, (call["self"], call["start_dim"], call["end_dim"]), {}


def _reshape(call: AtenCall) -> Called | None:
    """`torch.flatten` where it does the same, else a reshape with one free length."""
    source, sizes = call["self"], list(call["size" if call.operator == "view" else "shape"])
    before = [call.shape(source, trial) for trial in range(len(call.shapes))]
    after = [call.shape(call.node, trial) for trial in range(len(call.shapes))]
    merged = len(before[0]) - len(after[0])
    for first in range(len(after[0]) - 1, -1, -1) if merged > 0 else ():
        last = first + merged
        if all(_flattened(a, first, last) == b for a, b in zip(before, after, strict=True)):
            return torch.flatten, (source, first, last), {}
    symbolic = [axis for axis, length in enumerate(sizes) if isinstance(length, fx.Node)]
    if symbolic and -1 in sizes and len({shape[sizes.index(-1)] for shape in after}) == 1:
        sizes[sizes.index(-1)] = after[0][sizes.index(-1)]  # it doesn't depend on the batch: a number
    if -1 not in sizes:
        axis = free_axis(before[0], after[0], sizes, symbolic)
        if axis is not None:
            sizes[axis] = -1
    return torch.reshape, (source, tuple(sizes)), {}


def free_axis(before: tuple[int, ...], after: tuple[int, ...], sizes: list[Value], symbolic: list[int]) -> int | None:
    """The axis whose length a reshape is left to find. A number alone that counts channels is it, so that it follows
    them; else the one of `symbolic` axes, which hold the batch (or batch × heads)."""
    numbers = [axis for axis in range(1, len(sizes)) if axis not in symbolic and sizes[axis] != 1]
    end = len(after)  # what ends both shapes alike are lengths in space
    while end and len(before) - len(after) + end > 0 and before[len(before) - len(after) + end - 1] == after[end - 1]:
        end -= 1
    channels = [axis for axis in numbers if axis < end]
    computed = any(isinstance(sizes[axis], fx.Node) and sizes[axis].target in _ARITHMETIC for axis in symbolic)
    if len(symbolic) == 1 and (computed or len(numbers) > 1 or not channels):
        return symbolic[0]
    return max(channels or numbers, default=None)


def _flattened(shape: tuple[int, ...], first: int, last: int) -> tuple[int, ...]:
    merged = 1
    for length in shape[first : last + 1]:
        merged *= length
    return (*shape[:first], merged, *shape[last + 1 :])


RULES: Mapping[str, Callable[[AtenCall], Called | None]] = {
    "add": _arithmetic(operator.add),
    "sub": _arithmetic(operator.sub),
    "mul": _arithmetic(operator.mul),
    "div": _arithmetic(operator.truediv),
    "neg": lambda call: (operator.neg, (call["self"],), {}),
    "matmul": _matmul("other"),
    "bmm": _matmul("mat2"),
    "mm": _matmul("mat2"),
    "flatten": _flatten,
    "view": _reshape,
    "reshape": _reshape,
    "permute": lambda call: (torch.permute, (call["self"], tuple(call["dims"])), {}),
    "transpose": lambda call: (torch.transpose, (call["self"], call["dim0"], call["dim1"]), {}),
    "squeeze": _squeeze,
    "unsqueeze": lambda call: (torch.unsqueeze, (call["self"], call["dim"]), {}),
    "cat": lambda call: (torch.cat, (list(call["tensors"]), call["dim"]), {}),
    "concat": lambda call: (torch.cat, (list(call["tensors"]), call["dim"]), {}),
    "stack": lambda call: (torch.stack, (list(call["tensors"]), call["dim"]), {}),
    "chunk": lambda call: (torch.chunk, (call["self"], call["chunks"], call["dim"]), {}),
    "split": _split,
    "split_with_sizes": _split,
    "unbind": lambda call: (torch.unbind, (call["self"], call["dim"]), {}),
    "mean": _reduction(torch.mean),
    "sum": _reduction(torch.sum),
    "pad": _pad,
    "constant_pad_nd": _pad,
    "scaled_dot_product_attention": _attention,
    "sym_size": lambda call: (size, (call["self"], call["dim"]), {}),
}
