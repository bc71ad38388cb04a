"""Entries that are zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from compression.encodings.encoding import parts


@dataclass(frozen=True)
class Mask:
    """Entries where `keep` (bool, the parameter's shape) is false are zero."""

    keep: Tensor
    kind: str = "mask"

    def free(self, parameter: Tensor) -> Tensor:
        return parameter.clone()

    def value(self, free: Tensor) -> Tensor:
        return free * self.keep.to(free.device)

    def select(self, dim: int, kept: Tensor) -> Mask:
        return Mask(self.keep.index_select(dim, kept))

    def tensors(self) -> dict[str, Tensor]:
        return {"keep": self.keep}

    @classmethod
    def read(cls, tensors: Mapping[str, Tensor], shape: torch.Size) -> Mask:
        (keep,) = parts(tensors, keep=torch.bool)
        if keep.shape != shape:
            raise ValueError("it has another shape")
        return cls(keep)
