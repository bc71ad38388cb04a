"""One-dimensional k-means against Lloyd's algorithm written out and against the exact optimum."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from compression.quantization.kmeans import cluster


def lloyd(values: NDArray[np.float64], count: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """By distances to every centroid, as a textbook has it."""
    centroids = np.linspace(values.min(), values.max(), count)
    for _ in range(1000):
        nearest = np.abs(values[:, None] - centroids).argmin(1)
        moved = np.array([values[nearest == k].mean() if (nearest == k).any() else c for k, c in enumerate(centroids)])
        if np.array_equal(moved, centroids):
            break
        centroids = moved
    used = np.unique(nearest)
    return centroids[used], np.searchsorted(used, nearest)


def least_error(values: NDArray[np.float64], count: int) -> float:
    """The smallest sum of squared distances that any `count` centroids have: by dynamic programming over the sorted
    values (Wang & Song 2011)."""
    ordered = np.sort(values)
    sums, squares = np.concatenate([[0.0], ordered.cumsum()]), np.concatenate([[0.0], (ordered**2).cumsum()])
    n = len(ordered)
    first, last = np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij")
    size = np.maximum(last - first, 1)
    within = np.where(last > first, squares[last] - squares[first] - (sums[last] - sums[first]) ** 2 / size, np.inf)
    np.fill_diagonal(within, 0.0)
    best = within[0]
    for _ in range(count - 1):
        best = (best[:, None] + within).min(0)
    return float(best[n])


def draw(seed: int, size: int = 400) -> NDArray[np.float64]:
    random = np.random.default_rng(seed)
    return np.concatenate([random.normal(size=size), random.laplace(scale=3, size=size // 4)])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [1, 2, 7, 16, 32])
def test_it_is_lloyds_algorithm_from_evenly_spaced_centroids(seed: int, count: int) -> None:
    values = draw(seed)
    centroids, codes = cluster(values, count)
    expected, nearest = lloyd(values, count)
    np.testing.assert_allclose(centroids, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(codes, nearest)


@pytest.mark.parametrize("seed", range(5))
def test_it_comes_near_the_exact_optimum_of_few_centroids_and_never_below_any(seed: int) -> None:
    """Of many centroids it doesn't: those that begin in the thin tails stay there."""
    values = draw(seed, 160)
    for count, most in ((2, 1.3), (4, 1.5), (32, np.inf)):
        centroids, codes = cluster(values, count)
        error = float(((values - centroids[codes]) ** 2).sum())
        optimum = least_error(values, count)
        assert optimum * (1 - 1e-9) <= error <= most * optimum


def test_every_centroid_is_the_mean_of_its_members_and_the_nearest() -> None:
    values = draw(9)
    centroids, codes = cluster(values, 12)
    assert bool((np.diff(centroids) > 0).all())
    np.testing.assert_array_equal(np.unique(codes), np.arange(len(centroids)))
    np.testing.assert_allclose(centroids, [values[codes == k].mean() for k in range(len(centroids))])
    np.testing.assert_array_equal(codes, np.abs(values[:, None] - centroids).argmin(1))


@pytest.mark.parametrize(
    ("values", "count", "expected"), [([3.0], 5, [3.0]), ([1, 1, 2], 8, [1, 2]), ([0, 9], 1, [4.5])]
)
def test_few_values_need_few_centroids(values: list[float], count: int, expected: list[float]) -> None:
    centroids, codes = cluster(np.array(values, np.float64), count)
    np.testing.assert_allclose(centroids, expected)
    assert len(codes) == len(values)
