"""k-means of numbers, which lie on a line: sorted once, each of Lloyd's steps takes k binary searches.

Linear initialisation: centroids evenly between the smallest and the largest number, which keeps the few large weights
that matter most (Han et al. 2016, section 3.2).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MOST_STEPS = 300


def cluster(values: NDArray[np.floating], count: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """At most `count` centroids, ascending, and for each of the `values` (one axis, at least one) its centroid's
    number. Every centroid is the mean of its members; a value halfway between two belongs to the upper one."""
    ordered = np.sort(values.astype(np.float64))
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    centroids = np.unique(np.linspace(ordered[0], ordered[-1], count))
    ends = _ends(ordered, centroids)
    for _ in range(MOST_STEPS):
        sizes = np.diff(ends)
        # A centroid without members stays where it is: its neighbours may leave it some later.
        centroids = np.where(sizes > 0, np.diff(sums[ends]) / np.maximum(sizes, 1), centroids)
        moved = _ends(ordered, centroids)
        if np.array_equal(moved, ends):
            break
        ends = moved
    centroids = centroids[np.diff(_ends(ordered, centroids)) > 0]
    return centroids, np.searchsorted(_borders(centroids), values.astype(np.float64), side="right").astype(np.int64)


def _borders(centroids: NDArray[np.float64]) -> NDArray[np.float64]:
    return (centroids[1:] + centroids[:-1]) / 2


def _ends(ordered: NDArray[np.float64], centroids: NDArray[np.float64]) -> NDArray[np.int64]:
    """Where each centroid's members begin in the sorted values, and where the last one's end."""
    inner = np.searchsorted(ordered, _borders(centroids), side="left")
    return np.concatenate([[0], inner, [len(ordered)]])
