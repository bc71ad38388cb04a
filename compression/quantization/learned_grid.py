"""A grid whose step is learned along with the weights, and whose levels have a price while they are trained.

The step's gradient is LSQ's (Esser et al. 2020, equations 3 and 5): round(v) − v inside the range, the limit outside
(v = weight / step), times 1 / √(n · high). The free values are the weights followed by the logarithms of the steps, in
one vector: a step stays above zero, and an optimizer that scales its moves (Adam) changes it by shares of itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from compression.encodings import Encoding, Grid
from compression.quantization.rate import prices


@dataclass(frozen=True)
class LearnedGrid:
    """Levels from -`high` to `high`. `step`: where it begins, scalar or one for each slice of the first axis; `price`:
    of a bit, in the loss; 0: the steps are learned by the loss alone."""

    step: Tensor
    high: int
    shape: torch.Size
    price: float

    def free(self, parameter: Tensor) -> Tensor:
        return torch.cat([parameter.flatten(), self.step.to(parameter.device).log().flatten()])

    def value(self, free: Tensor) -> Tensor:
        weights, steps = self._parts(free)
        gradient_scale = 1 / math.sqrt(max(1, weights.numel() // steps.numel()) * self.high)
        steps = steps * gradient_scale + (steps - steps * gradient_scale).detach()
        clipped = (weights / steps).clamp(-self.high, self.high)
        levels = clipped + (clipped.round() - clipped).detach()
        # In the exact numbers of the grid that remains: the detached sum above may be off in its last place.
        exact = clipped.detach().round() * self._parts(free.detach())[1]
        learned = levels * steps
        return learned + (exact - learned).detach()

    def penalty(self, free: Tensor) -> Tensor:
        if not self.price:
            return free.new_zeros(())
        weights, steps = self._parts(free)
        # The zeros cost nothing, however far the free values behind them are from zero: only the others press the step
        # upwards. Through all of them together, tensors came to be zero altogether, at a loss that kept rising.
        zero = (weights.detach() / steps.detach()).round() == 0
        scaled = (weights / torch.where(zero, steps.detach(), steps)).clamp(-self.high, self.high)
        return self.price * prices(scaled.detach().round(), self.high).bits(scaled)

    def settled(self, free: Tensor) -> Encoding:
        steps = self._parts(free.detach())[1]
        return Grid(steps.reshape(self.step.shape).cpu().clone(), -self.high, self.high)

    def _parts(self, free: Tensor) -> tuple[Tensor, Tensor]:
        """The weights in their shape, and the steps in one that goes with it."""
        count = self.step.numel()
        steps = free[len(free) - count :].exp()
        wide = steps.reshape(-1, *[1] * (len(self.shape) - 1)) if self.step.dim() else steps.reshape(())
        return free[: len(free) - count].reshape(self.shape), wide
