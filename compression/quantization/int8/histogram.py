"""What an activation's values are, in memory that doesn't grow with the samples."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 8192
Floats = NDArray[np.float64]


class Histogram:
    """Counts in BINS even bins over [−reach, reach), and the exact extremes. `reach` is a power of two: where a value
    lies beyond, bins are merged two by two, which moves no value across a border. So the outcome is that of all values
    counted at once, whatever the batches were. `zeros`: how many of the values are exactly zero, which rounding never
    moves."""

    def __init__(self) -> None:
        self.low, self.high = math.inf, -math.inf
        self.reach = 0.0
        self.zeros = 0
        self.counts: NDArray[np.int64] = np.zeros(BINS, np.int64)

    def add(self, values: NDArray[Any]) -> None:
        """Counts the values of an array of any shape. ValueError: one isn't finite."""
        flat = np.asarray(values, np.float64).reshape(-1)
        if not flat.size:
            return
        low, high = float(flat.min()), float(flat.max())
        if not math.isfinite(low) or not math.isfinite(high):
            raise ValueError("values that aren't finite")
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.zeros += int(np.count_nonzero(flat == 0))
        self._widen(max(abs(low), abs(high)))
        if self.reach == 0:
            self.counts[BINS // 2] += flat.size  # all of them zero, as far as is known
            return
        places = np.floor(flat / self.width).astype(np.int64) + BINS // 2
        self.counts += np.bincount(places, minlength=BINS)

    @property
    def moved(self) -> NDArray[np.int64]:
        """The counts without the exact zeros."""
        counts = self.counts.copy()
        counts[BINS // 2] -= self.zeros
        return counts

    @property
    def width(self) -> float:
        return 2 * self.reach / BINS

    @property
    def edges(self) -> Floats:
        edges: Floats = np.arange(-BINS // 2, BINS // 2 + 1, dtype=np.float64) * self.width
        return edges

    @property
    def centres(self) -> Floats:
        centres: Floats = self.edges[:-1] + self.width / 2
        return centres

    def _widen(self, top: float) -> None:
        wanted = 0.0 if top == 0 else math.ldexp(1.0, math.frexp(top)[1])  # the power of two above it
        if self.reach == 0:
            self.reach = wanted
        while self.reach < wanted:
            merged = self.counts.reshape(-1, 2).sum(1)
            self.counts = np.zeros(BINS, np.int64)
            self.counts[BINS // 4 : 3 * BINS // 4] = merged
            self.reach *= 2
