"""Stored weights, and the leaves that hold them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from compression.intake.onnx.call import Call
from compression.intake.onnx.value import CannotLift


def stored_weight(call: Call, index: int, axes: Sequence[int]) -> Tensor:
    weight = call.constant(index, "weight")
    if weight.dim() not in axes or weight.dtype != torch.float32:
        raise CannotLift(f"a weight of {weight.dim()} axes and type {str(weight.dtype).removeprefix('torch.')}")
    return weight


def stored_bias(call: Call, index: int) -> Tensor | None:
    return None if call.given(index) is None else call.constant(index, "bias").reshape(-1)


def filled(call: Call, leaf: nn.Module, weight: Tensor, bias: Tensor | None) -> tuple[int, ...]:
    """Gives a leaf its parameters; what tells it from other leaves: calls of one stored matrix are one layer."""
    leaf.weight = call.trace.parameter(weight)
    leaf.register_parameter("bias", None if bias is None else call.trace.parameter(bias))
    return id(leaf.weight), 0 if bias is None else bias.data_ptr()
