"""The adaptive coder: compiled and interpreted loops write the same bytes, by tables that are the same everywhere, and
find what pruned networks have."""

from __future__ import annotations

import hashlib
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

from compression.coding import adaptive, kernel, ranged
from compression.coding.adaptive import Scan
from compression.coding.coder import entropy_bits
from compression.coding.compiled import compiled, interpreted, kernel_for
from compression.coding.logistic import LIMIT, SQUASH, STRETCH
from tests.engine.coding.tensors import TENSORS, laplacian, ternary

SCANS = [Scan(False, 1), Scan(True, 2), Scan(False, 28)]


@settings(max_examples=15, deadline=None)
@given(symbols=TENSORS.filter(lambda symbols: symbols.size > 0))
def test_compiled_and_interpreted_write_and_read_the_same(symbols: NDArray[np.int32]) -> None:
    for scan in SCANS:
        payload = adaptive.encode_with(symbols, scan, interpreted())
        assert adaptive.encode_with(symbols, scan, compiled()) == payload
        if payload[0]:
            for form in (interpreted(), compiled()):
                assert np.array_equal(adaptive.decode_with(payload, symbols.shape, form), symbols)


@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.parametrize("symbols", [ternary((40, 60), 0.3), laplacian((12, 10, 3, 3), 2.0), laplacian((200,), 3000.0)])
def test_compiled_and_interpreted_agree_on_larger_tensors(symbols: NDArray[np.int32], scan: Scan) -> None:
    payload = adaptive.encode_with(symbols, scan, interpreted())
    assert adaptive.encode_with(symbols, scan, compiled()) == payload
    assert np.array_equal(adaptive.decode_with(payload, symbols.shape, compiled()), symbols)


def test_the_tables_are_the_logistic_function() -> None:
    assert len(SQUASH) == 2 * LIMIT + 1
    for x in range(-LIMIT, LIMIT + 1):
        assert SQUASH[x + LIMIT] == pytest.approx(65536 / (1 + math.exp(-x / 256)), abs=1.0)
    assert all(SQUASH[LIMIT + x] + SQUASH[LIMIT - x] in (65535, 65536) for x in range(1, LIMIT + 1))
    assert [STRETCH[32768], STRETCH[0], STRETCH[65535]] == [0, -LIMIT, STRETCH[65535]]
    assert sorted(STRETCH) == STRETCH
    for p in range(1, 65535, 97):
        assert abs(STRETCH[p] - 256 * math.log(p / (65536 - p))) <= max(1.5, 65536 / min(p, 65536 - p) / 128)


def test_the_tables_are_the_same_everywhere() -> None:
    digest = hashlib.sha256(json.dumps([SQUASH, STRETCH]).encode()).hexdigest()[:16]
    assert digest == "e8807455d9bf5b13"


def test_the_kernel_stays_in_63_bits_and_in_its_contexts() -> None:
    """Interpreted, an index out of range raises; compiled it wouldn't. Extremes in every place of the neighbourhood."""
    symbols = np.array([-(1 << 31), (1 << 31) - 1, 0, 1, -1, 7, -300], np.int32)
    symbols = np.random.default_rng(3).choice(symbols, (9, 8, 5, 5))
    for scan in SCANS:
        payload = adaptive.encode_with(symbols, scan, interpreted())
        assert payload == adaptive.encode_with(symbols, scan, compiled())
    sizes = kernel.context_sizes(10_000, 10_000)
    assert len(sizes) == kernel.CONTEXTS
    assert max(sizes) == kernel.MOST + 1


def test_vanished_units_and_density_are_found() -> None:
    """Within 3 % of the entropy of what is alive, and a bit for each row and column."""
    symbols = ternary((120, 200), 0.3)
    alive = symbols[(symbols != 0).any(1)][:, (symbols != 0).any(0)]
    assert len(adaptive.encode(symbols)) * 8 < 1.03 * entropy_bits(alive) + sum(symbols.shape)
    assert len(adaptive.encode(symbols)) < 0.75 * len(ranged.encode(symbols))


def test_what_has_no_structure_costs_little_more_than_its_entropy() -> None:
    for symbols in (laplacian((100, 120), 0.7), laplacian((40, 20, 5, 5), 0.4), laplacian((8000,), 5.0)):
        assert len(adaptive.encode(symbols)) * 8 <= entropy_bits(symbols) * 1.02 + 160


def test_a_pictures_lines_are_found() -> None:
    """Columns that are pixels of a picture of 20 lines of 23: a receptive field is a spot of one sign in it."""
    random = np.random.default_rng(0)
    rows = []
    for _ in range(60):
        y, x = random.uniform(3, 17), random.uniform(3, 20)
        spot = (np.arange(20)[:, None] - y) ** 2 + (np.arange(23)[None, :] - x) ** 2 < random.uniform(4, 20)
        rows.append((spot & (random.random((20, 23)) < 0.8)) * random.choice([-1, 1]))
    symbols = np.array(rows, np.int32).reshape(60, 460)
    assert adaptive._scans(symbols)[0].stride == 23
    found = len(adaptive.encode_with(symbols, Scan(False, 23), kernel_for(symbols.size)))
    assert found < 0.9 * len(adaptive.encode_with(symbols, Scan(False, 17), kernel_for(symbols.size)))


def test_noise_is_stored_as_it_is() -> None:
    symbols = np.random.default_rng(1).integers(-(1 << 31), 1 << 31, 900, dtype=np.int64).astype(np.int32)
    assert len(adaptive.encode(symbols)) <= 4 * symbols.size + 1


def test_the_time_that_is_told_grows_with_the_symbols() -> None:
    assert adaptive.seconds_expected(10**6, compiled=False) > 30
    assert adaptive.seconds_expected(10**7, compiled=True) < adaptive.seconds_expected(10**7, compiled=False) / 10
