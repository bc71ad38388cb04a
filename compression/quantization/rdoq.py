"""Rate-distortion optimised quantisation, as video coders do it (Karczewicz et al. 2008), of a network's levels.

Each level becomes the one of least J = price · bits + ½ F Δ²: of rounding, of one step nearer to zero, and of zero. The
bits follow from the levels' own statistics, which change with the choice: so it is made again until J falls no more.
"""

from __future__ import annotations

import torch
from torch import Tensor

from compression.encodings import Grid
from compression.quantization.rate import prices

MOST_PASSES = 10


def chosen_levels(value: Tensor, grid: Grid, importance: Tensor, bit_price: float) -> Tensor:
    """Levels (whole floats, the shape of `value`) of a J that is at most that of rounding."""
    levels = rounded = grid.levels(value)
    least = cost(levels, value, grid, importance, bit_price)
    high = max(-grid.low, grid.high)
    for _ in range(MOST_PASSES):
        price = prices(levels, high)
        nearer = rounded - rounded.sign()
        candidates = torch.stack([rounded, nearer, torch.zeros_like(rounded)])
        harms = torch.stack([harm(entry, value, grid, importance) for entry in candidates])
        bits = torch.stack([price.each(entry) for entry in candidates])
        best = (bit_price * bits.double() + harms).argmin(0, keepdim=True)
        better = candidates.gather(0, best)[0]
        found = cost(better, value, grid, importance, bit_price)
        if not found < least:
            break
        levels, least = better, found
    return levels


def cost(levels: Tensor, value: Tensor, grid: Grid, importance: Tensor, bit_price: float) -> float:
    """J of all levels together, each coded with the statistics of these very levels."""
    bits = prices(levels, max(-grid.low, grid.high)).each(levels)
    return float((bit_price * bits.double() + harm(levels, value, grid, importance)).sum())


def harm(levels: Tensor, value: Tensor, grid: Grid, importance: Tensor) -> Tensor:
    """½ F Δ² of each, float64."""
    step = grid.step.reshape(-1, *[1] * (value.dim() - 1)) if grid.step.dim() else grid.step
    return 0.5 * importance.double() * (levels * step - value).double().square()
