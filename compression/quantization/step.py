"""The step that a tensor's grid begins with."""

from __future__ import annotations

import math

import torch
from torch import Tensor

TRIED = 40


def step_for(value: Tensor, high: int, *, per_channel: bool) -> Tensor:
    """The step of the least squared error with levels up to ±`high`, of those tried between the largest magnitude /
    `high` and a fortieth of that; scalar, or one for each slice along the first axis of two or more."""
    apart = per_channel and value.dim() > 1
    rows = value.detach().double().reshape(len(value) if apart else 1, -1)
    top = rows.abs().amax(1, keepdim=True).clamp_min(1e-8) / high
    best, least = top, torch.full_like(top, math.inf)
    for share in range(1, TRIED + 1):
        step = top * share / TRIED
        error = ((rows / step).round().clamp(-high, high) * step - rows).square().sum(1, keepdim=True)
        best, least = torch.where(error < least, step, best), torch.minimum(error, least)
    return best.flatten().float() if apart else best.reshape(()).float()
