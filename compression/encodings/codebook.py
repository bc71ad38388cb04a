"""Entries that share a few values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from compression.encodings.encoding import parts

MOST_VALUES = 1 << 24
"""Of all codebooks of a parameter, where it has fewer entries than that."""


@dataclass(frozen=True)
class Codebook:
    """Entries with the same code share one value (Han et al. 2016); those with code -1 are zero, and stay so.

    `codes`: int64, the parameter's shape. `rows`: int64, one codebook's number for each slice along the first axis, or
    None: one codebook for the whole parameter (numbers that are all 0 become None). The free values are the codebooks,
    one after the other, flat; each gets the sum of its members' gradients, and the nearest ones to a parameter are its
    members' means.
    """

    codes: Tensor
    rows: Tensor | None = None
    kind: str = "codebook"

    def __post_init__(self) -> None:
        if self.rows is not None and not bool(self.rows.any()):
            object.__setattr__(self, "rows", None)

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
        codes, *others = parts(tensors, **wanted)
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


def _closed_up(numbers: Tensor) -> Tensor:
    """The same order without gaps, from 0 on; -1 stays."""
    places: Tensor = torch.unique(numbers, return_inverse=True)[1]
    return places - int(bool((numbers < 0).any()))
