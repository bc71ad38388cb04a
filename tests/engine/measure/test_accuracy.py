import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlxtend.evaluate import mcnemar as reference_mcnemar
from scipy.stats import binomtest

from compression.measure import accuracy


@pytest.mark.parametrize(("count", "n"), [(0, 10), (10, 10), (1, 1), (81, 263), (986, 1000), (1, 10_000)])
def test_wilson_is_scipys(count: int, n: int):
    expected = binomtest(count, n).proportion_ci(method="wilson")
    assert accuracy.wilson(count, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_of_newcombes_example():
    # Newcombe 1998 (Stat. Med. 17:857), table I: 81 of 263.
    assert accuracy.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


@pytest.mark.parametrize(("count", "n"), [(-1, 4), (5, 4), (0, 0)])
def test_no_share(count: int, n: int):
    with pytest.raises(ValueError, match="no share"):
        accuracy.wilson(count, n)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_binomial_test(lost: int, won: int):
    expected = binomtest(lost, lost + won).pvalue if lost + won else 1.0
    assert accuracy.mcnemar(lost, won) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_is_mlxtends():
    _, expected = reference_mcnemar(np.array([[80, 12], [3, 5]]), exact=True)
    assert accuracy.mcnemar(12, 3) == pytest.approx(expected)


def test_mcnemar_of_many_changes():
    assert accuracy.mcnemar(1100, 1000) == pytest.approx(binomtest(1100, 2100).pvalue, rel=1e-6)


def test_newcombe_by_hand():
    # 50 samples: 36 both, 12 only the original, 2 only the compressed. Shares 0.96 and 0.76; Wilson's intervals
    # are scipy's; φ = (36·0 − 12·2) / √(48·2·38·12).
    before = binomtest(48, 50).proportion_ci(method="wilson")
    after = binomtest(38, 50).proportion_ci(method="wilson")
    phi = -24 / (48 * 2 * 38 * 12) ** 0.5
    left, right = 0.76 - after.low, before.high - 0.96
    down = (left**2 - 2 * phi * left * right + right**2) ** 0.5
    left, right = after.high - 0.76, 0.96 - before.low
    up = (left**2 - 2 * phi * left * right + right**2) ** 0.5
    assert accuracy.newcombe(36, 12, 2, 0) == pytest.approx((-0.2 - down, -0.2 + up), abs=1e-12)


def test_newcombe_covers_the_truth():
    random = np.random.default_rng(0)
    for cells in ([0.9, 0.04, 0.02, 0.04], [0.97, 0.01, 0.01, 0.01], [0.6, 0.1, 0.1, 0.2]):
        truth = cells[2] - cells[1]
        draws = random.multinomial(300, cells, size=2000)
        covered = [low <= truth <= high for low, high in itertools.starmap(accuracy.newcombe, draws.tolist())]
        assert np.mean(covered) > 0.93


def test_nothing_changed_still_has_a_width():
    low, high = accuracy.newcombe(100, 0, 0, 0)
    assert low < 0 < high


def test_classification_counts():
    logits = np.eye(12, dtype=np.float32)[[0, 1, 2, 3]]
    logits[3, 7] = 0.5
    found = accuracy.classification(logits, np.array([0, 1, 5, 7]))
    assert (found.top1.count, found.top1.n) == (2, 4)
    assert found.top5 is not None
    assert found.top5.count >= 3
    assert accuracy.classification(np.eye(3), np.array([0, 1, 2])).top5 is None


def test_top5_against_a_sort():
    random = np.random.default_rng(1)
    logits, labels = random.standard_normal((200, 20)), random.integers(0, 20, 200)
    wanted = sum(label in row.argsort()[-5:] for row, label in zip(logits, labels, strict=True))
    top5 = accuracy.classification(logits, labels).top5
    assert top5 is not None
    assert top5.count == wanted


def test_paired_counts():
    labels = np.array([0, 0, 0, 1])
    original = np.array([[1, 0], [1, 0], [0, 1], [1, 0]])
    compressed = np.array([[1, 0], [0, 1], [1, 0], [1, 0]])
    found = accuracy.compare_classification(original, compressed, labels)
    assert (found.lost, found.won, found.n, found.difference) == (1, 1, 4, 0.0)


def test_regression():
    targets = np.array([1.0, 2.0, 3.0, 4.0])
    outputs = np.array([[1.5], [2.0], [3.0], [4.0]])
    found = accuracy.regression(outputs, targets)
    assert found.mse == pytest.approx(0.0625)
    assert found.r2 == pytest.approx(1 - 0.0625 / 1.25)
    assert accuracy.regression(outputs, np.ones(4)).r2 is None


def test_paired_error():
    random = np.random.default_rng(2)
    targets = random.standard_normal((500, 2))
    original, compressed = targets + 0.1, targets + 0.2 * random.standard_normal((500, 2))
    found = accuracy.compare_regression(original, compressed, targets)
    change = ((compressed - targets) ** 2).mean(1) - 0.01
    assert found.low is not None
    assert found.difference == pytest.approx(change.mean())
    assert found.low == pytest.approx(change.mean() - 1.959964 * change.std(ddof=1) / 500**0.5, rel=1e-5)
    assert accuracy.compare_regression(original[:1], compressed[:1], targets[:1]).low is None


def test_fidelity():
    reference = np.array([[3.0, 4.0], [0.0, 0.0]])
    same = accuracy.fidelity(reference, reference)
    assert (same.cosine, same.sqnr_db) == (1.0, accuracy.SQNR_OF_EQUALS_DB)
    other = accuracy.fidelity(reference, np.array([[4.0, 3.0], [0.0, 1.0]]))
    assert other.agreement is not None
    assert (other.agreement.count, other.commonest) == (0, 0.5)
    assert other.cosine == pytest.approx((24 / 25 + 0) / 2)
    assert other.sqnr_db == pytest.approx(10 * np.log10(25 / 3))
    assert accuracy.fidelity(np.ones((3, 1)), np.ones((3, 1))).agreement is None
