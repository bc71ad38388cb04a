"""Figures of stored arrays and of images, taken piece by piece: a file may be larger than what is left of memory."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]
SHOWN_CLASSES = 1000
PIECE = 1 << 22  # numbers
DIGEST = 16  # bytes
MOST_DIGESTS = 2_000_000


class Moments:
    """Range, mean and standard deviation of all numbers that `add` was given. Not finite: nothing but that is known."""

    def __init__(self) -> None:
        self.count = 0
        self.finite = True
        self.low, self.high = math.inf, -math.inf
        self._sum = self._squares = 0.0

    def add(self, values: Array) -> None:
        with np.errstate(invalid="ignore"):  # of signalling NaNs, which are told below as all others
            numbers = values.astype(np.float64)
        self.finite = self.finite and bool(np.isfinite(numbers).all())
        if not numbers.size or not self.finite:
            return
        self.count += numbers.size
        self.low, self.high = min(self.low, float(numbers.min())), max(self.high, float(numbers.max()))
        with np.errstate(over="ignore"):
            self._sum += float(numbers.sum())
            self._squares += float(np.square(numbers).sum())

    def as_dict(self) -> dict[str, Any]:
        """Without what float64 can't hold: JSON has no infinity."""
        if not self.finite or not self.count:
            return {"finite": self.finite}
        mean = self._sum / self.count
        std = math.sqrt(max(self._squares / self.count - mean**2, 0.0)) if abs(mean) < 1e150 else math.inf
        facts = {"min": self.low, "max": self.high, "mean": mean, "std": std}
        return {"finite": True, **{name: value for name, value in facts.items() if math.isfinite(value)}}


def describe_array(value: Array) -> dict[str, Any]:
    """Shape, type, range and moments; of a vector of integers also how often each value comes."""
    moments = Moments()
    for piece in pieces(value):
        moments.add(piece)
    facts: dict[str, Any] = {"shape": list(value.shape), "dtype": str(value.dtype)}
    if value.size:
        facts |= moments.as_dict()
    if value.ndim == 1 and value.dtype.kind in "iub" and len(counts := count_values(value)) <= SHOWN_CLASSES:
        facts["counts"] = counts
    return facts


def pieces(value: Array) -> Iterator[Array]:
    """The array in parts of about `PIECE` numbers, along its first axis."""
    if value.ndim == 0:
        yield value
        return
    rows = max(1, PIECE // max(1, math.prod(value.shape[1:])))
    for start in range(0, len(value), rows):
        yield value[start : start + rows]


def count_values(value: Array) -> dict[str, int]:
    values, counts = np.unique(value.astype(np.int64) if value.dtype.kind == "b" else value, return_counts=True)
    return {str(key): int(count) for key, count in zip(values, counts, strict=True)}


def constant_columns(value: Array) -> int:
    """How many features (columns of N × features) never change."""
    if value.ndim != 2 or len(value) < 2 or value.shape[1] < 2:
        return 0
    return int((value.min(0) == value.max(0)).sum())


def sample_digests(arrays: Mapping[str, Array]) -> list[bytes]:
    """A hash of each sample: of the same row of all arrays, in the order of their names. None of more than
    MOST_DIGESTS samples: those aren't looked through for repetitions."""
    if min(len(value) for value in arrays.values()) > MOST_DIGESTS:
        return []
    ordered = [np.ascontiguousarray(arrays[name]) for name in sorted(arrays)]
    found = []
    for index in range(min(len(value) for value in ordered)):
        digest = hashlib.blake2b(digest_size=DIGEST)
        for value in ordered:
            digest.update(value[index].tobytes())
        found.append(digest.digest())
    return found


def repeated(digests: Mapping[str, Sequence[bytes]]) -> dict[tuple[str, str], int]:
    """(split, split) → how many samples of the second are in the first too; of one split with itself: how many come
    again. None that are zero."""
    sets = {split: set(found) for split, found in digests.items()}
    splits = list(digests)
    counts = {(split, split): len(digests[split]) - len(sets[split]) for split in splits}
    for index, first in enumerate(splits):
        for second in splits[index + 1 :]:
            counts[first, second] = sum(digest in sets[first] for digest in digests[second])
    return {pair: count for pair, count in counts.items() if count}
