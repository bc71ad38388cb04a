"""Views in one form, so that the layers between them are found: permutations first, then axes of length one.

TensorFlow's converters write a layer as the operator that it has: a convolution over one axis as one over two, a dense
layer over a sequence as a product of flattened rows, an einsum as a product of matrices with batch and heads folded.
"""

from __future__ import annotations

import operator

import torch
from torch import fx, nn

from compression.intake.onnx.edit import Editor, is_call, moved, permutation
from compression.intake.onnx.reshape import reshape_to
from compression.intake.onnx.value import Value

RESHAPES = (torch.reshape, torch.flatten, torch.squeeze, torch.unsqueeze)
Shapes = tuple[tuple[int, ...], ...]


def fuse_views(editor: Editor) -> None:
    """Permutations go in front of axes that are added; moves of nothing but axes of length one are reshapes, and join
    those before them."""
    editor.rewrite(lambda node: _permuted_first(editor, node))
    editor.rewrite(lambda node: _line(editor, node))
    editor.rewrite(lambda node: _flat_layer(editor, node))
    editor.rewrite(lambda node: _joined(editor, node))


def fuse_folded_products(editor: Editor) -> None:
    """A product of matrices with batch and heads folded into one axis, and unfolded behind it, is one with both."""
    editor.rewrite(lambda node: _unfolded_product(editor, node))


def _source(node: fx.Node) -> fx.Node | None:
    source = node.args[0] if node.args else None
    return source if isinstance(source, fx.Node) else None


def _permuted_first(editor: Editor, node: fx.Node) -> Value | None:
    order, source = permutation(editor, node), _source(node)
    if order is None or source is None:
        return None
    if _thin(editor, node, source):
        return _reshaped(editor, editor.value(source), node)
    if not is_call(source, torch.unsqueeze):
        return None
    inner, added = editor.value(_given(source)), int(source.args[1]) % len(order)  # type: ignore[arg-type]
    rest = tuple(axis - (axis > added) for axis in order if axis != added)
    return editor.trace.call(torch.unsqueeze, moved(editor, inner, rest), order.index(added))


def _given(node: fx.Node) -> fx.Node:
    source = _source(node)
    assert source is not None  # noqa: S101 - what it is called on is a value
    return source


def _reshaped(editor: Editor, value: Value, like: fx.Node) -> Value | None:
    wanted = editor.value(like).shapes
    found = reshape_to(editor.trace, value, wanted)
    return found if found.shapes == wanted else None


def _long(shapes: Shapes) -> list[tuple[int, ...]]:
    """The lengths of the axes that aren't of length one at every batch, each at every batch."""
    return [lengths for lengths in zip(*shapes, strict=True) if set(lengths) != {1}]


def _thin(editor: Editor, node: fx.Node, source: fx.Node) -> bool:
    """Whether the node only adds, drops or moves axes of length one."""
    before, after = editor.value(source).shapes, editor.value(node).shapes
    if _long(before) != _long(after):
        return False
    order = permutation(editor, node)
    if order is None:
        return True
    longs = [axis for axis in order if any(shape[axis] != 1 for shape in before)]
    return longs == sorted(longs)


def _joined(editor: Editor, node: fx.Node) -> Value | None:
    """Two reshapes in a row are one, where either does nothing but add or drop axes of length one."""
    source = _source(node)
    if not is_call(node, *RESHAPES) or source is None or not is_call(source, *RESHAPES):
        return None
    inner = _given(source)
    if is_call(source, torch.squeeze) and is_call(inner, torch.ops.aten.slice, operator.getitem):
        return None  # a selected part: fuse_selects
    if not _thin(editor, node, source) and not _thin(editor, source, inner):
        return None
    return _reshaped(editor, editor.value(inner), node)


def _line(editor: Editor, node: fx.Node) -> Value | None:
    """A convolution over height 1 between an added and a dropped axis runs over one axis."""
    source = _source(node)
    if not is_call(node, torch.squeeze) or node.args[1] != (2,):
        return None
    leaf = editor.own_leaf(source, nn.Conv2d)
    added = _source(source) if source is not None else None
    if not isinstance(leaf, nn.Conv2d) or source is None or not is_call(added, torch.unsqueeze) or added is None:
        return None
    height = (leaf.kernel_size[0], leaf.stride[0], leaf.padding[0])
    if added.args[1] != 2 or len(editor.shape(added)) != 4 or height != (1, 1, 0):
        return None
    made = nn.Conv1d(
        leaf.in_channels,
        leaf.out_channels,
        leaf.kernel_size[1],
        leaf.stride[1],
        leaf.padding[1],
        leaf.dilation[1],
        leaf.groups,
        leaf.bias is not None,
        device="meta",
    )
    made.weight = editor.trace.parameter(leaf.weight.detach().squeeze(2))
    made.bias = leaf.bias
    path = str(source.target)
    editor.trace.places.forget(path)
    editor.trace.metas.pop(id(leaf), None)
    return editor.trace.module(made, editor.value(_given(added)), path)


def _flat_layer(editor: Editor, node: fx.Node) -> Value | None:
    """A linear layer of rows that were flattened for it, and take their places again behind it."""
    layer = _source(node)
    leaf = editor.own_leaf(layer, nn.Linear)
    flat = _source(layer) if layer is not None else None
    if not is_call(node, *RESHAPES) or leaf is None or layer is None or not is_call(flat, *RESHAPES) or flat is None:
        return None
    inner, after = editor.value(_given(flat)), editor.value(node).shapes
    rows = [shape[:-1] for shape in inner.shapes]
    same = all(shape[: len(row)] == row for shape, row in zip(after, rows, strict=True))
    if inner.rank < 2 or inner.shape[-1] != leaf.in_features or not same:
        return None
    return _reshaped(editor, editor.trace.again(str(layer.target), inner), node)


def _unfolded_product(editor: Editor, node: fx.Node) -> Value | None:
    product = _source(node)
    if not is_call(node, *RESHAPES) or product is None or not is_call(product, torch.matmul) or len(product.users) > 1:
        return None
    after = editor.value(node)
    factors = [entry for entry in product.args if isinstance(entry, fx.Node)]
    if after.rank < 4 or len(factors) != 2 or any(len(editor.shape(factor)) != 3 for factor in factors):
        return None
    lead = [shape[:-2] for shape in after.shapes]
    parts = [_unfolded(editor, factor, lead) for factor in factors]
    if parts[0] is None or parts[1] is None:
        return None
    found = editor.trace.call(torch.matmul, parts[0], parts[1])
    return found if found.shapes == after.shapes else None


def _unfolded(editor: Editor, factor: fx.Node, lead: list[tuple[int, ...]]) -> Value | None:
    """What the three axes of a factor were before its first ones were folded; an exchange of the last two stays."""
    exchanged = permutation(editor, factor) == (0, 2, 1)
    folded = _given(factor) if exchanged else factor
    if not is_call(folded, *RESHAPES):
        return None
    inner = editor.value(_given(folded))
    if inner.rank < 4 or [shape[:-2] for shape in inner.shapes] != lead:
        return None
    if [shape[-2:] for shape in inner.shapes] != [shape[-2:] for shape in editor.value(folded).shapes]:
        return None
    return editor.trace.call(torch.transpose, inner, inner.rank - 2, inner.rank - 1) if exchanged else inner
