"""What every encoding does, and what one does that is learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor


class Encoding(Protocol):
    """`free(parameter)`: the free values whose parameter is nearest to the one given. `value(free)`: the parameter,
    differentiable in `free`. `select` follows a structural cut: the slices `kept` along `dim` remain. `tensors` is
    what a file keeps, and `read` (of the class) takes it back: ValueError if it doesn't fit the parameter's shape."""

    @property
    def kind(self) -> str: ...

    def free(self, parameter: Tensor) -> Tensor: ...

    def value(self, free: Tensor) -> Tensor: ...

    def select(self, dim: int, kept: Tensor) -> Encoding: ...

    def tensors(self) -> dict[str, Tensor]: ...

    @classmethod
    def read(cls, tensors: Mapping[str, Tensor], shape: torch.Size) -> Encoding: ...


class Learned(Protocol):
    """An encoding that is itself learned while a run lasts. `penalty(free)` is added to the loss of each step;
    `settled(free)`, of free values on any device, is the encoding that the trained network has."""

    def free(self, parameter: Tensor) -> Tensor: ...

    def value(self, free: Tensor) -> Tensor: ...

    def penalty(self, free: Tensor) -> Tensor: ...

    def settled(self, free: Tensor) -> Encoding: ...


def parts(tensors: Mapping[str, Tensor], **dtypes: torch.dtype) -> list[Tensor]:
    """The tensors of these names and types, all of them and no other."""
    if set(tensors) != set(dtypes):
        raise ValueError(f"it consists of {', '.join(dtypes)}")
    if any(tensors[name].dtype != dtype for name, dtype in dtypes.items()):
        raise ValueError("a part has another type")
    return [tensors[name] for name in dtypes]
