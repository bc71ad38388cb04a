"""Activations that were written out in pieces become one module again."""

from __future__ import annotations

import math
import operator

import torch
from torch import fx, nn

from compression.intake.onnx.edit import Editor, is_call, is_number, operands, plus, product, squared
from compression.intake.onnx.value import Value

_aten = torch.ops.aten


def fuse_activations(editor: Editor) -> None:
    """SiLU, Mish, HardSigmoid, HardSwish, and GELU in both forms (Hendrycks and Gimpel 2016)."""
    editor.rewrite(lambda node: _fused(editor, node))


def _fused(editor: Editor, node: fx.Node) -> Value | None:
    if not is_call(node, operator.mul, operator.truediv):
        return None
    factor, factors = product(node)
    if len(factors) == 1 and is_number(factor, 1 / 6):
        source = plus(_six(editor, factors[0]), 3.0)
        return _module(editor, nn.Hardsigmoid(), source)
    if len(factors) != 2:
        return None
    for source, other in (factors, factors[::-1]):
        leaf = _times(editor, source, other, factor)
        if leaf is not None:
            return _module(editor, leaf, source)
    return None


def _module(editor: Editor, leaf: nn.Module, source: fx.Node | None) -> Value | None:
    return None if source is None else editor.trace.module(leaf, editor.value(source), type(leaf).__name__.lower())


def _six(editor: Editor, node: fx.Node) -> fx.Node | None:
    """x, where the node is x clipped to 0 … 6."""
    leaf = editor.leaf(node, nn.ReLU6, nn.Hardtanh)
    bounds = (leaf.min_val, leaf.max_val) if isinstance(leaf, nn.Hardtanh) else None
    return node.args[0] if bounds == (0.0, 6.0) else None  # type: ignore[return-value]


def _times(editor: Editor, x: fx.Node, other: fx.Node, factor: float) -> nn.Module | None:
    """The activation that is `factor` · x · `other`."""
    if is_number(factor, 1.0):
        gate = editor.leaf(other, nn.Sigmoid, nn.Hardsigmoid, nn.Tanh)
        if isinstance(gate, nn.Sigmoid | nn.Hardsigmoid) and other.args[0] is x:
            return nn.SiLU() if isinstance(gate, nn.Sigmoid) else nn.Hardswish()
        inner = other.args[0] if isinstance(gate, nn.Tanh) else None
        if editor.leaf(inner, nn.Softplus) is not None and inner.args[0] is x:  # type: ignore[union-attr]
            return nn.Mish()
    if is_number(factor, 1 / 6) and plus(_six(editor, other), 3.0) is x:
        return nn.Hardswish()
    if is_number(factor, 0.5):
        inner = plus(other, 1.0)
        if is_call(inner, _aten.erf):
            scale, roots = product(inner.args[0])  # type: ignore[union-attr]
            return nn.GELU() if roots == [x] and is_number(scale, math.sqrt(0.5)) else None
        if editor.leaf(inner, nn.Tanh) is not None and _cubic(inner.args[0], x):  # type: ignore[union-attr]
            return nn.GELU("tanh")
    return None


def _cubic(node: object, x: fx.Node) -> bool:
    """Whether a node is √(2/π) · (x + 0.044715 x³), or that with x taken out."""
    scale, factors = product(node)
    if not is_number(scale, math.sqrt(2 / math.pi)):
        return False
    if len(factors) == 1:
        return any(one is x and _power(other, x, 3) for one, other in operands(factors[0], operator.add))
    if len(factors) == 2 and x in factors:
        rest = factors[1 - factors.index(x)]
        return any(is_number(number, 1.0) and _power(other, x, 2) for number, other in operands(rest, operator.add))
    return False


def _power(node: object, x: fx.Node, exponent: int) -> bool:
    """Whether a node is 0.044715 · x^exponent."""
    scale, factors = product(node)
    if not is_number(scale, 0.044715, 1e-3):
        return False
    count = 0
    for entry in factors:
        if entry is x:
            count += 1
        elif squared(entry) is x:
            count += 2
        elif is_call(entry, _aten.pow) and entry.args[0] is x and is_number(entry.args[1]):
            count += int(entry.args[1])  # type: ignore[arg-type]
        else:
            return False
    return count == exponent
