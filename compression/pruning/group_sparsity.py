"""Training that makes whole units small before any is cut: DepGraph's regulariser (Fang et al. 2023, section 3.3)."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, fx, nn

from compression.context import Context
from compression.data import Split
from compression.pruning.channel_map import ChannelMap, Width
from compression.pruning.importance import owned_squares
from compression.training.objective import FromOriginal
from compression.training.spec import Training

SHARPNESS = 4.0  # the least important unit of a width shrinks 2⁴ times as hard as the most important


class SparseGroups(FromOriginal):
    """The loss, plus strength / 2 · Σ γ ‖w‖² over all that units own. In each width γ is 2 to the power of
    4 (max I − I) / (max I − min I), where I is the root of a unit's mean squared norm, taken anew at every step and
    held while differentiating."""

    def __init__(
        self,
        module: fx.GraphModule,
        spec: Training,
        context: Context,
        channels: ChannelMap,
        widths: Collection[Width],
        strength: float,
    ) -> None:
        super().__init__(module, spec, context)
        self.channels, self.strength = channels, strength
        self.widths = [torch.from_numpy(width.units).to(context.device) for width in widths]

    def loss(self, chosen: Tensor, batch: Split) -> Tensor:
        return super().loss(chosen, batch) + group_penalty(self.module, self.channels, self.widths, self.strength)


def group_penalty(module: nn.Module, channels: ChannelMap, widths: Collection[Tensor], strength: float) -> Tensor:
    """`widths`: the units of each. Its gradient by a weight w of unit k is strength · γₖ · w, for each axis of the
    weight that lies along a width."""
    found = []
    for ids, squares in owned_squares(module, channels):
        places, members = channels.members(ids)
        found.append((squares[torch.from_numpy(places)], torch.from_numpy(members).to(squares.device)))
    device = found[0][0].device
    sums = torch.zeros(len(channels.units), device=device)
    counts = torch.zeros(len(channels.units), device=device)
    for squares, owners in found:
        sums.index_add_(0, owners, squares.detach())
        counts.index_add_(0, owners, torch.ones_like(squares))
    size = (sums / counts.clamp_min(1)).sqrt()
    gamma = torch.zeros_like(size)
    for units in widths:
        own = size[units]
        spread = own.max() - own.min()
        gamma[units] = 2 ** (SHARPNESS * (own.max() - own) / spread) if spread > 0 else torch.ones_like(own)
    total = torch.stack([(gamma[owners] * squares).sum() for squares, owners in found]).sum()
    return 0.5 * strength * total
