"""`range` against a coder of asymmetric numeral systems written from its definition, in Python's own integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from compression.coding import ranged
from compression.coding.alphabet import letters_of
from compression.coding.coder import entropy_bits
from tests.engine.coding.tensors import laplacian, ternary


def words_by_definition(indices: list[int], frequencies: list[int]) -> bytes:
    """Duda 2013: state' = (state // f) · 2²⁴ + state mod f + start, last symbol first, words of 32 bits out of a state
    of 64."""
    starts = [sum(frequencies[:letter]) for letter in range(len(frequencies))]
    state, words = 0, []
    for index in reversed(indices):
        frequency = frequencies[index]
        if state >= frequency << 64 - 24:
            words.append(state & 0xFFFFFFFF)
            state >>= 32
        state = (state // frequency << 24) + state % frequency + starts[index]
    while state:
        words.append(state & 0xFFFFFFFF)
        state >>= 32
    return b"".join(word.to_bytes(4, "little") for word in words).rstrip(b"\0")


@pytest.mark.parametrize("symbols", [laplacian((70, 30), 2.0), ternary((80, 50), 0.2), laplacian((900,), 20.0)])
def test_the_words_are_those_of_the_definition(symbols: NDArray[np.int32]) -> None:
    letters = letters_of(symbols.reshape(-1))
    writer = ranged.BitWriter()
    known = ranged._write_counts(writer, letters.counts())
    expected = words_by_definition((letters.indices + 1).tolist(), ranged.frequencies(known))
    assert ranged.encode(symbols).endswith(expected)
    assert len(ranged.encode(symbols)) - len(expected) <= 4 + 2 * len(known)


@given(st.lists(st.integers(1, 1 << 31), min_size=2, max_size=300))
def test_frequencies_are_positive_and_sum_to_the_power_of_two(counts: list[int]) -> None:
    frequencies = ranged.frequencies(counts)
    assert sum(frequencies) == 1 << ranged.PRECISION
    assert min(frequencies) >= 1
    assert frequencies[0] == 1


@given(st.lists(st.integers(1, 1 << 24), min_size=2, max_size=60))
def test_the_histogram_is_read_as_it_was_written(counts: list[int]) -> None:
    writer = ranged.BitWriter()
    known = ranged._write_counts(writer, np.array(counts))
    assert ranged._read_counts(ranged.BitReader(writer.to_bytes()), len(counts), sum(counts)) == known
    for count, kept in zip(counts, known, strict=True):
        assert kept == counts[known.index(kept)] or abs(count - kept) <= 2 * count**0.5 or count == max(counts)


@pytest.mark.parametrize(
    "symbols",
    [laplacian((128, 128), 1.0), laplacian((500, 800), 0.3), ternary((300, 784), 0.15), laplacian((300, 300), 300.0)],
)
def test_a_payload_is_within_half_a_percent_of_the_entropy(symbols: NDArray[np.int32]) -> None:
    assert len(ranged.encode(symbols)) <= entropy_bits(symbols) / 8 * 1.005


@pytest.mark.parametrize("symbols", [laplacian((64, 64), 1.0), ternary((64, 64), 0.4), laplacian((64, 64), 4.0)])
def test_the_head_of_a_small_payload_is_small(symbols: NDArray[np.int32]) -> None:
    letters = len(np.unique(symbols))
    assert len(ranged.encode(symbols)) <= entropy_bits(symbols) / 8 + 5 + 0.75 * letters
