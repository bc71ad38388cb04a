"""What a parameter is restricted to: a mask, a codebook of shared values, a grid of evenly spaced ones.

An encoding maps *free* values to the parameter. Training moves the free values, by gradients that come through that
map; the parameter itself obeys the encoding at every moment, so whatever looks at the network sees what is delivered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

MOST_VALUES = 1 << 24
"""Of all codebooks of a parameter, where it has fewer entries than that."""


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
        (keep,) = _parts(tensors, keep=torch.bool)
        if keep.shape != shape:
            raise ValueError("it has another shape")
        return cls(keep)


@dataclass(frozen=True)
class Codebook:
    """Entries with the same code share one value (Han et al. 2016); those with code -1 are zero, and stay so.

    `codes`: int64, the parameter's shape. `rows`: int64, one codebook's number for each slice along the first axis, or
    None: one codebook for the whole parameter. The free values are the codebooks, one after the other, flat; each
    gets the sum of its members' gradients, and the nearest ones to a parameter are its members' means.
    """

    codes: Tensor
    rows: Tensor | None = None
    kind: str = "codebook"

    def places(self) -> Tensor:
        """Where each entry's value stands in the flat codebooks, -1 for zeros; int64, the parameter's shape."""
        if self.rows is None:
            return self.codes
        first = self.rows * self.size()
        return torch.where(self.codes < 0, -1, self.codes + first.reshape(-1, *[1] * (self.codes.dim() - 1)))

    def size(self) -> int:
        """Values in one codebook."""
        return max(1, int(self.codes.max()) + 1) if self.codes.numel() else 1

    def count(self) -> int:
        """Codebooks."""
        return 1 if self.rows is None or not self.rows.numel() else int(self.rows.max()) + 1

    def free(self, parameter: Tensor) -> Tensor:
        places = self.places().to(parameter.device).flatten() + 1
        # In float64 the mean of equal values is that value: a parameter that obeys already doesn't change.
        sums = torch.zeros(self.size() * self.count() + 1, dtype=torch.float64, device=parameter.device)
        sums.index_add_(0, places, parameter.detach().flatten().double())
        counts = torch.bincount(places, minlength=len(sums)).clamp_min(1)
        return (sums / counts)[1:].to(parameter.dtype)

    def value(self, free: Tensor) -> Tensor:
        return torch.cat([free.new_zeros(1), free])[self.places().to(free.device) + 1]

    def select(self, dim: int, kept: Tensor) -> Codebook:
        rows = self.rows.index_select(0, kept) if self.rows is not None and dim == 0 else self.rows
        # Numbered anew: a file has no more values than entries, and no more codebooks than slices.
        codes = self.codes.index_select(dim, kept)
        return Codebook(_closed_up(codes), None if rows is None else _closed_up(rows))

    def tensors(self) -> dict[str, Tensor]:
        return {"codes": self.codes} if self.rows is None else {"codes": self.codes, "rows": self.rows}

    @classmethod
    def read(cls, tensors: Mapping[str, Tensor], shape: torch.Size) -> Codebook:
        wanted = {name: torch.int64 for name in ("codes", "rows") if name == "codes" or name in tensors}
        codes, *others = _parts(tensors, **wanted)
        if codes.shape != shape:
            raise ValueError("it has another shape")
        if codes.numel() and not -1 <= codes.min() <= codes.max() < codes.numel():
            raise ValueError("codes are out of range")
        rows = others[0] if others else None
        if rows is not None:
            if rows.shape != shape[:1]:
                raise ValueError("it needs a codebook's number for each slice of the first axis")
            if rows.numel() and not 0 <= rows.min() <= rows.max() < rows.numel():
                raise ValueError("numbers of codebooks are out of range")
        found = cls(codes, rows)
        if found.count() * found.size() > max(codes.numel(), MOST_VALUES):
            raise ValueError("it has more values than memory is there for")
        return found


@dataclass(frozen=True)
class Grid:
    """Entries are whole multiples, from `low` to `high`, of a step: scalar, or one for each slice of the first axis.

    The free values are an unrestricted parameter; it is rounded to the grid, and gradients pass straight through the
    rounding (Bengio et al. 2013) except where the value was clipped.
    """

    step: Tensor
    low: int
    high: int
    kind: str = "grid"

    def free(self, parameter: Tensor) -> Tensor:
        return parameter.clone()

    def levels(self, parameter: Tensor) -> Tensor:
        """The integers that `parameter` stands for, as floats; gradients pass straight through."""
        scaled = parameter / self._steps(parameter)
        clipped = scaled.clamp(self.low, self.high)
        return clipped + (clipped.round() - clipped).detach()

    def value(self, free: Tensor) -> Tensor:
        return self.levels(free) * self._steps(free)

    def select(self, dim: int, kept: Tensor) -> Grid:
        step = self.step.index_select(0, kept) if self.step.dim() and dim == 0 else self.step
        return Grid(step, self.low, self.high)

    def tensors(self) -> dict[str, Tensor]:
        return {"step": self.step, "range": torch.tensor([self.low, self.high])}

    @classmethod
    def read(cls, tensors: Mapping[str, Tensor], shape: torch.Size) -> Grid:
        step, limits = _parts(tensors, step=torch.float32, range=torch.int64)
        if step.shape not in {torch.Size(), shape[:1]}:
            raise ValueError("it needs one step, or one for each slice of the first axis")
        if not bool((torch.isfinite(step) & (step > 0)).all()):
            raise ValueError("its steps aren't finite numbers above zero")
        if limits.shape != (2,) or not -(2**24) <= int(limits[0]) <= 0 <= int(limits[1]) <= 2**24:
            raise ValueError("its range has no zero, or is too wide for float32")
        return cls(step, int(limits[0]), int(limits[1]))

    def _steps(self, parameter: Tensor) -> Tensor:
        step = self.step.to(parameter.device)
        return step.reshape(-1, *[1] * (parameter.dim() - 1)) if step.dim() else step


ENCODINGS: Mapping[str, type[Mask] | type[Codebook] | type[Grid]] = {"mask": Mask, "codebook": Codebook, "grid": Grid}


def _closed_up(numbers: Tensor) -> Tensor:
    """The same order without gaps, from 0 on; -1 stays."""
    places: Tensor = torch.unique(numbers, return_inverse=True)[1]
    return places - int(bool((numbers < 0).any()))


def _parts(tensors: Mapping[str, Tensor], **dtypes: torch.dtype) -> list[Tensor]:
    """The tensors of these names and types, all of them and no other."""
    if set(tensors) != set(dtypes):
        raise ValueError(f"it consists of {', '.join(dtypes)}")
    if any(tensors[name].dtype != dtype for name, dtype in dtypes.items()):
        raise ValueError("a part has another type")
    return [tensors[name] for name in dtypes]
