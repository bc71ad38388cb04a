"""Channel numbers through operators that move values about: reshapes, permutations, cuts and joins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import fx

from compression.pruning.channel_map import Labels
from compression.pruning.graph_names import operator_name
from compression.pruning.numbers import Ids

if TYPE_CHECKING:
    from compression.pruning.channels import Tracer, Value


def follow_reshape(t: Tracer, node: fx.Node) -> Value:
    """Axes are taken apart at every boundary of either shape, and joined again: rows first, as memory lies."""
    source: Any = node.args[0]
    before, after = t.shape(source), t.shape(node)
    ones = [axis for axis, size in enumerate(before) if size == 1]
    labels = t.keep_axis(node, t.labels(source), *ones)
    if not labels:
        return {}
    bounds = sorted({*_bounds(before), *_bounds(after)})
    if any(large % small for small, large in pairwise(bounds)):
        return t.stop(node)
    pieces: dict[int, Ids | None] = {}
    for axis, end in enumerate(_bounds(before)[:-1]):
        inner = _bounds(before)[axis + 1]
        _take_apart(t, labels.get(axis), [b for b in bounds if inner <= b <= end], pieces)
    result: dict[int, Ids] = {}
    for axis, end in enumerate(_bounds(after)[:-1]):
        inner = _bounds(after)[axis + 1]
        ids = _join(t, [b for b in bounds if inner <= b <= end], pieces)
        if ids is not None and after[axis] > 1 and _length_follows(t, node, axis, ids):
            result[axis] = ids
    return result


def _bounds(shape: tuple[int, ...]) -> list[int]:
    """Elements from each axis on to the last: (2, 3, 4) → [24, 12, 4, 1]."""
    return [math.prod(shape[axis:]) for axis in range(len(shape) + 1)]


def _take_apart(t: Tracer, ids: Ids | None, bounds: list[int], pieces: dict[int, Ids | None]) -> None:
    """Notes for each inner bound the numbers along the piece that begins there; `bounds` ascend."""
    rest = ids
    for inner, end in reversed(list(pairwise(bounds))):
        if rest is None or inner == bounds[0]:
            pieces[inner] = rest
        else:
            pieces[inner], rest = t.numbers.split(rest, end // inner, inner // bounds[0])


def _join(t: Tracer, bounds: list[int], pieces: dict[int, Ids | None]) -> Ids | None:
    joined: Ids | None = None
    outer = 1
    for inner, end in reversed(list(pairwise(bounds))):
        joined = t.numbers.merge(joined, pieces.get(inner), outer, end // inner)
        outer *= end // inner
    return joined


def _length_follows(t: Tracer, node: fx.Node, axis: int, ids: Ids) -> bool:
    """Whether the length of the result's axis can follow what is left; a number written in the node is noted."""
    name, argument, offset = operator_name(node), 1, 0
    if name == "unflatten":
        argument, offset = 2, int(node.args[1]) % len(t.shape(node.args[0]))  # type: ignore[arg-type]
    elif name not in {"reshape", "expand"}:
        return True
    sizes: Any = node.args[argument]
    place = axis - offset
    if not 0 <= place < len(sizes) or sizes[place] == -1:
        return True
    if not isinstance(sizes[place], int):
        t.numbers.freeze(ids, f"the length in {node.name} is computed")
        return False
    t.map.literals[node.name, (argument, place)] = ids
    return True


def follow_permute(t: Tracer, node: fx.Node) -> Value:
    labels, given = t.labels(node.args[0]), node.args[1]
    rank = len(t.shape(node))
    if not isinstance(given, Sequence) or not all(isinstance(entry, int) for entry in given):
        return t.stop(node)
    order = [int(entry) % rank for entry in given]  # type: ignore[arg-type]
    return {order.index(axis): ids for axis, ids in labels.items()}


def follow_transpose(t: Tracer, node: fx.Node) -> Value:
    rank = len(t.shape(node))
    one, other = argument(node, 1, "dim0", 0) % rank, argument(node, 2, "dim1", 1) % rank
    swapped = {one: other, other: one}
    return {swapped.get(axis, axis): ids for axis, ids in t.labels(node.args[0]).items()}


def follow_expand(t: Tracer, node: fx.Node) -> Value:
    """Along an axis that is repeated all values agree: it may have any length, where that is a number in the node."""
    source: Any = node.args[0]
    before, after = t.shape(source), t.shape(node)
    labels = t.keep_axis(node, t.labels(source), *(axis for axis, size in enumerate(before) if size == 1))
    result: dict[int, Ids] = {}
    for axis, size in enumerate(after):
        place = axis - len(after) + len(before)
        ids = labels.get(place)
        repeated = place < 0 or before[place] != size
        if repeated and isinstance(node.args[1][axis], int) and size > 1:  # type: ignore[index]
            ids = t.numbers.new(size)
        if ids is not None and _length_follows(t, node, axis, ids):
            result[axis] = ids
    return result


def follow_cat(t: Tracer, node: fx.Node) -> Value:
    sources: Any = node.args[0]
    axis = argument(node, 1, "dim", 0) % len(t.shape(node))
    along = [t.labels(source).get(axis) for source in sources]
    others = _united(t, node, sources, skip=axis)
    if all(ids is None for ids in along):
        return others
    whole = [
        ids if ids is not None else t.held(t.shape(source)[axis], f"it is joined in {node.name} and isn't followed")
        for source, ids in zip(sources, along, strict=True)
    ]
    return {**others, axis: np.concatenate(whole)}


def follow_stack(t: Tracer, node: fx.Node) -> Value:
    sources: Any = node.args[0]
    axis = argument(node, 1, "dim", 0) % len(t.shape(node))
    united = _united(t, node, sources, skip=None)
    return {other + (other >= axis): ids for other, ids in united.items()}


def _united(t: Tracer, node: fx.Node, sources: list[fx.Node], skip: int | None) -> dict[int, Ids]:
    """The labels that all sources share, axis by axis; where one has none the others' must stay."""
    result: dict[int, Ids] = {}
    for axis in range(len(t.shape(sources[0]))):
        known = [t.labels(source)[axis] for source in sources if axis in t.labels(source)]
        if axis == skip or not known:
            continue
        for ids in known:
            if len(known) < len(sources):
                t.numbers.freeze(ids, f"it is joined in {node.name} with values that must stay")
            else:
                t.numbers.unite(known[0], ids)
        if len(known) == len(sources):
            result[axis] = known[0]
    return result


def follow_split(t: Tracer, node: fx.Node) -> Value:
    source: Any = node.args[0]
    labels, rank = t.labels(source), len(t.shape(source))
    axis = argument(node, 2, "dim", 0) % rank
    parts: Any = t.sizes[node]
    others = {other: ids for other, ids in labels.items() if other != axis}
    if axis not in labels:
        return [others for _ in parts]
    ends = np.cumsum([part.shape[axis] for part in parts])[:-1]
    pieces = np.split(labels[axis], ends)
    t.map.splits[node.name] = pieces
    return [{**others, axis: piece} for piece in pieces]


def follow_unbind(t: Tracer, node: fx.Node) -> Value:
    source: Any = node.args[0]
    parts: Any = t.sizes[node]
    axis = argument(node, 1, "dim", 0) % len(t.shape(source))
    labels = _without(t, node, t.labels(source), axis)
    return [labels for _ in parts]


def follow_select(t: Tracer, node: fx.Node) -> Value:
    source: Any = node.args[0]
    return _without(t, node, t.labels(source), argument(node, 1, "dim", 0) % len(t.shape(source)))


def _without(t: Tracer, node: fx.Node, labels: Labels, axis: int) -> Labels:
    kept = t.keep_axis(node, labels, axis)
    return {other - (other > axis): ids for other, ids in kept.items()}


def follow_getitem(t: Tracer, node: fx.Node) -> Value:
    """Of several tensors, or of one: places and ranges along axes."""
    source, index = node.args
    value = t.values[source] if isinstance(source, fx.Node) else {}
    if isinstance(value, list):
        return value[index] if isinstance(index, int) else t.stop(node)
    entries = list(index) if isinstance(index, tuple) else [index]
    if Ellipsis in entries:
        place = entries.index(Ellipsis)
        entries[place : place + 1] = [slice(None)] * (len(t.shape(source)) - len(entries) + 1)  # type: ignore[arg-type]
    labels = value
    axis = 0
    for entry in entries:
        if isinstance(entry, int):
            labels = _without(t, node, labels, axis)
        elif isinstance(entry, slice):
            labels = labels if entry == slice(None) else t.keep_axis(node, labels, axis)
            axis += 1
        else:
            return t.stop(node)
    return labels


def follow_index(t: Tracer, node: fx.Node) -> Value:
    """Rows of a table, by one tensor of places along the first axis; the other axes go along."""
    source, places = node.args[:2]
    tensors = [entry for entry in places if entry is not None] if isinstance(places, list | tuple) else []
    if not isinstance(source, fx.Node) or len(tensors) != 1 or tensors[0] is not places[0]:  # type: ignore[index]
        return t.stop(node)
    labels = t.keep_axis(node, t.labels(source), 0)
    t.freeze(t.labels(tensors[0]), f"{node.name} looks places up by it")
    more = len(t.shape(node)) - len(t.shape(source))
    return {axis + more: ids for axis, ids in labels.items()}


def follow_along(t: Tracer, node: fx.Node) -> Value:
    """`slice`, `index_select`, `flip` and `roll`: the axes that they work along must stay."""
    source: Any = node.args[0]
    rank = len(t.shape(source))
    if operator_name(node) == "slice" and t.shape(source) == t.shape(node):
        return t.labels(source)
    given: Any = node.args[2 if operator_name(node) == "roll" else 1 :][:1]
    axes = [given[0]] if given and isinstance(given[0], int) else list(given[0]) if given else []
    if operator_name(node) != "slice" and not axes:
        return t.stop(node)  # a roll of all axes as one
    axes = axes or [0]
    return t.keep_axis(node, t.labels(source), *(axis % rank for axis in axes))


def follow_pad(t: Tracer, node: fx.Node) -> Value:
    widths: Any = node.args[1]
    rank = len(t.shape(node))
    return t.keep_axis(node, t.labels(node.args[0]), *range(rank - len(widths) // 2, rank))


def follow_reduction(t: Tracer, node: fx.Node) -> Value:
    source: Any = node.args[0]
    rank = len(t.shape(source))
    given: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    axes = [given] if isinstance(given, int) else given or list(range(rank))
    reduced = {int(axis) % rank for axis in axes}
    labels = t.keep_axis(node, t.labels(source), *reduced)
    if len(t.shape(node)) == rank:
        return labels
    return {axis - sum(other < axis for other in reduced): ids for axis, ids in labels.items()}


def follow_softmax(t: Tracer, node: fx.Node) -> Value:
    axis = argument(node, 1, "dim", -1)
    return t.keep_axis(node, t.labels(node.args[0]), axis % len(t.shape(node)))


def argument(node: fx.Node, place: int, name: str, default: int) -> int:
    value: Any = node.args[place] if len(node.args) > place else node.kwargs.get(name, default)
    return int(value)
