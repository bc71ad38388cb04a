"""What is done to the transfer set's samples in each step, so that the teachers say more than the samples hold: images
moved, noise added, samples mixed. The teachers see what the student sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from compression.data import Dataset, Split
from compression.errors import SpecError


@dataclass(frozen=True)
class Alteration:
    """`shift`: pixels that an image is moved by at most, in any direction; `noise`: the standard deviation of each
    input's; `mixup`: α of its Beta distribution (Zhang et al. 2018)."""

    shift: int = 0
    noise: Sequence[float] = ()
    mixup: float = 0.0

    def __bool__(self) -> bool:
        return self.shift > 0 or len(self.noise) > 0 or self.mixup > 0

    def __call__(self, batch: Split, mixed: bool = True) -> Split:
        """The batch as this step sees it; `mixed`: whether samples may be mixed, which leaves them without labels. The
        training loop has seeded torch for this step."""
        values = dict(batch.inputs)
        if self.mixup > 0 and mixed:
            share = float(torch.distributions.Beta(self.mixup, self.mixup).sample())
            other = torch.randperm(len(batch))
            values = {
                name: share * value + (1 - share) * value[other.to(value.device)] for name, value in values.items()
            }
        if self.shift:
            moves = torch.randint(-self.shift, self.shift + 1, (len(batch), 2))
            values = {name: moved(value, moves) if value.dim() == 4 else value for name, value in values.items()}
        if self.noise:
            values = {
                name: value + deviation * torch.randn(value.shape).to(value.device)
                for (name, value), deviation in zip(values.items(), self.noise, strict=True)
            }
        return replace(batch, inputs=values)


def alteration_for(data: Dataset, shift: int, noise: float, mixup: float) -> Alteration:
    """`noise` is in units of each input's standard deviation. SpecError: the inputs can't be altered so."""
    values = data.train.inputs.values()
    for name, wanted in (("noise", noise), ("mixup", mixup)):
        if wanted and not all(value.is_floating_point() for value in values):
            raise SpecError(f"{name} is for inputs of real numbers; this network takes integers", f"/{name}")
    images = [value for value in values if value.dim() == 4]
    if shift and not images:
        raise SpecError("shift is for images (channels × height × width); no input of this network is one", "/shift")
    if any(shift >= min(value.shape[2:]) for value in images):
        raise SpecError("nothing would be left of an image that is moved so far", "/shift")
    return Alteration(shift, [noise * float(value.std()) for value in values] if noise else [], mixup)


def moved(images: Tensor, moves: Tensor) -> Tensor:
    """Images (N × C × H × W), each moved down and to the right by its `moves` (N × 2, pixels); what comes in from
    outside is the edge, repeated: what the background of an image is, a network's inputs don't say."""
    moves = moves.to(images.device)
    rows, columns = (
        (torch.arange(length, device=images.device) - moves[:, axis : axis + 1]).clamp(0, length - 1)
        for axis, length in enumerate(images.shape[2:])
    )
    samples = torch.arange(len(images), device=images.device)[:, None, None]
    return images.movedim(1, -1)[samples, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)
