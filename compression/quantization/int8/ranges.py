"""From a histogram to the range that 256 levels cover.

Percentile: tails of equal share cut off both sides. MSE: least squared error of rounding and clipping together.
Entropy: least Kullback–Leibler divergence of the rounded from the clipped distribution (Migacz, "8-bit inference with
TensorRT", GTC 2017). Exact zeros, half of what a ReLU gives, are
always a level: they count for neither of the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from compression.quantization.int8.histogram import Floats, Histogram

Calibration = Literal["minmax", "percentile", "mse", "entropy"]
LEVELS = 256
TRIED = 100
LEAST_SHARE = 0.05
"""Of the whole range: no window is narrower."""
NEXT_TO_NOTHING = 1e-9
"""What a probability of zero counts as in a divergence."""


@dataclass(frozen=True)
class Affine:
    """Unsigned bytes: value = (q − zero_point) · scale; zero is a level."""

    scale: float
    zero_point: int

    def rounded(self, values: Floats) -> Floats:
        """The values as the levels have them."""
        levels = np.clip(np.rint(values / self.scale) + self.zero_point, 0, LEVELS - 1)
        rounded: Floats = (levels - self.zero_point) * self.scale
        return rounded


def affine(low: float, high: float) -> Affine:
    """The levels of a range, which is stretched to hold zero."""
    low, high = min(low, 0.0), max(high, 0.0)
    # In float32, as the file holds it: levels are then what the runtime computes.
    scale = float(np.float32((high - low) / (LEVELS - 1)))
    if not scale >= np.finfo(np.float32).tiny:
        return Affine(1.0, 0)
    return Affine(scale, int(np.clip(np.rint(-low / scale), 0, LEVELS - 1)))


def range_of(histogram: Histogram, how: Calibration, percent: float = 99.99) -> tuple[float, float]:
    """(low, high). `percent` goes with percentile: the share of values within."""
    if how == "minmax" or histogram.reach == 0:
        return histogram.low, histogram.high
    if how == "percentile":
        return percentile(histogram, percent)
    return mse(histogram) if how == "mse" else entropy(histogram)


def percentile(histogram: Histogram, percent: float) -> tuple[float, float]:
    """Where (100 − percent) / 2 hundredths of the values lie below, and as many above; even within a bin."""
    tail = (100 - percent) / 200
    below = np.concatenate([[0], np.cumsum(histogram.counts)]) / histogram.counts.sum()
    first, last = np.flatnonzero(histogram.counts)[[0, -1]]
    steps = slice(first, last + 2)
    low, high = np.interp([tail, 1 - tail], below[steps], histogram.edges[steps])
    return max(float(low), histogram.low), min(float(high), histogram.high)


def mse(histogram: Histogram) -> tuple[float, float]:
    """The least Σ count · (value − rounded)²: both ends drawn in together, then each alone."""
    moved = histogram.moved
    filled = np.flatnonzero(moved)
    values, counts = histogram.centres[filled], moved[filled].astype(np.float64)

    def error(low: float, high: float) -> float:
        return float((counts * (values - affine(low, high).rounded(values)) ** 2).sum())

    return _least(error, histogram)


def entropy(histogram: Histogram) -> tuple[float, float]:
    """The least divergence among windows in which a level is two bins or more: none is told apart in fewer."""

    def error(low: float, high: float) -> float:
        return divergence(histogram, low, high) if high - low >= 2 * LEVELS * histogram.width else math.inf

    return _least(error, histogram)


def _least(error: Callable[[float, float], float], histogram: Histogram) -> tuple[float, float]:
    """The range of the least error: first both ends drawn in together, then each alone."""
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    shares = [float(share) for share in np.linspace(1, LEAST_SHARE, TRIED)]
    together = min(shares, key=lambda share: error(share * low, share * high))
    both = low < 0 < high
    low, high = together * low, together * high
    if both:
        wider = [share / together for share in shares]  # either end may have gone too far
        low = min(wider, key=lambda share: error(share * low, high)) * low
        high = min(wider, key=lambda share: error(low, share * high)) * high
    return low, high


def divergence(histogram: Histogram, low: float, high: float) -> float:
    """Of what is left within the window (what lies outside is clipped to its ends) from the same spread evenly over the
    filled bins of each level, in nats."""
    levels = affine(low, high)
    places = np.clip(np.rint(histogram.centres / levels.scale) + levels.zero_point, 0, LEVELS - 1).astype(np.int64)
    inside = np.flatnonzero((histogram.edges[1:] > low) & (histogram.edges[:-1] < high))
    every = histogram.moved.astype(np.float64)
    counts, places = every[inside], places[inside]
    filled = counts > 0
    mass = np.bincount(places, counts, LEVELS)
    shared_by = np.bincount(places, filled, LEVELS)
    each = np.divide(mass, shared_by, out=np.zeros(LEVELS), where=shared_by > 0)
    spread = np.where(filled, each[places], 0.0)
    clipped = counts.copy()
    clipped[0] += every[: inside[0]].sum()
    clipped[-1] += every[inside[-1] + 1 :].sum()
    p, q = clipped / clipped.sum(), spread / spread.sum()
    some = p > 0
    return float((p[some] * np.log(p[some] / np.maximum(q[some], NEXT_TO_NOTHING))).sum())
