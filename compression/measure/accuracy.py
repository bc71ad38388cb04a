"""Accuracy and fidelity from arrays of outputs, each share with its 95 % interval.

Sources: Wilson, J. Am. Stat. Assoc. 22 (1927) 209, for one share; Newcombe, Stat. Med. 17 (1998) 2635, method 10, for
the difference of two shares of the same samples; McNemar, Psychometrika 12 (1947) 153, exact form, for its p-value;
Cochran, Sampling Techniques, 3rd ed. (1977), section 2.11, for the variance of a ratio of two means: F1 is one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]
Decisions = NDArray[np.bool_]
Z95 = 1.959963984540054
TOP5_FROM_CLASSES = 10
SQNR_OF_EQUALS_DB = 200.0  # beyond what float32 can tell apart; JSON has no infinity


@dataclass(frozen=True)
class Share:
    """`count` of `n` samples, and the Wilson 95 % interval of the share."""

    value: float
    low: float
    high: float
    count: int
    n: int


@dataclass(frozen=True)
class Classification:
    """`top5` from ten classes up. `chance`: the share of the commonest label, which guessing reaches."""

    top1: Share
    top5: Share | None
    chance: float


@dataclass(frozen=True)
class PairedAccuracy:
    """The compressed network against the original on the same samples.

    `lost`: samples that only the original gets right (McNemar's b); `won`: only the compressed one (c). `difference` is
    compressed − original, a share, with Newcombe's 95 % interval; `p_value` is two-sided and exact.
    """

    lost: int
    won: int
    n: int
    difference: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class MultiLabel:
    """`f1`: of all decisions together (micro), each label said where its logit is above 0 (a probability of ½), with
    its 95 % interval (none where it is 0 or 1, or for a single sample). `average_precision`: mean over the classes that
    occur (macro), None if none does. `chance`: the F1 of always saying every label."""

    f1: float
    low: float | None
    high: float | None
    average_precision: float | None
    chance: float
    n: int


@dataclass(frozen=True)
class PairedF1:
    """`difference` of the F1 on the same samples, compressed − original, with its 95 % interval (none for a single
    sample)."""

    difference: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Regression:
    """`mse` over all samples and targets; `r2` = 1 − mse / variance, None where the targets don't vary."""

    mse: float
    r2: float | None
    n: int


@dataclass(frozen=True)
class PairedError:
    """`difference` of the mean squared errors, compressed − original, with the 95 % interval of the paired mean (none
    for a single sample)."""

    difference: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Fidelity:
    """Outputs against the original's. `agreement` of the top-1 (None where an output is a single number), mean cosine
    similarity of a sample's outputs, and the signal-to-noise ratio Σ reference² / Σ (difference)² in dB. `commonest`:
    the share of samples with the original's commonest top-1, which always giving that one answer agrees on."""

    agreement: Share | None
    cosine: float
    sqnr_db: float
    commonest: float | None = None


def share(count: int, n: int) -> Share:
    """Wilson's score interval of `count` successes in `n` > 0 trials."""
    low, high = wilson(count, n)
    return Share(count / n, low, high, count, n)


def wilson(count: int, n: int) -> tuple[float, float]:
    """(low, high) of the 95 % score interval, without continuity correction."""
    if not 0 <= count <= n or n == 0:
        raise ValueError(f"{count} of {n} is no share")
    p, z2 = count / n, Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    # Exact at the ends, where rounding would leave 1e-17.
    return (0.0 if count == 0 else centre - half), (1.0 if count == n else centre + half)


def classification(logits: Array, labels: Array) -> Classification:
    """Logits N × C against class indices N. A label that is no class of the network counts as wrong."""
    scores, wanted = _logits(logits), labels.astype(np.int64)
    n, classes = scores.shape
    top1 = share(int((scores.argmax(1) == wanted).sum()), n)
    top5 = None
    if classes >= TOP5_FROM_CLASSES:
        best = np.argpartition(scores, classes - 5, axis=1)[:, -5:]
        top5 = share(int((best == wanted[:, None]).any(1).sum()), n)
    return Classification(top1, top5, float(np.unique(wanted, return_counts=True)[1].max() / n))


def compare_classification(original: Array, compressed: Array, labels: Array) -> PairedAccuracy:
    """Both networks' logits (N × C) of the same samples against class indices N."""
    before = _logits(original).argmax(1) == labels
    after = _logits(compressed).argmax(1) == labels
    both, lost = int((before & after).sum()), int((before & ~after).sum())
    won, neither = int((~before & after).sum()), int((~before & ~after).sum())
    low, high = newcombe(both, lost, won, neither)
    n = len(before)
    return PairedAccuracy(lost, won, n, (won - lost) / n, low, high, mcnemar(lost, won))


def newcombe(both: int, lost: int, won: int, neither: int) -> tuple[float, float]:
    """(low, high) of the 95 % interval of (won − lost) / n: Newcombe's method 10, the hybrid of two Wilson intervals
    with the correlation φ. Unlike Wald's interval it keeps its width where nothing, or everything, changed."""
    n = both + lost + won + neither
    after, before = (both + won) / n, (both + lost) / n
    after_low, after_high = wilson(both + won, n)
    before_low, before_high = wilson(both + lost, n)
    phi = _phi(both, lost, won, neither)
    down = _hybrid(after - after_low, before_high - before, phi)
    up = _hybrid(after_high - after, before - before_low, phi)
    difference = (won - lost) / n
    return difference - down, difference + up


def mcnemar(lost: int, won: int) -> float:
    """Two-sided p-value of the exact McNemar test: both kinds of change are equally likely, binomial(lost + won, ½)."""
    changed = lost + won
    tail, ways = 0, 1  # exact integers: 2**changed overflows a float from 1,024 changes on
    for k in range(min(lost, won) + 1):
        tail += ways
        ways = ways * (changed - k) // (k + 1)
    return min(1.0, _ratio(2 * tail, changed))


def multilabel(logits: Array, labels: Array) -> MultiLabel:
    """Logits N × … against labels of the same shape, 0 or 1."""
    said, true = _decisions(logits, labels)
    f1, influence = _f1(said, true)
    half = _half_width(influence)
    chance, _ = _f1(np.ones_like(true), true)
    precision = average_precision(_flat(logits), true)
    if half is None or half == 0:
        return MultiLabel(f1, None, None, precision, chance, len(true))
    return MultiLabel(f1, max(0.0, f1 - half), min(1.0, f1 + half), precision, chance, len(true))


def compare_multilabel(original: Array, compressed: Array, labels: Array) -> PairedF1:
    """Both networks' logits of the same samples against the labels of the same shape."""
    before, first = _f1(*_decisions(original, labels))
    after, second = _f1(*_decisions(compressed, labels))
    half = _half_width(second - first)
    if half is None:
        return PairedF1(after - before, None, None, len(labels))
    return PairedF1(after - before, after - before - half, after - before + half, len(labels))


def average_precision(scores: Array, labels: Array) -> float | None:
    """Macro average precision of scores N × C: the mean over classes of Σ (Rᵢ − Rᵢ₋₁) Pᵢ, where precision P and recall
    R are taken at every distinct score from the highest down (no interpolation). Classes without a sample are left out;
    None: no class has one. It depends on the order of the scores alone."""
    found = []
    for score, label in zip(scores.T, labels.T, strict=True):
        total = int(label.sum())
        if not total:
            continue
        order = np.argsort(-score, kind="stable")
        ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))  # equal scores are said together
        hits = np.cumsum(label[order])[ends]
        gained = np.diff(hits, prepend=0)
        found.append(float((gained * (hits / (ends + 1))).sum() / total))
    return float(np.mean(found)) if found else None


def _f1(said: Decisions, true: Decisions) -> tuple[float, NDArray[np.float64]]:
    """Micro F1 = 2 TP / (2 TP + FP + FN) = Σ aᵢ / Σ bᵢ over samples, and how much each sample moves it:
    (aᵢ − F1 bᵢ) / b̄, whose mean is zero. Where nothing is said and nothing true, F1 is 1."""
    both = 2.0 * (said & true).sum(1)
    either = (said.sum(1) + true.sum(1)).astype(np.float64)
    if not either.sum():
        return 1.0, np.zeros(len(said))
    value = float(both.sum() / either.sum())
    return value, (both - value * either) / either.mean()


def _half_width(influence: NDArray[np.float64]) -> float | None:
    n = len(influence)
    return Z95 * float(influence.std(ddof=1)) / math.sqrt(n) if n > 1 else None


def _decisions(logits: Array, labels: Array) -> tuple[Decisions, Decisions]:
    return _flat(logits) > 0, labels.reshape(len(labels), -1).astype(bool)


def regression(outputs: Array, targets: Array) -> Regression:
    """Outputs against float targets with the same number of values a sample."""
    wanted = targets.astype(np.float64).reshape(len(targets), -1)
    error = (_flat(outputs) - wanted) ** 2
    mse, variance = float(error.mean()), float(((wanted - wanted.mean(0)) ** 2).mean())
    return Regression(mse, 1 - mse / variance if variance > 0 else None, len(wanted))


def compare_regression(original: Array, compressed: Array, targets: Array) -> PairedError:
    """The paired difference of each sample's squared error, by the normal approximation of its mean."""
    wanted = targets.astype(np.float64).reshape(len(targets), -1)
    change = ((_flat(compressed) - wanted) ** 2 - (_flat(original) - wanted) ** 2).mean(1)
    n, mean = len(change), float(change.mean())
    if n == 1:
        return PairedError(mean, None, None, n)
    half = Z95 * float(change.std(ddof=1)) / math.sqrt(n)
    return PairedError(mean, mean - half, mean + half, n)


def fidelity(original: Array, compressed: Array) -> Fidelity:
    """One output of both networks for the same samples, N × …; of more axes, the sample's values are taken together."""
    reference, value = _flat(original), _flat(compressed)
    agreement, commonest = None, None
    if reference.shape[1] > 1:
        answers = reference.argmax(1)
        agreement = share(int((answers == value.argmax(1)).sum()), len(reference))
        commonest = float(np.unique(answers, return_counts=True)[1].max() / len(reference))
    lengths = np.linalg.norm(reference, axis=1) * np.linalg.norm(value, axis=1)
    products = (reference * value).sum(1)
    # Two zero vectors are alike; one zero vector is like nothing.
    same = (reference == value).all(1)
    cosine = np.where(same, 1.0, np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0))
    noise, signal = float(((value - reference) ** 2).sum()), float((reference**2).sum())
    return Fidelity(agreement, float(cosine.mean()), _decibel(signal, noise), commonest)


def _decibel(signal: float, noise: float) -> float:
    """10 log₁₀ of the ratio, held within ± SQNR_OF_EQUALS_DB."""
    if noise == 0:
        return SQNR_OF_EQUALS_DB
    if signal == 0:
        return -SQNR_OF_EQUALS_DB
    return max(-SQNR_OF_EQUALS_DB, min(SQNR_OF_EQUALS_DB, 10 * math.log10(signal / noise)))


def _phi(both: int, lost: int, won: int, neither: int) -> float:
    """The correlation of the two outcomes, with Newcombe's continuity correction of a positive one."""
    margins = (both + lost) * (won + neither) * (both + won) * (lost + neither)
    if margins == 0:
        return 0.0
    covariance: float = both * neither - lost * won
    if covariance > 0:
        covariance = max(covariance - (both + lost + won + neither) / 2, 0.0)
    return covariance / math.sqrt(margins)


def _hybrid(first: float, second: float, phi: float) -> float:
    return math.sqrt(max(first**2 - 2 * phi * first * second + second**2, 0.0))


def _ratio(numerator: int, exponent: int) -> float:
    """numerator / 2**exponent, both possibly far beyond a float."""
    shift = max(numerator.bit_length() - 64, 0)
    return math.ldexp(float(numerator >> shift), shift - exponent)


def _logits(values: Array) -> NDArray[np.float64]:
    if values.ndim != 2:
        raise ValueError(f"logits have two axes, not {values.ndim}")
    return values.astype(np.float64)


def _flat(values: Array) -> NDArray[np.float64]:
    return values.astype(np.float64).reshape(len(values), -1)
