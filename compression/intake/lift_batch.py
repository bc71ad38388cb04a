"""Where the batch lies in each value of a program whose batch was a number at export, so that it can be freed."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx
from torch._ops import OpOverload

from compression.intake.aten_call import AtenCall, Value, aten_call
from compression.intake.lift_functions import BURNT


@dataclass(frozen=True)
class Place:
    """The batch is (part of) the axis `axis`; `before` is how often that axis repeats it outside: a length of 5 × batch
    has `before` 5, batch × heads has 1."""

    axis: int
    before: int = 1


def batch_places(module: fx.GraphModule, shapes: Mapping[fx.Node, Value], batch: int) -> dict[fx.Node, Place]:
    """The place for every value that has one, followed from the inputs on; constants that are expanded to the batch
    along their first axis have one too."""
    places: dict[fx.Node, Place] = {}
    for node in module.graph.nodes:
        if node.op == "placeholder":
            places[node] = Place(0)
        if node.op != "call_function":
            continue
        source = next((entry for entry in node.all_input_nodes if entry in places), None)
        call = aten_call(node, (shapes,)) if isinstance(node.target, OpOverload) else None
        if source is None:
            if call is not None and burnt_first(call, batch):
                places[node] = Place(0)
            continue
        found = _follow(call, node, source, places[source], shapes, batch)
        if found is not None:
            places[node] = found
    return places


def burnt_first(call: AtenCall, batch: int) -> bool:
    """Whether a constant is made or expanded with the batch as its first length."""
    sizes = call.arguments.get("size", call.arguments.get("shape", call.arguments.get("repeats")))
    return call.operator in BURNT - {"view", "reshape"} and bool(sizes) and sizes[0] == batch


def _follow(
    call: AtenCall | None, node: fx.Node, source: fx.Node, place: Place, shapes: Mapping[fx.Node, Value], batch: int
) -> Place | None:
    before, after = _shape(shapes[source]), _shape(shapes[node])
    if _is_last_state(node, source):
        return Place(1)
    if call is None or not before or not after:
        return place  # one of several tensors, or several
    if call.operator in RULES:
        return RULES[call.operator](call, place, before, after)
    if call.operator in {"view", "reshape", "flatten", "unflatten"}:
        return reshaped(place, before, after, batch)
    axis = place.axis + len(after) - len(before)  # element-wise, or along other axes: aligned as broadcasting does
    return Place(axis, place.before) if axis >= 0 and after[axis] == before[place.axis] else None


def _is_last_state(node: fx.Node, source: fx.Node) -> bool:
    """Layers × batch × hidden, wherever the operator's output has its batch."""
    name = getattr(getattr(source.target, "overloadpacket", None), "__name__", "")
    return name in {"lstm", "gru"} and node.target is operator.getitem and bool(node.args[1] != 0)


def _shape(value: Value) -> tuple[int, ...]:
    if isinstance(value, tuple | list):
        return _shape(value[0])
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def reshaped(place: Place, before: tuple[int, ...], after: tuple[int, ...], batch: int) -> Place | None:
    """Row-major: as many values lie outside of the batch as before. A batch of one fits at several places: an axis of
    length one is it; else it goes in front of the axis that follows, or, where that is the last one, behind the one
    that comes before (layers work along the last axis)."""
    outside = math.prod(before[: place.axis]) * place.before
    fits: list[Place] = []
    for axis, length in enumerate(after):
        start = math.prod(after[:axis])
        if outside % start == 0 and (start * length) % (outside * batch) == 0:
            fits.append(Place(axis, outside // start))
    alone = [fit for fit in fits if after[fit.axis] == batch and fit.before == 1]
    in_front = [fit for fit in fits if fit.before == 1 and fit.axis < len(after) - 1]
    return next(iter([*alone, *in_front, *fits]), None)


def _moved(place: Place, order: list[int]) -> Place:
    rank = len(order)
    return Place([axis % rank for axis in order].index(place.axis), place.before)


def _transpose(call: AtenCall, place: Place, _before: tuple[int, ...], after: tuple[int, ...]) -> Place:
    order = list(range(len(after)))
    one, other = call["dim0"], call["dim1"]
    order[one], order[other] = order[other], order[one]
    return _moved(place, order)


def _removed(name: str) -> Callable[[AtenCall, Place, tuple[int, ...], tuple[int, ...]], Place | None]:
    def rule(call: AtenCall, place: Place, before: tuple[int, ...], after: tuple[int, ...]) -> Place | None:
        given: Any = call.arguments.get(name)
        axes = {axis % len(before) for axis in ([given] if isinstance(given, int) else given or range(len(before)))}
        if call.operator == "squeeze":
            axes = {axis for axis in axes if before[axis] == 1}
        if len(before) == len(after):
            return place
        if place.axis in axes:
            return None
        return Place(place.axis - sum(axis < place.axis for axis in axes), place.before)

    return rule


def _inserted(call: AtenCall, place: Place, _before: tuple[int, ...], after: tuple[int, ...]) -> Place:
    dim = call["dim"] % len(after)
    return Place(place.axis + (dim <= place.axis), place.before)


RULES: Mapping[str, Callable[[AtenCall, Place, tuple[int, ...], tuple[int, ...]], Place | None]] = {
    "transpose": _transpose,
    "permute": lambda call, place, _before, _after: _moved(place, list(call["dims"])),
    "embedding": lambda _call, place, _before, _after: place,
    "unsqueeze": _inserted,
    "stack": _inserted,
    **{name: _removed("dim") for name in ("squeeze", "select", "unbind", "mean", "sum", "amax", "amin", "argmax")},
}
