"""The steps that a matrix's blocks of four bits begin with: those of the least squared error, of many tried."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation uses
from torch import Tensor

from compression.encodings.blocks import CODES, MIDDLE, Blocks

SHARES = tuple(share / 40 for share in range(18, 47))
"""Of the step at which the entry farthest from zero stands at the end of the range. Below 1 it is clipped; above, it
is rounded to the level beside."""


def blocks_for(value: Tensor, size: int, *, zeros: bool) -> Blocks:
    """Blocks of `size` entries along the rows of the matrix `value`. Without `zeros` the levels are −8 to 7 in either
    direction; with them, each block has a zero of its own: 16 levels from its smallest entry to its largest."""
    rows, columns = value.shape
    count = -(-columns // size)
    # Where a row has no whole number of blocks: zeros are on every grid.
    wide = F.pad(value.detach().float(), (0, count * size - columns)).reshape(rows, count, size)
    best, least = torch.ones(rows, count, 1), torch.full((rows, count, 1), math.inf)
    tried, zero = _with_zeros(wide) if zeros else (_symmetric(wide), torch.full_like(best, MIDDLE))
    for step in tried:
        levels = torch.minimum(torch.maximum((wide / step).round(), -zero), CODES - 1 - zero)
        error = (levels * step - wide).square().sum(2, keepdim=True)
        better = error < least
        best, least = torch.where(better, step, best), torch.where(better, error, least)
    return Blocks(best[..., 0], size, zero[..., 0].to(torch.uint8) if zeros else None)


def _symmetric(wide: Tensor) -> Iterator[Tensor]:
    """Steps of both signs: the level −8 has no counterpart, and is of use on one side alone."""
    unit = _above_zero(wide.abs().amax(2, keepdim=True) / MIDDLE)
    for share in SHARES:
        yield unit * share
        yield unit * -share


def _with_zeros(wide: Tensor) -> tuple[Iterator[Tensor], Tensor]:
    low, high = wide.amin(2, keepdim=True).clamp_max(0), wide.amax(2, keepdim=True).clamp_min(0)
    unit = _above_zero((high - low) / (CODES - 1))
    return (unit * share for share in SHARES), (-low / unit).round()


def _above_zero(unit: Tensor) -> Tensor:
    """1 for a block of zeros: any step does, and a denormal one can't be divided by."""
    return torch.where(unit > torch.finfo(unit.dtype).tiny, unit, 1.0)
