"""Pruned every few steps within one training run (Zhu & Gupta 2017)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch import Tensor

from compression.encodings import Mask
from compression.pruning.masks import Aim, masks_for
from compression.pruning.schedules import cubic

ENDS_AT = 0.75
"""Of the run's steps: after that the masks stay, and what is left is trained on."""


@dataclass(frozen=True)
class Gradual:
    """A `Tightening`: the share of zeros follows the cubic schedule, in steps `every` so many optimizer steps. `first`:
    the shares of zeros to begin with (`masked_shares`)."""

    names: Collection[str]
    aim: Aim
    every: int
    first: Mapping[str, float]

    def done(self, step: int, total: int) -> float:
        """(t − t₀) / (n Δt) at a step: t₀ is 0 and n Δt as much of ENDS_AT of the run as whole intervals fill."""
        end = int(ENDS_AT * total)
        if end == 0:
            return 1.0
        interval = min(self.every, end)
        return min(1.0, (step // interval) / (end // interval))

    def masks(
        self, step: int, total: int, weights: Mapping[str, Tensor], masks: Mapping[str, Mask]
    ) -> Mapping[str, Mask] | None:
        done = self.done(step, total)
        if step and done == self.done(step - 1, total):
            return None
        return masks_for(weights, masks, self.aim.at(cubic(done), self.first))

    def complete(self, step: int, total: int) -> bool:
        return step > 0 and self.done(step - 1, total) == 1.0
