"""Normalisations that were written out in pieces, and the scales and shifts behind them."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn

from compression.intake.onnx.edit import Editor, is_call, is_number, operands, squared
from compression.intake.onnx.value import Value

_aten = torch.ops.aten


def fuse_norms(editor: Editor) -> None:
    """LayerNorm (Ba et al. 2016) as (x − mean) / √(variance + ε) or as x·s + (shift − mean·s); GroupNorm (Wu and He
    2018) as the instance norm of a reshaped value; then the scale and shift that follow."""
    editor.rewrite(lambda node: _layer_norm(editor, node) or _expanded_layer_norm(editor, node))
    editor.rewrite(lambda node: _group_norm(editor, node))
    editor.rewrite(lambda node: _affine(editor, node))


def _mean(node: Any) -> tuple[fx.Node, list[int]] | None:
    """x and the axes, where the node is x's mean with its axes kept."""
    if not is_call(node, torch.mean) or not node.kwargs.get("keepdim"):
        return None
    return node.args[0], list(node.args[1])


def _deviation(node: Any) -> tuple[fx.Node, fx.Node, float, list[int]] | None:
    """x, its mean, ε and the axes, where the node is the variance of x plus ε."""
    for variance, epsilon in operands(node, operator.add):
        found = _mean(variance)
        centred = squared(found[0]) if found is not None and is_number(epsilon) else None
        if found is not None and is_call(centred, operator.sub):
            x, mean = centred.args  # type: ignore[union-attr]
            if isinstance(x, fx.Node) and isinstance(mean, fx.Node) and _mean(mean) == (x, found[1]):
                return x, mean, float(epsilon), found[1]  # type: ignore[arg-type]
    return None


def _inverse_root(node: Any) -> fx.Node | None:
    """v, where the node is 1/√v."""
    if is_call(node, _aten.rsqrt):
        return node.args[0]  # type: ignore[no-any-return]
    if is_call(node, _aten.reciprocal) and is_call(node.args[0], _aten.sqrt):
        return node.args[0].args[0]  # type: ignore[no-any-return]
    if is_call(node, operator.truediv) and is_number(node.args[0], 1.0) and is_call(node.args[1], _aten.sqrt):
        return node.args[1].args[0]  # type: ignore[no-any-return]
    if is_call(node, _aten.pow) and is_number(node.args[1], -0.5):
        return node.args[0]  # type: ignore[no-any-return]
    return None


def _made(editor: Editor, x: fx.Node, epsilon: float, axes: list[int]) -> Value | None:
    rank = len(editor.shape(x))
    last = sorted(axis % rank for axis in axes)
    if last != list(range(rank - len(last), rank)) or 0 in last:
        return None
    leaf = nn.LayerNorm(list(editor.shape(x)[last[0] :]), epsilon, elementwise_affine=False)
    return editor.trace.module(leaf, editor.value(x), "layernorm")


def _layer_norm(editor: Editor, node: fx.Node) -> Value | None:
    found, centred = None, None
    if is_call(node, operator.truediv) and is_call(node.args[1], _aten.sqrt):
        centred, found = node.args[0], _deviation(node.args[1].args[0])  # type: ignore[union-attr]
    else:
        for one, other in operands(node, operator.mul):
            root = _inverse_root(other)
            if root is not None and is_call(one, operator.sub):
                centred, found = one, _deviation(root)
    if found is None or not is_call(centred, operator.sub) or centred.args != (found[0], found[1]):  # type: ignore[union-attr]
        return None
    return _made(editor, found[0], found[2], found[3])


def _expanded_layer_norm(editor: Editor, node: fx.Node) -> Value | None:
    """x·s + (shift − mean·s) with s = scale/√(variance + ε), as Keras has it: the norm, times scale, plus shift."""
    for one, rest in operands(node, operator.add):
        for shift, moved in _shifted(rest):
            value = _expanded(editor, one, shift, moved)
            if value is not None:
                return value
    return None


def _shifted(rest: Any) -> list[tuple[Any, Any]]:
    """shift and mean·s, where the node is shift − mean·s; Keras 3 adds (−mean)·s."""
    if is_call(rest, operator.sub):
        return [tuple(rest.args)]
    return [
        (shift, (mean.args[0], factor))  # type: ignore[union-attr]
        for negative, shift in operands(rest, operator.add)
        for mean, factor in operands(negative, operator.mul)
        if is_call(mean, operator.neg)
    ]


def _expanded(editor: Editor, one: Any, shift: Any, moved: Any) -> Value | None:
    """`moved` is mean·s as a node, or as its two factors."""
    products = [moved] if isinstance(moved, tuple) else operands(moved, operator.mul)
    for x, factor in operands(one, operator.mul):
        parts = [(a, b) for a, b in operands(factor, operator.mul) if _inverse_root(b) is not None]
        scale, root = parts[0] if parts else (1.0, factor)
        found = _deviation(_inverse_root(root))
        if found is None or found[0] is not x or (found[1], factor) not in products:
            continue
        value = _made(editor, found[0], found[2], found[3])
        if value is None:
            continue
        if isinstance(scale, fx.Node):
            value = editor.trace.call(operator.mul, value, editor.value(scale))
        return editor.trace.call(operator.add, value, editor.value(shift) if isinstance(shift, fx.Node) else shift)
    return None


def _group_norm(editor: Editor, node: fx.Node) -> Value | None:
    """A reshape back behind an instance norm of N × groups × rest."""
    if not is_call(node, torch.reshape):
        return None
    norm: Any = node.args[0]
    leaf = editor.own_leaf(norm, nn.GroupNorm)
    if not isinstance(leaf, nn.GroupNorm) or leaf.num_groups != leaf.num_channels:
        return None
    inner = norm.args[0]
    if not is_call(inner, torch.reshape, torch.flatten) or bool((leaf.weight != 1).any()) or bool(leaf.bias.any()):
        return None
    x = inner.args[0]
    shape = editor.shape(x)
    if shape != editor.shape(node) or shape[1] % leaf.num_groups or editor.shape(inner)[1] != leaf.num_groups:
        return None
    made = nn.GroupNorm(leaf.num_groups, shape[1], leaf.eps)
    return editor.trace.module(made, editor.value(x), "groupnorm")


def _affine(editor: Editor, node: fx.Node) -> Value | None:
    """A stored scale or shift behind a norm becomes the norm's own."""
    for function in (operator.mul, operator.add):
        for norm, other in operands(node, function):
            stored = editor.stored(other)
            leaf = editor.own_leaf(norm, nn.LayerNorm, nn.GroupNorm)
            if stored is None or leaf is None or not isinstance(norm, fx.Node):
                continue
            plain = _per_channel(leaf, stored, len(editor.shape(norm)))
            if plain is not None:
                owner = str(getattr(other, "target", ""))
                return _with_affine(editor, norm, leaf, plain, owner, scale=function is operator.mul)
    return None


def _per_channel(leaf: nn.Module, stored: Tensor, rank: int) -> Tensor | None:
    """A stored tensor as the norm's own weight would be shaped, None where it broadcasts otherwise."""
    if isinstance(leaf, nn.LayerNorm):
        shape = tuple(leaf.normalized_shape)
        leading = stored.shape[: stored.dim() - len(shape)]
        fits = tuple(stored.shape[len(leading) :]) == shape and all(length == 1 for length in leading)
        return stored.reshape(shape) if fits else None
    if isinstance(leaf, nn.GroupNorm) and stored.numel() == leaf.num_channels and stored.dim() >= rank - 1:
        return stored.reshape(-1) if stored.shape[1 - rank] == leaf.num_channels else None
    return None


def _with_affine(editor: Editor, norm: fx.Node, leaf: Any, plain: Tensor, owner: str, *, scale: bool) -> Value | None:
    parameter = editor.trace.parameter
    if isinstance(leaf, nn.GroupNorm):
        weight, bias = leaf.weight.detach(), leaf.bias.detach()
        made: nn.Module = nn.GroupNorm(leaf.num_groups, leaf.num_channels, leaf.eps)
        made.weight, made.bias = (nn.Parameter(weight * plain), nn.Parameter(bias * plain)) if scale else (
            nn.Parameter(weight.clone()), nn.Parameter(bias + plain))  # fmt: skip
    elif scale and leaf.weight is None:
        made = nn.LayerNorm(leaf.normalized_shape, leaf.eps, bias=False, device="meta")
        made.weight = parameter(plain)
    elif not scale and leaf.bias is None:
        made = nn.LayerNorm(leaf.normalized_shape, leaf.eps, device="meta")
        made.weight = leaf.weight if leaf.weight is not None else nn.Parameter(torch.ones(leaf.normalized_shape))
        made.bias = parameter(plain)
    else:
        return None
    source: Any = norm.args[0]
    path = owner.rpartition(".")[0] or str(norm.target)
    return editor.trace.module(made, editor.value(source), path)
