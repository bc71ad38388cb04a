"""Entries that are floats of two bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from compression.encodings.encoding import parts

Own = TypeVar("Own", bound="Half")


@dataclass(frozen=True)
class Half:
    """Entries are float32 numbers that `dtype` holds exactly; where `keep` (bool, the parameter's shape) is false they
    are zero. `keep` is None where no mask was there before.

    The free values are an unrestricted parameter; it is rounded to the nearest (of two, the even one), and gradients
    pass straight through except where the value was beyond the largest finite one.
    """

    keep: Tensor | None = None
    kind: str = ""
    dtype: ClassVar[torch.dtype]

    def free(self, parameter: Tensor) -> Tensor:
        return parameter.clone()

    def value(self, free: Tensor) -> Tensor:
        largest = torch.finfo(self.dtype).max
        clipped = free.clamp(-largest, largest)
        rounded = clipped.detach().to(self.dtype).float() + (clipped - clipped.detach())
        return rounded if self.keep is None else torch.where(self.keep.to(free.device), rounded, 0.0)

    def select(self: Own, dim: int, kept: Tensor) -> Own:
        return type(self)(None if self.keep is None else self.keep.index_select(dim, kept))

    def tensors(self) -> dict[str, Tensor]:
        return {} if self.keep is None else {"keep": self.keep}

    @classmethod
    def read(cls: type[Own], tensors: Mapping[str, Tensor], shape: torch.Size) -> Own:
        if not tensors:
            return cls()
        (keep,) = parts(tensors, keep=torch.bool)
        if keep.shape != shape:
            raise ValueError("it has another shape")
        return cls(keep)


@dataclass(frozen=True)
class Float16(Half):
    """IEEE 754 binary16: 11 significant bits, magnitudes up to 65,504, evenly spaced below 2⁻¹⁴."""

    kind: str = "float16"
    dtype: ClassVar[torch.dtype] = torch.float16


@dataclass(frozen=True)
class BFloat16(Half):
    """The upper half of a float32: 8 significant bits, its range."""

    kind: str = "bfloat16"
    dtype: ClassVar[torch.dtype] = torch.bfloat16
