"""Which weights stay: the largest of all together, of each tensor, or of every few neighbours.

Masks are nested: what a mask has at zero stays there, and goes before any weight that happens to be zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compression.encodings import Mask
from compression.network import Network
from compression.pruning.schedules import Moment


@dataclass(frozen=True)
class Together:
    """A share `sparsity` of all weights taken together is zero."""

    sparsity: float

    def at(self, moment: Moment, first: Mapping[str, float]) -> Together:
        """The aim of a moment; `first`: the shares of zeros to begin with, of each tensor and ("") of all."""
        return Together(moment(first[""], self.sparsity))

    def keeps(self, magnitudes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """True for those that stay; what is masked already has a magnitude below zero."""
        together = without_smallest(torch.cat([value.flatten() for value in magnitudes.values()]), self.sparsity)
        parts = torch.split(together, [value.numel() for value in magnitudes.values()])
        return {name: part.reshape(magnitudes[name].shape) for name, part in zip(magnitudes, parts, strict=True)}


@dataclass(frozen=True)
class Each:
    """Of each tensor a share of its own is zero."""

    sparsities: Mapping[str, float]

    def at(self, moment: Moment, first: Mapping[str, float]) -> Each:
        return Each({name: moment(first[name], last) for name, last in self.sparsities.items()})

    def keeps(self, magnitudes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: without_smallest(value.flatten(), self.sparsities[name]).reshape(value.shape)
            for name, value in magnitudes.items()
        }


@dataclass(frozen=True)
class Pattern:
    """Of `of` weights side by side along the input axis, at most `kept` aren't zero (Mishra et al. 2021: 2:4).

    `axes`: the input axis of each tensor. Of a matrix these are neighbours in a row, as sparse tensor cores take them;
    of a convolution the same place of its kernel in neighbouring input channels. Fewer than `of` are left at the end of
    an axis that isn't a multiple of it: of those, too, at most `kept` stay.
    """

    kept: int
    of: int
    axes: Mapping[str, int]

    def at(self, moment: Moment, first: Mapping[str, float]) -> Pattern:  # noqa: ARG002 - as the others
        zeros = math.floor(self.of * moment(0.0, 1 - self.kept / self.of) + 0.5)
        return Pattern(self.of - zeros, self.of, self.axes)

    def keeps(self, magnitudes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: self._largest(value, self.axes[name]) for name, value in magnitudes.items()}

    def _largest(self, magnitudes: Tensor, axis: int) -> Tensor:
        last = magnitudes.movedim(axis, -1)
        padded = nn.functional.pad(last, (0, -last.shape[-1] % self.of), value=-2.0)
        groups = padded.reshape(*last.shape[:-1], -1, self.of)
        order = torch.argsort(groups, dim=-1, descending=True, stable=True)[..., : self.kept]
        keep = torch.zeros_like(groups, dtype=torch.bool).scatter_(-1, order, value=True)
        return keep.flatten(-2)[..., : last.shape[-1]].movedim(-1, axis)


Aim = Together | Each | Pattern


def pattern_for(pattern: str, network: Network, names: list[str]) -> Pattern:
    """Of "N:M"."""
    kept, of = map(int, pattern.split(":"))
    return Pattern(kept, of, {name: input_axis(network, name) for name in names})


def input_axis(network: Network, name: str) -> int:
    """The axis of a weight that its inputs lie along: 1, and 0 of transposed convolutions."""
    owner = network.module.get_submodule(name.rpartition(".")[0])
    return 0 if isinstance(owner, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d) else 1


def masks_for(weights: Mapping[str, Tensor], masks: Mapping[str, Mask], aim: Aim) -> dict[str, Mask]:
    """Masks of the smallest `weights`, on their device. `masks`: those that there are already, of all or of some."""
    magnitudes, open_ = {}, {}
    for name, value in weights.items():
        found = masks.get(name)
        keep = torch.ones_like(value, dtype=torch.bool) if found is None else found.keep.to(value.device)
        magnitudes[name], open_[name] = value.detach().abs().masked_fill(~keep, -1.0), keep
    return {name: Mask(open_[name] & keep) for name, keep in aim.keeps(magnitudes).items()}


def without_smallest(magnitudes: Tensor, sparsity: float) -> Tensor:
    """False for the `sparsity` · n smallest, exactly as many; of equal ones, the first go first."""
    keep = torch.ones(len(magnitudes), dtype=torch.bool, device=magnitudes.device)
    order = torch.argsort(magnitudes, stable=True)
    keep[order[: math.floor(sparsity * len(magnitudes) + 0.5)]] = False
    return keep
