"""Reshapes that follow a changed width, and a batch that was burnt in."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from compression.intake.onnx.trace import Trace
from compression.intake.onnx.value import CannotLift, Length, Value

Shape = Sequence[int]


def reshape_to(trace: Trace, value: Value, targets: Sequence[Shape]) -> Value:
    """`value` in the shape that the file gives, at each tried batch; one length may be -1.

    Where nothing but axes merge it is a flatten; else the length that follows the batch is left free, so that the graph
    needs no arithmetic. Lengths of channels stay numbers: a cut that changes them writes them anew.
    """
    before = value.shapes
    after = _freed(trace, before, targets) if trace.static and not value.known else _filled(before, targets)
    if all(tuple(a) == b for a, b in zip(after, before, strict=True)):
        return value
    first = _merged(before, after)
    if first is not None and not value.known:
        return trace.call(torch.flatten, value, *first)
    lengths = [Length(entry) for entry in zip(*after, strict=True)]
    sizes: list[Length | int] = [length.at[0] if len(set(length.at)) == 1 else length for length in lengths]
    following = [axis for axis, size in enumerate(sizes) if isinstance(size, Length)]
    if len(following) == 1 and not value.known and 0 not in after[0]:
        sizes[following[0]] = -1
    return trace.call(torch.reshape, value, tuple(sizes))


def _filled(before: Sequence[Shape], targets: Sequence[Shape]) -> list[list[int]]:
    found = []
    for shape, target in zip(before, targets, strict=True):
        told = [int(size) for size in target if size != -1]
        rest = math.prod(told)
        filled = [math.prod(shape) // rest if size == -1 and rest > 0 else size for size in target]
        if min(filled, default=0) < 0 or list(target).count(-1) > 1 or math.prod(filled) != math.prod(shape):
            raise CannotLift(f"{list(shape)} can't be given the shape {list(target)}")
        found.append(filled)
    return found


def _freed(trace: Trace, before: Sequence[Shape], targets: Sequence[Shape]) -> list[list[int]]:
    """The shapes where a static batch stands in the file as a number: its place is where the batch lies in memory."""
    (first,) = _filled(before[:1], targets[:1])
    moving = [axis for axis in range(len(before[0])) if before[0][axis] != before[1][axis]]
    if len(moving) != 1:
        return _filled(before, targets)
    ahead = math.prod(before[0][: moving[0]])
    place = scaled_axis(first, ahead, trace.batches[0])
    if place is None:
        raise CannotLift("the batch that is burnt into its shape can't be freed")
    grown = list(first)
    grown[place] = grown[place] * math.prod(before[1]) // math.prod(before[0])
    return _filled(before, [first, grown])


def scaled_axis(shape: Shape, ahead: int, batch: int) -> int | None:
    """The axis of `shape` with the batch, which has `ahead` elements before it in row-major order."""
    product = 1
    for axis, length in enumerate(shape):
        if product == ahead and length % batch == 0:
            return axis
        if product <= ahead < product * length:
            return axis
        product *= length
    return None


def _merged(before: Sequence[Shape], after: Sequence[Shape]) -> tuple[int, int] | None:
    """First and last axis of a flatten that does the same."""
    gone = len(before[0]) - len(after[0])
    if gone <= 0:
        return None
    for first in range(len(after[0]) - 1, -1, -1):
        last = first + gone
        if all(
            [*a[:first], math.prod(a[first : last + 1]), *a[last + 1 :]] == list(b)
            for a, b in zip(before, after, strict=True)
        ):
            return first, last
    return None
