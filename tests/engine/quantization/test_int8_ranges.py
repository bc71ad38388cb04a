"""Ranges from streamed histograms, against the same taken from all values at once, and against ONNX Runtime's own."""

from __future__ import annotations

import math

import numpy as np
import pytest
from onnxruntime.quantization.calibrate import HistogramCollector

from compression.quantization.int8.histogram import BINS, Histogram
from compression.quantization.int8.ranges import Affine, affine, divergence, entropy, mse, percentile, range_of


def histogram(values, batch=997):
    found = Histogram()
    for start in range(0, len(values), batch):
        found.add(values[start : start + batch])
    return found


def drawn(kind, count=60_000):
    random = np.random.default_rng(3)
    if kind == "relu":
        return np.maximum(random.normal(size=count), 0).astype(np.float32)
    if kind == "tails":
        return (random.standard_t(3, size=count) * 0.7 + 0.2).astype(np.float32)
    return random.normal(0.4, 1.3, size=count).astype(np.float32)


KINDS = ("relu", "tails", "normal")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [1000, 60_000])
def test_batches_count_as_all_at_once(kind, batch):
    values = np.sort(drawn(kind))  # the range grows with every batch
    found = histogram(values, batch)
    assert found.counts.sum() == len(values)
    assert (found.low, found.high) == (values.min(), values.max())
    assert math.log2(found.reach).is_integer()
    assert np.abs(values).max() < found.reach <= 2 * np.abs(values).max()
    np.testing.assert_array_equal(found.counts, np.histogram(values.astype(np.float64), found.edges)[0])
    assert found.moved.sum() == np.count_nonzero(values)


def test_what_comes_before_the_first_value_that_is_not_zero_counts():
    found = Histogram()
    found.add(np.zeros(7))
    assert range_of(found, "mse") == (0, 0)
    found.add(np.array([-0.75, 3.0]))
    assert found.counts.sum() == 9
    assert found.counts[BINS // 2] == found.zeros == 7
    with pytest.raises(ValueError, match="finite"):
        found.add(np.array([np.inf]))


def test_memory_stays_flat():
    found = Histogram()
    for power in range(-30, 30):
        found.add(np.full(10, 2.0**power))
    assert found.counts.shape == (BINS,)
    assert found.counts.sum() == 600


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("percent", [99.0, 99.9])
def test_percentile_is_that_of_all_values(kind, percent):
    values = drawn(kind)
    found = histogram(values)
    low, high = percentile(found, percent)
    tail = (100 - percent) / 2
    wanted = np.percentile(values, [tail, 100 - tail])
    np.testing.assert_allclose([low, high], wanted, rtol=0.02, atol=2 * found.width)
    theirs = HistogramCollector("percentile", False, 8192, 256, percent, "same")
    theirs.collect({"x": [values]})
    ends = [float(np.asarray(end).reshape(-1)[0]) for end in theirs.compute_percentile()["x"][:2]]
    if kind != "relu":  # theirs give a tail of zeros a bin's width
        np.testing.assert_allclose([low, high], ends, rtol=0.02, atol=2 * found.width)


def squared_error(values, low, high):
    """By the definition, over all values: u8 with zero a level."""
    low, high = min(low, 0), max(high, 0)
    scale = (high - low) / 255
    zero = round(-low / scale)
    levels = np.clip(np.round(values / scale) + zero, 0, 255)
    return float(((values - (levels - zero) * scale) ** 2).sum())


@pytest.mark.parametrize("kind", KINDS)
def test_mse_is_as_good_as_an_exhaustive_search_over_all_values(kind):
    values = drawn(kind, 20_000).astype(np.float64)
    low, high = mse(histogram(values))
    shares = np.linspace(0.1, 1, 40)
    lows = shares if values.min() < 0 else [1.0]
    best = min(squared_error(values, a * values.min(), b * values.max()) for a in lows for b in shares)
    assert squared_error(values, low, high) <= 1.03 * best
    if kind == "tails":
        assert squared_error(values, low, high) < 0.97 * squared_error(values, values.min(), values.max())


def divergence_of_values(values, low, high, edges):
    """By the definition, over all values: those outside go to the ends, each level's share is spread over its bins."""
    values = values[values != 0]
    scale = np.float32((high - low) / 255)
    zero = np.rint(-low / scale)
    inside = [index for index in range(len(edges) - 1) if edges[index + 1] > low and edges[index] < high]
    first, last = edges[inside[0]], edges[inside[-1] + 1]
    clipped = np.histogram(np.clip(values, first, np.nextafter(last, -np.inf)), edges)[0][inside].astype(float)
    plain = np.histogram(values, edges)[0][inside].astype(float)
    by_level = {}
    for place, index in enumerate(inside):
        level = np.clip(np.rint((edges[index] + edges[index + 1]) / 2 / scale) + zero, 0, 255)
        by_level.setdefault(level, []).append(place)
    q = np.zeros(len(inside))
    for places in by_level.values():
        filled = [place for place in places if plain[place]]
        for place in filled:
            q[place] = plain[places].sum() / len(filled)
    p, q = clipped / clipped.sum(), q / q.sum()
    return sum(a * math.log(a / max(b, 1e-9)) for a, b in zip(p, q, strict=True) if a)


@pytest.mark.parametrize("kind", KINDS)
def test_entropy_is_the_least_divergence_of_its_windows(kind):
    values = drawn(kind, 20_000).astype(np.float64)
    found = histogram(values)
    low, high = min(found.low, 0.0), max(found.high, 0.0)
    for share in (1.0, 0.6, 0.3):
        wanted = divergence_of_values(values, share * low, share * high, found.edges)
        assert divergence(found, share * low, share * high) == pytest.approx(wanted, rel=1e-6, abs=1e-9)
    best = divergence(found, *entropy(found))
    assert all(best <= divergence(found, share * low, share * high) + 1e-12 for share in (1.0, 0.8, 0.5, 0.3))


def test_entropy_cuts_a_lone_outlier_off_as_theirs_does():
    values = np.concatenate([np.random.default_rng(0).normal(size=50_000), [40.0]]).astype(np.float32)
    _, high = entropy(histogram(values))
    theirs = HistogramCollector("entropy", False, 2048, 128, 99.99, "same")
    theirs.collect({"x": [values]})
    end = float(np.asarray(theirs.compute_entropy()["x"][1]).reshape(-1)[0])
    assert 2 < high < 20
    assert 2 < end < 20


def test_levels_hold_zero():
    assert affine(0.0, 0.0) == Affine(1.0, 0)
    assert affine(2.0, 51.0) == Affine(pytest.approx(0.2), 0)
    both = affine(-1.0, 3.0)
    assert both.rounded(np.array([0.0])) == 0
    assert both.zero_point == 64
    np.testing.assert_allclose(both.rounded(np.array([-9.0, 9.0])), [-1, 3], atol=both.scale)
