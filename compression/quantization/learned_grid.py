"""A grid whose step is learned along with the weights; and one whose levels have a price while they are trained.

The step's gradient is LSQ's (Esser et al. 2020, equations 3 and 5): round(v) − v inside the range, the limit outside
(v = weight / step), times 1 / √(n · high). The free values are the weights followed by the logarithms of the steps, in
one vector: a step stays above zero, and an optimizer that scales its moves (Adam) changes it by shares of itself.

The gradients are written out: left to autograd, they took most of a step's time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from compression.encodings import Encoding, Grid
from compression.quantization.price import Price
from compression.quantization.rate import above, prices


@dataclass(frozen=True)
class LearnedGrid:
    """Levels from -`high` to `high`. `step`: where it begins, scalar or one for each slice of the first axis."""

    step: Tensor
    high: int
    shape: torch.Size

    def free(self, parameter: Tensor) -> Tensor:
        return torch.cat([parameter.flatten(), self.step.to(parameter.device).log().flatten()])

    def value(self, free: Tensor) -> Tensor:
        rounded: Tensor = _Rounded.apply(free, self)  # type: ignore[no-untyped-call]
        return rounded

    def penalty(self, free: Tensor) -> Tensor:
        return free.new_zeros(())

    def settled(self, free: Tensor) -> Encoding:
        steps = self.parts(free.detach())[1]
        return Grid(steps.reshape(self.step.shape).cpu().clone(), -self.high, self.high)

    def parts(self, free: Tensor) -> tuple[Tensor, Tensor]:
        """The weights in their shape, and the steps in one that goes with it."""
        count = self.step.numel()
        steps = free[len(free) - count :].exp()
        wide = steps.reshape(-1, *[1] * (len(self.shape) - 1)) if self.step.dim() else steps.reshape(())
        return free[: len(free) - count].reshape(self.shape), wide

    def joined(self, weights: Tensor, logarithms: Tensor) -> Tensor:
        """A gradient of the free values, given that of the weights, and of the steps' logarithms weight by weight."""
        steps = logarithms.flatten(1).sum(1) if self.step.dim() else logarithms.sum().reshape(1)
        return torch.cat([weights.flatten(), steps])


@dataclass(frozen=True)
class PricedGrid(LearnedGrid):
    """`keep`, bool or none: where it is false a mask has put a zero, which stays one."""

    name: str
    price: Price
    keep: Tensor | None = None

    def value(self, free: Tensor) -> Tensor:
        value = super().value(free)
        return value if self.keep is None else value * self.keep.to(value.device)

    def penalty(self, free: Tensor) -> Tensor:
        bits: Tensor = _Bits.apply(free, self)  # type: ignore[no-untyped-call]
        penalty = self.price.of_a_bit() * bits
        self.price.hear(self.name, bits, free)
        return penalty


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, free: Tensor, grid: LearnedGrid) -> Tensor:
        context.save_for_backward(free)
        context.grid = grid
        weights, steps = grid.parts(free)
        return (weights / steps).clamp_(-grid.high, grid.high).round_() * steps

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (free,), grid = context.saved_tensors, context.grid
        weights, steps = grid.parts(free)
        scaled = weights / steps
        inside = 1 - above(scaled.abs(), grid.high)
        levels = scaled.clamp(-grid.high, grid.high).round_()
        scale = 1 / math.sqrt(max(1, weights.numel() // steps.numel()) * grid.high)
        return grid.joined(gradient * inside, gradient * (levels - scaled * inside) * (steps * scale)), None


class _Bits(torch.autograd.Function):
    """The bits of whole levels, with the gradient of the straight lines between them, straight through the rounding.

    The zeros don't press the step upwards, however far the free values behind them are from zero: only the others do.
    Through all of them together, tensors came to be zero altogether, at a loss that kept rising."""

    @staticmethod
    def forward(context: Any, free: Tensor, grid: LearnedGrid) -> Tensor:
        weights, steps = grid.parts(free)
        scaled = weights / steps
        levels = scaled.clamp(-grid.high, grid.high).round_()
        price, magnitude = prices(levels, grid.high), scaled.abs()
        slopes = price.slopes(magnitude)
        not_zero = levels.abs_().clamp(max=1)
        pull = grid.joined(slopes * scaled.sign() / steps, -slopes * magnitude * not_zero)
        context.save_for_backward(pull)
        return price.bits(levels).to(free.dtype)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * context.saved_tensors[0], None
