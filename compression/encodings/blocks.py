"""Entries of a matrix in four bits, each block of a row with a step of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from compression.encodings.encoding import parts
from compression.errors import MethodError

SIZES = (16, 32, 64, 128, 256)
"""Entries of a block: what `MatMulNBits` of ONNX Runtime takes, and no more than pays."""
CODES = 16
MIDDLE = 8
"""The code that stands for zero where a block has none of its own."""


@dataclass(frozen=True)
class Blocks:
    """Each `size` consecutive entries of a row (the last block of a row may have fewer) share a step: an entry is
    (code − zero) · step with a code from 0 to 15.

    `step`: float32, rows × blocks, any numbers but zero: below it, the range from −8 to 7 is turned round. `zero`:
    uint8, the same shape, 0 to 15; None: 8 everywhere. The free values are an unrestricted parameter; it is rounded,
    and gradients pass straight through the rounding (Bengio et al. 2013) except where the value was clipped.
    """

    step: Tensor
    size: int
    zero: Tensor | None = None
    kind: str = "blocks"

    def free(self, parameter: Tensor) -> Tensor:
        return parameter.clone()

    def value(self, free: Tensor) -> Tensor:
        return self.levels(free) * self.steps(free)

    def levels(self, parameter: Tensor) -> Tensor:
        """Code − zero of each entry, as floats; gradients pass straight through."""
        low = self.lowest(parameter)
        clipped = torch.minimum(torch.maximum(parameter / self.steps(parameter), low), low + (CODES - 1))
        return clipped + (clipped.round() - clipped).detach()

    def steps(self, parameter: Tensor) -> Tensor:
        """Each entry's, in the shape and on the device of the parameter."""
        return self._spread(self.step, parameter)

    def lowest(self, parameter: Tensor) -> Tensor:
        """The level of code 0 for each entry."""
        if self.zero is None:
            return torch.full_like(parameter, -MIDDLE)
        return -self._spread(self.zero.to(parameter.dtype), parameter)

    def select(self, dim: int, kept: Tensor) -> Blocks:
        if dim != 0:
            raise MethodError("its blocks of inputs can't be cut: prune before the weights are in blocks of four bits")
        zero = None if self.zero is None else self.zero.index_select(0, kept)
        return Blocks(self.step.index_select(0, kept), self.size, zero)

    def tensors(self) -> dict[str, Tensor]:
        found = {"step": self.step, "size": torch.tensor(self.size)}
        return found if self.zero is None else {**found, "zero": self.zero}

    @classmethod
    def read(cls, tensors: Mapping[str, Tensor], shape: torch.Size) -> Blocks:
        wanted = {"step": torch.float32, "size": torch.int64} | ({"zero": torch.uint8} if "zero" in tensors else {})
        step, size, *zeros = parts(tensors, **wanted)
        if size.shape != torch.Size() or int(size) not in SIZES:
            raise ValueError(f"a block has {', '.join(map(str, SIZES))} entries")
        if len(shape) != 2 or step.shape != (shape[0], -(-shape[1] // int(size))):
            raise ValueError("it needs a step for each block of each row of a matrix")
        if not bool((torch.isfinite(step) & (step != 0)).all()):
            raise ValueError("its steps aren't finite numbers other than zero")
        zero = zeros[0] if zeros else None
        if zero is not None and (zero.shape != step.shape or (zero.numel() and int(zero.max()) >= CODES)):
            raise ValueError("it needs a zero below 16 for each block")
        return cls(step, int(size), zero)

    def _spread(self, by_block: Tensor, parameter: Tensor) -> Tensor:
        return by_block.to(parameter.device).repeat_interleave(self.size, 1)[:, : parameter.shape[1]]
