"""Operators that move values about: shapes, slices, pads, resizing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch

from compression.intake.onnx.call import Call, Rule, tensor_of
from compression.intake.onnx.reshape import reshape_to
from compression.intake.onnx.rules_products import embedding
from compression.intake.onnx.trace import Trace
from compression.intake.onnx.value import CannotLift, Length, Value

_aten = torch.ops.aten
_MOST_ROWS = 4096
"""Rows that one gather by stored indices may take, one by one."""


def _shape(call: Call) -> Value:
    value = call.value()
    start, stop = call.get("start", 0), call.get("end", value.rank)
    return call.trace.lengths([value.length(axis) for axis in range(value.rank)][start:stop])


def _size(call: Call) -> Value:
    counts = [torch.tensor(trial.numel()) for trial in call.value().trials]
    return call.trace.known(counts)


def _reshape(call: Call) -> Value:
    value, wanted = call.value(), call.lengths(1)
    if wanted is None:
        raise CannotLift("it has no shape")
    copied = not call.get("allowzero", 0)
    targets = []
    for trial, shape in enumerate(value.shapes):
        sizes = [length.at[trial] for length in wanted]
        if copied:
            if any(size == 0 and axis >= len(shape) for axis, size in enumerate(sizes)):
                raise CannotLift("its shape does not fit its input")
            sizes = [shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
        targets.append(sizes)
    return reshape_to(call.trace, value, targets)


def _flatten(call: Call) -> Value:
    value, axis = call.value(), call.get("axis", 1)
    axis = axis % value.rank if axis < 0 else axis
    if axis == 1:
        return call.trace.call(torch.flatten, value, 1) if value.rank != 2 else value
    targets = [[math.prod(shape[:axis]), math.prod(shape[axis:])] for shape in value.shapes]
    return reshape_to(call.trace, value, targets)


def _squeeze(call: Call) -> Value:
    value = call.value()
    axes = call.numbers("axes", 1)
    if axes is None:
        axes = [axis for axis in range(value.rank) if all(shape[axis] == 1 for shape in value.shapes)]
    axes = sorted({axis % max(value.rank, 1) for axis in axes})
    if any(shape[axis] != 1 for shape in value.shapes for axis in axes):
        raise CannotLift("an axis that is not of length one" + (" (the batch)" if call.trace.static else ""))
    return call.trace.call(torch.squeeze, value, tuple(axes)) if axes else value


def _unsqueeze(call: Call) -> Value:
    value = call.value()
    axes = call.numbers("axes", 1) or []
    rank = value.rank + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        value = call.trace.call(torch.unsqueeze, value, axis)
    return value


def _transpose(call: Call) -> Value:
    value = call.value()
    order = tuple(call.get("perm", range(value.rank - 1, -1, -1)))
    if order == tuple(range(value.rank)):
        return value
    moved = [axis for axis, source in enumerate(order) if axis != source]
    if len(moved) == 2:
        return call.trace.call(torch.transpose, value, *moved)
    return call.trace.call(torch.permute, value, order)


def _concat(call: Call) -> Value:
    values = [value for value in call.inputs if value is not None]
    if not values:
        raise CannotLift("it has no inputs")
    axis = call.axis(0, values[0].rank)
    if len(values) == 1:
        return values[0]
    if any(value.node is not None for value in values):
        values = [_with_batch(call.trace, value, values, axis) for value in values]
    return call.trace.call(torch.cat, values, axis)


def _with_batch(trace: Trace, value: Value, others: Sequence[Value], axis: int) -> Value:
    """In a file with a static batch, a stored row (a class token) joins rows that follow the batch: it is expanded."""
    if not trace.static or len(set(value.shapes)) > 1:
        return value
    for other in others:
        for place in range(value.rank):
            if place != axis and other.rank == value.rank and value.shape[place] == trace.batches[0] == 1:
                lengths = other.length(place)
                if lengths.at == trace.batches:
                    sizes = [lengths if index == place else -1 for index in range(value.rank)]
                    return trace.call(_aten.expand.default, value, sizes)
    return value


def _split(call: Call) -> Sequence[Value]:
    value, axis = call.value(), call.axis(0)
    sizes = call.numbers("split", 1)
    count = call.get("num_outputs", len(call.node.output))
    length = value.length(axis)
    if len(set(length.at)) > 1:
        raise CannotLift("the batch is split")
    if sizes is None:
        part = -(-length.at[0] // count)
        sizes = [min(part, length.at[0] - index * part) for index in range(count)]
    if len(sizes) == 1:
        return (value,)
    if min(sizes) < 0 or sum(sizes) != length.at[0] or len(sizes) != len(call.node.output):
        raise CannotLift("its parts don't fit its input")
    if len(set(sizes)) == 1 and sizes[0] > 0:
        return call.trace.call_many(torch.chunk, value, len(sizes), axis)
    return call.trace.call_many(torch.split, value, sizes, axis)


def _slice(call: Call) -> Value:
    value = call.value()
    starts, stops = _bounds(call, "starts", 1), _bounds(call, "ends", 2)
    axes = call.numbers("axes", 3) or list(range(len(starts)))
    steps = call.numbers("steps", 4) or [1] * len(starts)
    if len({len(starts), len(stops), len(axes), len(steps)}) != 1 or 0 in steps:
        raise CannotLift("its bounds don't fit")
    for start, stop, axis, step in zip(starts, stops, axes, steps, strict=True):
        value = _slice_axis(call.trace, value, axis % max(value.rank, 1), start, stop, step)
    return value


def _bounds(call: Call, name: str, index: int) -> list[Length]:
    trials = len(call.trace.batches)
    if name in call.attributes:
        return [Length((int(entry),) * trials) for entry in call.attributes[name]]
    found = call.lengths(index)
    if found is None:
        raise CannotLift(f"it has no {name}")
    return found


def _slice_axis(trace: Trace, value: Value, axis: int, start: Length, stop: Length, step: int) -> Value:
    length = value.length(axis)
    ranges = [
        slice(one, other if step > 0 or other >= -size else None, step).indices(size)
        for one, other, size in zip(start.at, stop.at, length.at, strict=True)
    ]
    if step < 0:
        if any(len(range(*bounds)) != size for bounds, size in zip(ranges, length.at, strict=True)) or step != -1:
            raise CannotLift("a negative step over a part of an axis")
        return trace.call(_aten.flip.default, value, [axis])
    if step == 1 and all((one, other) == (0, size) for (one, other, _), size in zip(ranges, length.at, strict=True)):
        return value
    first = Length(tuple(one for one, _, _ in ranges))
    last = Length(tuple(max(one, other) for one, other, _ in ranges))
    if len(set(first.at)) > 1 or (len(set(last.at)) > 1 and last != length):
        raise CannotLift("its bounds depend on the batch")
    end = 2**63 - 1 if last == length else last.at[0]  # to the end, however long the axis is
    return trace.call(_aten.slice.Tensor, value, axis, first.at[0], end, step)


def _gather(call: Call) -> Value:
    found = embedding(call)
    if found is not None:
        return found
    value, indices, axis = call.value(0), call.value(1), call.axis(0)
    if not indices.constant:
        if value.constant and axis == 0:
            return call.trace.call(_aten.index.Tensor, value, [indices])
        raise CannotLift("its indices are computed from the input")
    places = indices.trials[0]
    lengths = value.length(axis).at
    if places.numel() and not -min(lengths) <= int(places.min()) <= int(places.max()) < min(lengths):
        raise CannotLift("an index out of range")
    if len(set(lengths)) > 1 and (bool((places < 0).any()) or places.dim() != 0):
        raise CannotLift("it takes single samples out of the batch")
    if places.dim() == 0:
        place = int(places) % min(lengths)
        return call.trace.call(_aten.select.int, value, axis, place)
    places = places.remainder(lengths[0])
    flat = places.reshape(-1)
    taken = _run(call.trace, value, axis, flat)
    if taken is None:
        taken = call.trace.call(_aten.index_select.default, value, axis, call.trace.constant(flat, indices.name))
    if places.dim() == 1:
        return taken
    targets = [[*shape[:axis], *places.shape, *shape[axis + 1 :]] for shape in value.shapes]
    return reshape_to(call.trace, taken, targets)


def _run(trace: Trace, value: Value, axis: int, places: torch.Tensor) -> Value | None:
    """Indices that follow one another are a slice."""
    if value.known or not len(places) or not torch.equal(places, torch.arange(len(places)) + places[0]):
        return None
    first, last = int(places[0]), int(places[-1]) + 1
    if (first, last) == (0, value.shape[axis]):
        return value
    return trace.call(_aten.slice.Tensor, value, axis, first, last, 1)


def _expand(call: Call) -> Value:
    value, wanted = call.value(), call.lengths(1)
    if wanted is None:
        raise CannotLift("it has no shape")
    call.trace.bound(*wanted)
    shapes = []
    for trial, shape in enumerate(value.shapes):
        target = [length.at[trial] for length in wanted]
        rank = max(len(target), len(shape))
        target, own = [1] * (rank - len(target)) + target, [1] * (rank - len(shape)) + list(shape)
        if any(a != b and 1 not in (a, b) for a, b in zip(target, own, strict=True)):
            raise CannotLift("its shape does not fit its input")
        shapes.append([max(a, b) if 0 not in (a, b) else 0 for a, b in zip(target, own, strict=True)])
    if all(list(shape) == wider for shape, wider in zip(value.shapes, shapes, strict=True)):
        return value
    lengths = [Length(entry) for entry in zip(*shapes, strict=True)]
    sizes: list[Length | int] = [*lengths]
    added = len(sizes) - value.rank
    for axis in range(value.rank):
        if lengths[axis + added] == value.length(axis):
            sizes[axis + added] = -1  # as long as it is
    return call.trace.call(_aten.expand.default, value, sizes)


def _tile(call: Call) -> Value:
    value, repeats = call.value(), call.lengths(1)
    if repeats is None or len(repeats) != value.rank:
        raise CannotLift("its repeats don't fit its input")
    call.trace.bound(*repeats)
    if all(set(entry.at) == {1} for entry in repeats):
        return value
    return call.trace.call(_aten.repeat.default, value, repeats)


def _constant_of_shape(call: Call) -> Value:
    wanted = call.lengths(0)
    fill = tensor_of(call.attributes["value"]) if "value" in call.attributes else torch.tensor([0.0])
    if wanted is None or fill.numel() != 1:
        raise CannotLift("it has no shape, or more than one value")
    call.trace.bound(*wanted)
    return call.trace.call(_aten.expand.default, call.trace.constant(fill.reshape(())), wanted)


def _range(call: Call) -> Value:
    start, limit, delta = (call.value(index) for index in range(3))
    if not (start.known and limit.known and delta.known):
        raise CannotLift("its bounds are computed from the input's values")
    rows = []
    for one, other, step in zip(start.trials, limit.trials, delta.trials, strict=True):
        bounds = one.item(), other.item(), step.item()
        if bounds[2] == 0 or not all(math.isfinite(bound) for bound in bounds):
            raise CannotLift("its step is zero")
        count = max(math.ceil((bounds[1] - bounds[0]) / bounds[2]), 0)
        call.trace.bound(count)
        rows.append(torch.arange(count, dtype=one.dtype) * one.new_tensor(bounds[2]) + one)
    return call.trace.known(rows)


def _trilu(call: Call) -> Value:
    name = "triu" if call.get("upper", 1) else "tril"
    return call.trace.call(getattr(_aten, name).default, call.value(), int(call.number(1, 0)))


def _identity(call: Call) -> Value:
    return call.value()


def _dropout(call: Call) -> Value:
    if call.given(2) is not None and call.number(2):
        raise CannotLift("it is in training mode; export the model in eval mode")
    if sum(bool(name) for name in call.node.output) > 1:
        raise CannotLift("its mask is used as well")
    return call.value()


def _cumulative_sum(call: Call) -> Value:
    if call.get("exclusive", 0) or call.get("reverse", 0):
        raise CannotLift("exclusive or reversed")
    return call.trace.call(_aten.cumsum.default, call.value(), int(call.number(1)))


RULES: Mapping[str, Rule] = {
    "Shape": _shape,
    "Size": _size,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "Expand": _expand,
    "Tile": _tile,
    "ConstantOfShape": _constant_of_shape,
    "Range": _range,
    "Trilu": _trilu,
    "Identity": _identity,
    "Dropout": _dropout,
    "CumSum": _cumulative_sum,
}
