"""Masks that lose weights while a training run lasts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from torch import Tensor

from compression.encodings import Mask


class Tightening(Protocol):
    """`names` are the parameters that it masks. `masks(step, total, weights, masks)` are the masks from `step` on, of
    a run of `total` steps, given the weights and masks of this moment (on the run's device); None: they stay as they
    are. `complete(step, total)`: whether nothing will be masked after so many steps. No weight is ever let free."""

    @property
    def names(self) -> Collection[str]: ...

    def masks(
        self, step: int, total: int, weights: Mapping[str, Tensor], masks: Mapping[str, Mask]
    ) -> Mapping[str, Mask] | None: ...

    def complete(self, step: int, total: int) -> bool: ...
