"""Weights of three values, −Wₙ, 0 and Wₚ, with trained scales.

Where they begin is TWN (Li & Liu 2016, section 2.2): Δ = 0.7 · mean |w|, and both scales are α, the mean |w| of those
above Δ, which is the α of the least ‖w − α t‖² for these signs t. What is trained is TTQ (Zhu et al. 2017): two scales
a tensor, whose gradients are the sums over their members (equation 7), and full weights behind, which say the signs
anew at every step; Δ is a share of their mean or, as there, of their largest magnitude.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from compression.encodings import Codebook, Encoding

Measure = Literal["mean", "max"]


@dataclass(frozen=True)
class Ternary:
    """`kept` (bool, the parameter's shape): false where it is zero and stays so, None if nowhere. Δ is `share` of the
    mean or of the largest magnitude (`measure`) of those kept. The free values are the full weights, flat, and Wₚ and
    Wₙ behind them."""

    shape: torch.Size
    kept: Tensor | None
    share: float
    measure: Measure

    def free(self, parameter: Tensor) -> Tensor:
        above = parameter.abs() > self._threshold(parameter)
        if self.kept is not None:
            above &= self.kept.to(parameter.device)
        scale = (parameter.abs() * above).double().sum() / above.sum().clamp_min(1)
        return torch.cat([parameter.flatten(), scale.to(parameter.dtype).expand(2)])

    def value(self, free: Tensor) -> Tensor:
        weights, (positive, negative) = free[:-2].reshape(self.shape), free[-2:]
        signs = self.signs(free)
        scaled = torch.where(signs > 0, positive, torch.where(signs < 0, -negative, 0.0))
        passed = weights - weights.detach()  # nothing, with a gradient
        return scaled + (passed if self.kept is None else passed * self.kept.to(free.device))

    def penalty(self, free: Tensor) -> Tensor:
        return free.new_zeros(())

    def signs(self, free: Tensor) -> Tensor:
        """Of the values that these stand for: −1, 0, 1."""
        weights = free.detach()[:-2].reshape(self.shape)
        signs = weights.sign() * (weights.abs() > self._threshold(weights))
        return signs if self.kept is None else signs * self.kept.to(free.device)

    def settled(self, free: Tensor) -> Encoding:
        signs = self.signs(free).cpu()
        return Codebook(torch.where(signs > 0, 1, torch.where(signs < 0, 0, -1)))

    def described(self, parameter: Tensor) -> dict[str, Any]:
        negative, zero, positive = parameter[parameter < 0], parameter == 0, parameter[parameter > 0]
        return {
            "levels": 3,
            "negative": round(float(negative.min()), 6) if len(negative) else None,
            "positive": round(float(positive.max()), 6) if len(positive) else None,
            "zeros_percent": round(100 * float(zero.double().mean()), 3),
        }

    def _threshold(self, weights: Tensor) -> Tensor:
        magnitudes = weights.detach().abs()
        if self.kept is not None:
            magnitudes = magnitudes[self.kept.to(weights.device)]
        if not magnitudes.numel():
            return magnitudes.new_zeros(())
        return self.share * (
            magnitudes.double().mean().to(weights.dtype) if self.measure == "mean" else magnitudes.max()
        )
