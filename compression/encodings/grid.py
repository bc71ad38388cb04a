"""Entries that are whole multiples of a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from compression.encodings.encoding import parts


@dataclass(frozen=True)
class Grid:
    """Entries are whole multiples, from `low` to `high`, of a step: scalar, or one for each slice of the first axis.

    The free values are an unrestricted parameter; it is rounded to the grid, and gradients pass straight through the
    rounding (Bengio et al. 2013) except where the value was clipped.
    """

    step: Tensor
    low: int
    high: int
    kind: str = "grid"

    def free(self, parameter: Tensor) -> Tensor:
        return parameter.clone()

    def levels(self, parameter: Tensor) -> Tensor:
        """The integers that `parameter` stands for, as floats; gradients pass straight through."""
        scaled = parameter / self._steps(parameter)
        clipped = scaled.clamp(self.low, self.high)
        return clipped + (clipped.round() - clipped).detach()

    def value(self, free: Tensor) -> Tensor:
        return self.levels(free) * self._steps(free)

    def select(self, dim: int, kept: Tensor) -> Grid:
        step = self.step.index_select(0, kept) if self.step.dim() and dim == 0 else self.step
        return Grid(step, self.low, self.high)

    def tensors(self) -> dict[str, Tensor]:
        return {"step": self.step, "range": torch.tensor([self.low, self.high])}

    @classmethod
    def read(cls, tensors: Mapping[str, Tensor], shape: torch.Size) -> Grid:
        step, limits = parts(tensors, step=torch.float32, range=torch.int64)
        if step.shape not in {torch.Size(), shape[:1]}:
            raise ValueError("it needs one step, or one for each slice of the first axis")
        if not bool((torch.isfinite(step) & (step > 0)).all()):
            raise ValueError("its steps aren't finite numbers above zero")
        if limits.shape != (2,) or not -(2**24) <= int(limits[0]) <= 0 <= int(limits[1]) <= 2**24:
            raise ValueError("its range has no zero, or is too wide for float32")
        return cls(step, int(limits[0]), int(limits[1]))

    def _steps(self, parameter: Tensor) -> Tensor:
        step = self.step.to(parameter.device)
        return step.reshape(-1, *[1] * (parameter.dim() - 1)) if step.dim() else step
