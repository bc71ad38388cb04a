"""F1 and average precision against scikit-learn; the interval against simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score

from compression.measure import accuracy
from compression.measure.claims import f1_baseline_claims, f1_claim


def drawn(seed: int, n: int = 300, classes: int = 5, noise: float = 1.0, rate: float = 0.3):
    """Labels with frequencies of their own, and logits that know something of them; rounded, so that some are equal."""
    random = np.random.default_rng(seed)
    labels = random.random((n, classes)) < rate * np.linspace(0.5, 1.5, classes)
    logits = np.round(2 * labels - 1 + noise * random.standard_normal((n, classes)), 1)
    return logits.astype(np.float32), labels


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 60), classes=st.integers(1, 6))
def test_figures_are_scikit_learns(seed: int, n: int, classes: int):
    logits, labels = drawn(seed, n, classes)
    found = accuracy.multilabel(logits, labels)
    # scikit-learn takes one column for two-class labels: there the F1 of the positive ones is the micro F1.
    average = "micro" if classes > 1 else "binary"
    said = logits > 0
    if (said | labels).any():
        assert found.f1 == pytest.approx(f1_score(labels, said, average=average, zero_division=0))
    present = labels.any(0)
    if present.any():
        each = [average_precision_score(labels[:, k], logits[:, k]) for k in np.flatnonzero(present)]
        assert found.average_precision == pytest.approx(np.mean(each))
    else:
        assert found.average_precision is None


def test_the_order_of_scores_alone_decides_the_average_precision():
    logits, labels = drawn(1)
    ranked = accuracy.average_precision(logits, labels)
    assert accuracy.average_precision(1 / (1 + np.exp(-logits.astype(float))), labels) == pytest.approx(ranked)


def test_the_interval_covers_the_truth():
    truth = accuracy.multilabel(*drawn(0, n=400_000)).f1
    found = [accuracy.multilabel(*drawn(seed, n=250)) for seed in range(1, 801)]
    covered = np.mean([entry.low <= truth <= entry.high for entry in found])
    assert 0.93 <= covered <= 0.97


def test_the_paired_interval_covers_no_change_and_is_narrower():
    """Two networks of the same quality that err mostly on the same samples."""
    differences = []
    for seed in range(600):
        logits, labels = drawn(seed, n=250)
        noise = np.random.default_rng(seed + 10_000).standard_normal((2, *logits.shape))
        differences.append(accuracy.compare_multilabel(logits + 0.5 * noise[0], logits + 0.5 * noise[1], labels))
    covered = np.mean([entry.low <= 0 <= entry.high for entry in differences])
    assert 0.93 <= covered <= 0.97
    alone = accuracy.multilabel(*drawn(1, n=250))
    paired = accuracy.compare_multilabel(drawn(1, n=250)[0], drawn(1, n=250)[0] + 0.1, drawn(1, n=250)[1])
    assert paired.high - paired.low < alone.high - alone.low


def test_ends():
    labels = np.array([[True, False], [False, True]])
    perfect = accuracy.multilabel(np.where(labels, 1.0, -1.0), labels)
    assert (perfect.f1, perfect.low, perfect.high, perfect.average_precision) == (1.0, None, None, 1.0)
    silent = accuracy.multilabel(np.full((2, 2), -1.0), labels)
    assert (silent.f1, silent.low) == (0.0, None)
    nothing = accuracy.multilabel(np.full((2, 2), -1.0), np.zeros((2, 2), bool))
    assert (nothing.f1, nothing.average_precision) == (1.0, None)
    assert accuracy.compare_multilabel(labels[:1] * 2.0 - 1, labels[:1] * 1.0, labels[:1]).low is None


def test_claims():
    logits, labels = drawn(1)
    worse = accuracy.compare_multilabel(logits, -logits, labels)
    assert f1_claim(worse).verdict == "accuracy lost"
    assert f1_claim(accuracy.compare_multilabel(-logits, logits, labels)).verdict == "accuracy gained"
    assert f1_claim(accuracy.compare_multilabel(logits, logits, labels)).verdict == "no loss shown"
    assert f1_baseline_claims(accuracy.multilabel(logits, labels)) == []
    (claim,) = f1_baseline_claims(accuracy.multilabel(-logits, labels))
    assert claim.verdict == "at chance"
