"""Attention written out as two products around a softmax becomes `scaled_dot_product_attention`."""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import fx, nn

from compression.intake.onnx.edit import Editor, is_call, is_number, operands, product
from compression.intake.onnx.value import Value

_aten = torch.ops.aten


HIDDEN = -1e30
"""Scores that are added to this are lost in its rounding, as a factor of zero would lose them."""


def fuse_attention(editor: Editor) -> None:
    """softmax(scale · q kᵀ + mask) v, with the scale on the scores, or on q and k (Vaswani et al. 2017)."""
    editor.rewrite(lambda node: _broadcast(editor, node))
    editor.rewrite(lambda node: _masked(editor, node))
    editor.rewrite(lambda node: _attention(editor, node))


def _broadcast(editor: Editor, node: fx.Node) -> Value | None:
    """A stored value that was expanded to meet another one in a sum or product is broadcast there."""
    if not is_call(node, operator.add, operator.mul) or not any(is_call(entry, _aten.expand) for entry in node.args):
        return None
    plain = [
        entry.args[0] if is_call(entry, _aten.expand) and editor.stored(entry.args[0]) is not None else entry  # type: ignore[union-attr]
        for entry in node.args
    ]
    if plain == list(node.args):
        return None
    values = [editor.value(entry) if isinstance(entry, fx.Node) else entry for entry in plain]
    found = editor.trace.call(node.target, *values)  # type: ignore[arg-type]
    return found if found.shapes == editor.value(node).shapes else None


def _masked(editor: Editor, node: fx.Node) -> Value | None:
    """scores · keep + hide, as TensorFlow's converters write a choice: scores + hide, where keep is 1 beside a hide of
    0, and 0 beside one of HIDDEN or less."""
    for product_, hide in operands(node, operator.add):
        for scores, keep in operands(product_, operator.mul):
            if isinstance(scores, fx.Node) and isinstance(hide, fx.Node) and _hides(editor, keep, hide):
                found = editor.trace.call(operator.add, editor.value(scores), editor.value(hide))
                return found if found.shapes == editor.value(node).shapes else None
    return None


def _hides(editor: Editor, keep: Any, hide: fx.Node) -> bool:
    kept, hidden = editor.stored(keep), editor.stored(hide)
    if kept is not None and hidden is not None:
        one, other = torch.broadcast_tensors(kept, hidden)  # type: ignore[no-untyped-call]
        return bool((((one == 1) & (other == 0)) | ((one == 0) & (other <= HIDDEN))).all())
    factor, factors = product(hide)
    if factor > HIDDEN or len(factors) != 1 or not is_call(keep, _aten._to_copy):  # noqa: SLF001
        return False
    chosen, other_way = keep.args[0], factors[0]
    if not is_call(other_way, _aten._to_copy):  # noqa: SLF001
        return False
    opposite: Any = other_way.args[0]
    is_flag = isinstance(chosen, fx.Node) and chosen.meta["trials"][0].dtype == torch.bool
    return is_flag and is_call(opposite, _aten.logical_not) and opposite.args[0] is chosen


def _attention(editor: Editor, node: fx.Node) -> Value | None:
    if not is_call(node, torch.matmul):
        return None
    weights, value = node.args
    scores = _under_softmax(editor, weights)
    if scores is None or not isinstance(value, fx.Node) or len(editor.shape(value)) < 3:
        return None
    for masked, mask in [(scores, None), *operands(scores, operator.add)]:
        found = _scores(masked)
        if found is None or not _is_mask(mask):
            continue
        scale, query, key = found
        rank = len(editor.shape(key))
        if rank != len(editor.shape(query)) or rank != len(editor.shape(value)):
            return None
        keys = editor.trace.call(torch.transpose, editor.value(key), rank - 2, rank - 1)
        usual = 1 / math.sqrt(editor.shape(query)[-1])
        keywords = {"is_causal": False, "scale": None if is_number(scale, usual, 1e-5) else scale, "enable_gqa": False}
        values = (editor.value(query), keys, editor.value(value))
        masks = (editor.value(mask),) if isinstance(mask, fx.Node) else ()
        result = editor.trace.call(F.scaled_dot_product_attention, *values, *masks, **keywords)
        return result if result.shapes == editor.value(node).shapes else None
    return None


def _is_mask(mask: Any) -> bool:
    return mask is None or isinstance(mask, fx.Node)


def _under_softmax(editor: Editor, node: Any) -> fx.Node | None:
    """What the softmax over the last axis is taken of; a guard against NaN around it is passed."""
    if is_call(node, _aten.where) and is_call(node.args[0], _aten.isnan) and node.args[0].args[0] is node.args[2]:
        node = node.args[2]
    leaf = editor.leaf(node, nn.Softmax)
    if not isinstance(leaf, nn.Softmax) or leaf.dim not in {-1, len(editor.shape(node)) - 1}:
        return None
    source: Any = node.args[0]
    return source if isinstance(source, fx.Node) else None


def _scores(node: Any) -> tuple[float, fx.Node, fx.Node] | None:
    """The scale, q and kᵀ of a node that is scale · q kᵀ."""
    outer, factors = product(node)
    if len(factors) != 1 or not is_call(factors[0], torch.matmul):
        return None
    one, left = _scaled(factors[0].args[0])
    other, right = _scaled(factors[0].args[1])
    return (outer * one * other, left, right) if left is not None and right is not None else None


def _scaled(node: Any) -> tuple[float, fx.Node | None]:
    """A number and x, where the node is their product."""
    factor, factors = product(node)
    if len(factors) == 1 and isinstance(factors[0], fx.Node):
        return factor, factors[0]
    return 1.0, node if isinstance(node, fx.Node) else None
