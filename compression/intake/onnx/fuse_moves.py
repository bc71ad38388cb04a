"""Equal calls become one, moves that undo each other go, and a bias joins its layer."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx, nn

from compression.intake.onnx.edit import Editor, is_call, is_number, moved, operands, permutation
from compression.intake.onnx.reshape import reshape_to
from compression.intake.onnx.value import Value

_aten = torch.ops.aten
_AXES_IN_SPACE = {nn.Conv1d: 1, nn.Conv2d: 2, nn.ConvTranspose2d: 2}


def merge_equal(editor: Editor) -> None:
    """Two calls of one function with the same arguments become one call."""
    seen: dict[tuple[Any, ...], fx.Node] = {}

    def rule(node: fx.Node) -> Value | None:
        if "trials" not in node.meta or not isinstance(node.meta["trials"][0], torch.Tensor):
            return None
        key = (node.op, node.target, repr(node.args), repr(sorted(node.kwargs.items())))
        first = seen.setdefault(key, node)
        return None if first is node else editor.value(first)

    editor.rewrite(rule)


def fuse_moves(editor: Editor) -> None:
    """One permutation for two in a row, none where they cancel."""

    def rule(node: fx.Node) -> Value | None:
        order = permutation(editor, node)
        source: Any = node.args[0] if order is not None else None
        inner = permutation(editor, source) if source is not None else None
        if order is None or inner is None:
            return None
        whole = tuple(inner[axis] for axis in order)
        return moved(editor, editor.value(source.args[0]), whole)

    editor.rewrite(rule)


def fuse_reshapes(editor: Editor) -> None:
    """A reshape that undoes another one goes; so does one that only folds batch and heads for a product (… × a × b to
    n × a × b, exchange the last two, and back), which leaves the exchange."""

    def rule(node: fx.Node) -> Value | None:
        if not is_call(node, torch.reshape, torch.flatten):
            return None
        source: Any = node.args[0]
        if is_call(source, torch.reshape, torch.flatten):
            inner = editor.value(source.args[0])
            return inner if inner.shapes == editor.value(node).shapes else None
        folded: Any = source.args[0] if permutation(editor, source) == (0, 2, 1) else None
        if not is_call(folded, torch.reshape, torch.flatten):
            return None
        inner = editor.value(folded.args[0])
        rank = inner.rank
        lead = [shape[:-2] for shape in inner.shapes]
        same = rank > 3 and [shape[:-2] for shape in editor.value(node).shapes] == lead
        if not same or [shape[-2:] for shape in inner.shapes] != [shape[-2:] for shape in editor.value(folded).shapes]:
            return None
        exchanged = editor.trace.call(torch.transpose, inner, rank - 2, rank - 1)
        return exchanged if exchanged.shapes == editor.value(node).shapes else None

    editor.rewrite(rule)


def fuse_selects(editor: Editor) -> None:
    """Every index of an axis selected by itself (query, key and value): an unbind. A part of length one whose axis is
    squeezed away is a selected index."""
    editor.rewrite(lambda node: _select(editor, node))
    _unbind(editor)


def _select(editor: Editor, node: fx.Node) -> Value | None:
    if not is_call(node, torch.squeeze):
        return None
    part: Any = node.args[0]
    axes = node.args[1]
    if is_call(part, _aten.slice):
        source, axis, index = part.args[:3]
    elif is_call(part, operator.getitem) and is_call(part.args[0], torch.chunk):
        (source, _, axis), index = part.args[0].args, part.args[1]
    else:
        return None
    return editor.trace.call(_aten.select.int, editor.value(source), axis, index) if axes == (axis,) else None


def _unbind(editor: Editor) -> None:
    done: dict[fx.Node, tuple[Value, ...]] = {}

    def rule(node: fx.Node) -> Value | None:
        if not is_call(node, _aten.select):
            return None
        source: Any = node.args[0]
        axis = node.args[1]
        selects = [user for user in source.users if is_call(user, _aten.select)]
        count = editor.shape(source)[axis]  # type: ignore[index]
        places = {user.args[2] for user in selects if user.args[1] == axis}
        if source not in done:
            if count < 2 or count > 16 or places != set(range(count)) or len(source.users) != len(selects):
                return None
            done[source] = editor.trace.call_many(torch.unbind, editor.value(source), axis)
        return done[source][node.args[2]]  # type: ignore[index]

    editor.rewrite(rule)


def fuse_biases(editor: Editor) -> None:
    """A stored vector that is added behind a layer without a bias is its bias, and names it where its weight has a name
    that the exporter made up; also behind a reshape that parts the layer's outputs (heads and places)."""
    editor.rewrite(lambda node: _bias(editor, node) or _parted_bias(editor, node))


def _bias(editor: Editor, node: fx.Node) -> Value | None:
    for layer, other in operands(node, operator.add):
        leaf: Any = editor.own_leaf(layer, nn.Linear, *_AXES_IN_SPACE)
        if leaf is None or leaf.bias is not None or not isinstance(layer, fx.Node):
            continue
        width = leaf.weight.shape[0] if not isinstance(leaf, nn.ConvTranspose2d) else leaf.out_channels
        stored = torch.tensor([float(other)]) if width == 1 and is_number(other) else editor.stored(other)  # type: ignore[arg-type]
        behind = _AXES_IN_SPACE.get(type(leaf), 0)
        if stored is None or stored.dim() > len(editor.shape(layer)):
            continue
        lengths = [1] * (stored.dim() - 1 - behind) + [width] + [1] * behind
        if list(stored.shape) == lengths or stored.numel() == width == 1:
            return _with_bias(editor, layer, leaf, stored, other)
    return None


def _parted_bias(editor: Editor, node: fx.Node) -> Value | None:
    for parted, other in operands(node, operator.add):
        layer: Any = parted.args[0] if is_call(parted, torch.reshape) else None  # type: ignore[union-attr]
        leaf: Any = editor.own_leaf(layer, nn.Linear)
        stored = editor.stored(other)
        if leaf is None or leaf.bias is not None or stored is None or len(parted.users) > 1:  # type: ignore[union-attr]
            continue
        rows, parts = editor.shape(layer)[:-1], list(editor.shape(parted))  # type: ignore[arg-type]
        plain = list(stored.shape)
        if len(plain) > len(parts):
            continue  # the sum has more axes
        while len(plain) > len(parts) - len(rows) and plain[0] == 1:
            plain.pop(0)
        if tuple(parts[: len(rows)]) != rows or plain != parts[len(rows) :]:
            continue
        value = _with_bias(editor, layer, leaf, stored, other)
        return reshape_to(editor.trace, value, editor.value(parted).shapes)  # type: ignore[arg-type]
    return None


def _with_bias(editor: Editor, layer: fx.Node, leaf: Any, stored: torch.Tensor, other: Any) -> Value:
    leaf.bias = editor.trace.parameter(stored.reshape(-1))
    editor.trace.metas.pop(id(leaf), None)
    wanted = _named_by(editor, other, layer) if isinstance(other, fx.Node) else layer.target
    if wanted == layer.target:
        return editor.value(layer)
    return editor.trace.module(leaf, editor.value(layer.args[0]), str(wanted))  # type: ignore[arg-type]


def _named_by(editor: Editor, bias: Any, layer: fx.Node) -> str:
    """The path of the layer that the bias "PATH.bias" belongs to; the bias itself gives its place free."""
    path, _, name = str(bias.target).rpartition(".")
    if name != "bias" or path.rstrip("_") in {"", str(layer.target)} or len(bias.users) != 1:
        return str(layer.target)
    editor.trace.places.forget(str(bias.target))
    return path
