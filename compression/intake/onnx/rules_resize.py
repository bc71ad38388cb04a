"""Operators that change how many places a value has in space: pads, resizing, depth to space and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from compression.intake.onnx.call import Call, Rule
from compression.intake.onnx.reshape import reshape_to
from compression.intake.onnx.value import LARGEST_VALUE, CannotLift, Value


def _pad(call: Call) -> Value:
    value, mode = call.value(), call.get("mode", "constant")
    amounts = call.numbers("pads", 1)
    axes = call.numbers("axes", 3) or list(range(value.rank))
    fill = float(call.get("value", call.number(2, 0.0)))
    if amounts is None or len(amounts) != 2 * len(axes):
        raise CannotLift("its pads don't fit its input")
    widths = [[0, 0] for _ in range(value.rank)]
    for index, axis in enumerate(axes):
        widths[axis % value.rank] = [amounts[index], amounts[index + len(axes)]]
    for amount in amounts:
        call.trace.bound(amount)
    if not any(map(any, widths)):
        return value
    kinds = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}
    if mode not in kinds:
        raise CannotLift(f"mode {mode}")
    space = value.rank if mode == "constant" else value.rank - 2  # torch mirrors over all axes in space, no others
    while len(widths) > 0 and widths[0] == [0, 0] and (mode == "constant" or len(widths) > space):
        widths.pop(0)
    flat = [amount for pair in reversed(widths) for amount in pair]
    return call.trace.call(F.pad, value, flat, kinds[mode], fill if mode == "constant" else None)


_MODES = {
    ("nearest", 1): "nearest",
    ("nearest", 2): "nearest",
    ("linear", 1): "linear",
    ("linear", 2): "bilinear",
    ("cubic", 2): "bicubic",
}
"""By the file's mode and how many axes lie in space."""


def _resize(call: Call) -> Value:
    value, axes = call.value(), call.value().rank - 2
    mode = call.get("mode", "nearest")
    place, rounding = call.get("coordinate_transformation_mode", "half_pixel"), call.get("nearest_mode", "")
    factors, sizes = _factors(call, axes)
    name = _MODES.get((mode, axes))
    if name is None or call.get("antialias", 0) or call.get("exclude_outside", 0):
        raise CannotLift(f"mode {mode} over {axes} axes")
    if mode == "nearest":
        if not _is_floor(place, rounding or "round_prefer_floor", factors):
            raise CannotLift(f"nearest with {place} and {rounding or 'round_prefer_floor'}")
        corners = None
    elif place in {"half_pixel", "pytorch_half_pixel", "align_corners"}:
        corners = place == "align_corners"
    else:
        raise CannotLift(f"{mode} with {place}")
    if mode == "cubic" and abs(call.get("cubic_coeff_a", -0.75) + 0.75) > 1e-6:
        raise CannotLift("another cubic kernel")
    if all(factor == 1 for factor in factors):
        return value
    given: dict[str, Any] = {"scale_factor": tuple(factors)} if sizes is None else {"size": tuple(sizes)}
    return call.trace.module(nn.Upsample(**given, mode=name, align_corners=corners), value, call.path())


def _is_floor(place: str, rounding: str, factors: Sequence[float]) -> bool:
    """Whether the place i takes what lies at ⌊i / factor⌋, as torch's nearest does."""
    if place == "asymmetric" and rounding == "floor":
        return True
    if not all(float(factor).is_integer() for factor in factors):
        return False
    if place == "tf_half_pixel_for_nn":
        return rounding == "floor"
    if place == "asymmetric":
        return rounding == "round_prefer_floor" and max(factors) <= 2
    return place in {"half_pixel", "pytorch_half_pixel"} and rounding.startswith("round_prefer")


def _factors(call: Call, axes: int) -> tuple[list[float], list[int] | None]:
    """The factors of the axes in space, and the sizes where no factor gives them."""
    value = call.value()
    if call.get("axes") not in (None, [2, 3][:axes], list(range(axes + 2))) or axes < 1:
        raise CannotLift("it resizes other axes than those in space")
    if call.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise CannotLift("it keeps the aspect ratio")
    own = call.get("axes") == [2, 3][:axes]
    wanted = call.lengths(3)
    if wanted:
        call.trace.bound(*wanted)
        given = wanted if own else wanted[2:]
        if (
            not own
            and any(length != value.length(axis) for axis, length in enumerate(wanted[:2]))
            and not call.trace.static
        ):
            raise CannotLift("it resizes batch or channels")
        if any(len(set(entry.at)) > 1 for entry in given) or len(given) != axes:
            raise CannotLift("its sizes depend on the batch")
        sizes = [entry.at[0] for entry in given]
        factors = [size / length for size, length in zip(sizes, value.shape[2:], strict=True)]
        return factors, None if all(float(factor).is_integer() for factor in factors) else sizes
    scales = call.constant(2, "scales").reshape(-1).tolist()
    if not own and scales[:2] != [1.0, 1.0]:
        raise CannotLift("it resizes batch or channels")
    factors = scales if own else scales[2:]
    if len(factors) != axes or not all(0 < factor < LARGEST_VALUE for factor in factors):
        raise CannotLift("its scales don't fit its input")
    return [float(factor) for factor in factors], _rounded(value.shape[2:], factors)


def _rounded(lengths: Sequence[int], factors: Sequence[float]) -> list[int] | None:
    """The sizes that factors such as 1.6666666 stand for (the standard multiplies and cuts, ONNX Runtime in float32,
    torch in float64); None where the factors give them."""
    sizes = [int(np.float32(length) * np.float32(factor)) for length, factor in zip(lengths, factors, strict=True)]
    exact = [length * factor for length, factor in zip(lengths, factors, strict=True)]
    if all(math.floor(one) == size for one, size in zip(exact, sizes, strict=True)):
        return None
    if all(abs(one - size) <= 1e-6 * size for one, size in zip(exact, sizes, strict=True)):
        return sizes
    raise CannotLift("its scales round to other sizes")


def _depth_to_space(call: Call) -> Value:
    value, block = call.value(), int(call.get("blocksize", 0))
    if value.rank != 4 or block < 1 or value.shape[1] % block**2:
        raise CannotLift("its block does not fit its input")
    if call.get("mode", "DCR") == "CRD":
        return call.trace.module(nn.PixelShuffle(block), value, call.path())
    depth = value.shape[1] // block**2
    split = reshape_to(call.trace, value, [[n, block, block, depth, h, w] for n, _, h, w in value.shapes])
    moved = call.trace.call(torch.permute, split, (0, 3, 4, 1, 5, 2))
    return reshape_to(call.trace, moved, [[n, depth, h * block, w * block] for n, _, h, w in value.shapes])


def _space_to_depth(call: Call) -> Value:
    value, block = call.value(), int(call.get("blocksize", 0))
    if value.rank != 4 or block < 1 or any(length % block for length in value.shape[2:]):
        raise CannotLift("its block does not fit its input")
    parts = [[n, c, h // block, block, w // block, block] for n, c, h, w in value.shapes]
    moved = call.trace.call(torch.permute, reshape_to(call.trace, value, parts), (0, 3, 5, 1, 2, 4))
    targets = [[n, c * block**2, h // block, w // block] for n, c, h, w in value.shapes]
    return reshape_to(call.trace, moved, targets)


RULES: Mapping[str, Rule] = {
    "Pad": _pad,
    "Resize": _resize,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
}
