"""How many bits an adaptive coder will need for the levels of a tensor, as a function that training can go down.

A level is coded as adaptive binary coders do: is it zero, its sign, and its magnitude in unary. Whether it is zero is
taken to depend on its row and its column, by how many others there aren't: the odds multiply as if both spoke
independently. So a weight is dear where few others are, whole rows and columns vanish, and the coder's contexts, which
see the same neighbours, make it true. The probabilities are those of the levels as they stand, and no gradient goes
through them: what has a gradient is the magnitude, along the straight lines between the costs of whole levels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation uses
from torch import Tensor

PRIOR = 1.0
"""How many entries the tensor's own density counts for in a row's and in a column's."""
LN2 = 0.6931471805599453


@dataclass(frozen=True)
class Prices:
    """Bits. `zero`, `one`: of a level 0 and ±1 (sign included), for each place (the levels' shape). `further`: of each
    magnitude more, from 1 to 2 on."""

    zero: Tensor
    one: Tensor
    further: Tensor

    def each(self, levels: Tensor) -> Tensor:
        """What each of these whole levels costs at its place."""
        sums = torch.cat([self.further.new_zeros(2), self.further.cumsum(0)])
        return torch.where(levels == 0, self.zero, self.one + sums[levels.abs().long()])

    def bits(self, magnitude: Tensor) -> Tensor:
        """Of entries of these magnitudes (in units of the step): what whole levels cost, with straight lines between,
        and no more beyond the largest level. One number, float64, without a gradient."""
        first = (self.one - self.zero) * magnitude.clamp(max=1)
        bits = self.zero.sum(dtype=torch.float64) + first.sum(dtype=torch.float64)
        for level, slope in self._upwards(magnitude):
            bits = bits + slope * (magnitude - level).clamp_(0, 1).sum(dtype=torch.float64)
        return bits

    def slopes(self, magnitude: Tensor) -> Tensor:
        """The pull on each magnitude: ∂ bits / ∂ magnitude, never negative. A price that falls as a level grows would
        push it up: where few entries are zero, a zero is the dearer one."""
        first = F.relu(self.one - self.zero)
        found = first - first * above(magnitude, 1)
        for level, slope in self._upwards(magnitude):
            found += max(0.0, slope) * (above(magnitude, level) - above(magnitude, level + 1))
        return found

    def _upwards(self, magnitude: Tensor) -> Iterator[tuple[int, float]]:
        """The levels above which some entry is, and what a bit of magnitude more costs there."""
        most = float(magnitude.max()) if magnitude.numel() else 0.0
        return ((level, slope) for level, slope in enumerate(self.further.tolist(), 1) if level < most)


def above(magnitude: Tensor, level: int) -> Tensor:
    """1 where it is larger, else 0. In floats throughout, which on CPUs is many times faster than through masks."""
    return (magnitude - level).sign_().clamp_(min=0)


def prices(levels: Tensor, high: int) -> Prices:
    """The prices for a tensor like `levels` (whole numbers up to ±`high`, two axes or more: rows, columns, the rest;
    of one axis all entries are alike)."""
    with torch.no_grad():
        magnitudes = levels.abs()
        odds = _log_odds(magnitudes.sign())
        counts = torch.bincount(magnitudes.flatten().int(), minlength=high + 1).flip(0).cumsum(0).flip(0).double()
        # Of those that reach 1, 2, …: the share that goes further; the last can't.
        further = (counts[2:] + 0.5) / (counts[1:-1] + 1) if high > 1 else counts.new_zeros(0)
        stop = torch.cat([-torch.log2(1 - further), further.new_zeros(1)])
        go = -torch.log2(further)
        stop, go = stop.float(), go.float()
        odds, zero = odds / LN2, F.softplus(odds) / LN2  # softplus(−x) = softplus(x) − x
        return Prices(zero, zero - odds + (1 + stop[0]), go + stop[1:] - stop[:-1])


def _log_odds(nonzero: Tensor) -> Tensor:
    """Of ones and zeros (floats): ln of the odds that an entry isn't zero, for each place. In float32 the share of a
    large tensor, or a long row, that has hardly a zero would be 1, and its odds no number; what is added per place is
    float32 again."""
    total = (nonzero.sum(dtype=torch.float64) + 0.5) / (nonzero.numel() + 1)
    if nonzero.dim() < 2:
        return torch.logit(total).float().expand(nonzero.shape)
    rows = _density(nonzero, total, [index for index in range(nonzero.dim()) if index != 0])
    columns = _density(nonzero, total, [index for index in range(nonzero.dim()) if index != 1])
    rows, columns, total = (torch.logit(share).float() for share in (rows, columns, total))
    return (rows + columns - total).expand(nonzero.shape)


def _density(nonzero: Tensor, total: Tensor, axes: list[int]) -> Tensor:
    count = nonzero.sum(axes, keepdim=True).double()
    size = nonzero.numel() // max(1, count.numel())
    return (count + PRIOR * total) / (size + PRIOR)
