"""Weights of two values, −α and α, for each output channel.

Where they begin is BWN (Rastegari et al. 2016, equation 6): the signs of the weights and α = mean |w|, which together
have the least ‖w − α b‖² of all. Then α is trained, by the sum of b · ∂L/∂w over its channel, and so are the full
weights behind the signs, by gradients that pass straight through (Courbariaux et al. 2015).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from compression.encodings import Codebook, Encoding


@dataclass(frozen=True)
class Binary:
    """`kept` (bool, the parameter's shape): false where it is zero and stays so, None if nowhere. Channels are the
    slices along the first axis of two or more; a weight of exactly 0 counts as positive. The free values are the full
    weights, flat, and each channel's α behind them."""

    shape: torch.Size
    kept: Tensor | None

    def free(self, parameter: Tensor) -> Tensor:
        magnitudes = parameter.abs().flatten(1).double()
        counts = torch.full_like(magnitudes[:, :1], magnitudes.shape[1])
        if self.kept is not None:
            kept = self.kept.to(parameter.device).flatten(1)
            magnitudes, counts = magnitudes * kept, kept.sum(1, keepdim=True).clamp_min(1)
        scales = magnitudes.sum(1, keepdim=True) / counts
        return torch.cat([parameter.flatten(), scales.flatten().to(parameter.dtype)])

    def value(self, free: Tensor) -> Tensor:
        weights, scales = self._parts(free)
        signed = self.signs(free) * scales.reshape(-1, *[1] * (len(self.shape) - 1))
        passed = weights - weights.detach()  # nothing, with a gradient
        return signed + (passed if self.kept is None else passed * self.kept.to(free.device))

    def penalty(self, free: Tensor) -> Tensor:
        return free.new_zeros(())

    def signs(self, free: Tensor) -> Tensor:
        """−1 and 1; 0 where nothing is kept."""
        signs = torch.where(self._parts(free.detach())[0] < 0, -1.0, 1.0)
        return signs if self.kept is None else signs * self.kept.to(free.device)

    def settled(self, free: Tensor) -> Encoding:
        signs = self.signs(free).cpu()
        codes = torch.where(signs > 0, 1, torch.where(signs < 0, 0, -1))
        return Codebook(codes, torch.arange(self.shape[0]))

    def described(self, parameter: Tensor) -> dict[str, Any]:
        scales = parameter.abs().flatten(1).amax(1)
        return {
            "levels": 2,
            "scales": len(scales),
            "smallest_scale": round(float(scales.min()), 6),
            "mean_scale": round(float(scales.mean()), 6),
            "largest_scale": round(float(scales.max()), 6),
            "zeros_percent": round(100 * float((parameter == 0).double().mean()), 3),
        }

    def _parts(self, free: Tensor) -> tuple[Tensor, Tensor]:
        count = self.shape[0]
        return free[: len(free) - count].reshape(self.shape), free[len(free) - count :]
