"""The code is a Huffman code: against Huffman's own procedure on a heap of weights, Kraft's sum, and the entropy."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compression.coding import huffman
from compression.coding.alphabet import letters_of
from compression.coding.coder import entropy_bits
from compression.errors import IntakeError
from tests.engine.coding.tensors import laplacian, ternary


def cost_of_huffmans_tree(counts: list[int]) -> int:
    """All bits together: each merge of two weights costs their sum."""
    heap, cost = list(counts), 0
    heapq.heapify(heap)
    while len(heap) > 1:
        both = heapq.heappop(heap) + heapq.heappop(heap)
        cost += both
        heapq.heappush(heap, both)
    return cost


@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=200))
def test_lengths_cost_what_huffmans_tree_costs_and_fill_krafts_sum(counts: list[int]) -> None:
    lengths = huffman.code_lengths(counts)
    assert sum(count * length for count, length in zip(counts, lengths, strict=True)) == cost_of_huffmans_tree(counts)
    assert sum(2.0**-length for length in lengths) == 1.0


def test_the_longest_codes_come_back() -> None:
    """Counts that are Fibonacci numbers give codes of every length up to the number of letters less one."""
    counts = [1, 1]
    while len(counts) < 22:
        counts.append(counts[-1] + counts[-2])
    assert max(huffman.code_lengths(counts)) == 21
    symbols = np.repeat(np.arange(22, dtype=np.int32), counts)
    symbols = np.random.default_rng(0).permutation(symbols)
    assert np.array_equal(huffman.decode(huffman.encode(symbols), symbols.shape), symbols)


def test_the_payload_is_the_codes_and_a_small_table() -> None:
    symbols = laplacian((200, 100), 2.0)
    bits = cost_of_huffmans_tree(letters_of(symbols.reshape(-1)).counts().tolist())
    assert bits / 8 <= len(huffman.encode(symbols)) <= bits / 8 + 24
    assert entropy_bits(symbols) <= bits <= entropy_bits(symbols) * 1.02


def test_a_chain_of_codes_goes_on_over_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    symbols = laplacian((999,), 3.0)
    whole = huffman.encode(symbols)
    monkeypatch.setattr(huffman, "_CHUNK", 37)
    assert huffman.encode(symbols) == whole
    assert np.array_equal(huffman.decode(whole, symbols.shape), symbols)


def test_code_lengths_that_are_no_code_are_refused() -> None:
    payload = bytearray(huffman.encode(np.array([0, 1, 2, 2], np.int32)))
    payload[1] ^= 0x40
    with pytest.raises(IntakeError, match="damaged"):
        huffman.decode(bytes(payload), (4,))


def test_relative_indices_are_those_of_deep_compression() -> None:
    """Han 2016, figure 2: where a gap is beyond what the index holds, a zero fills in."""
    symbols = np.zeros(400, np.int32)
    symbols[[1, 4, 15, 399]] = [34, 9, 17, -5]
    payload = huffman.encode_sparse(symbols)
    assert np.array_equal(huffman.decode_sparse(payload, (400,)), symbols)
    sparse = ternary((300, 784), 0.1)
    assert len(huffman.encode_sparse(sparse)) < len(huffman.encode(sparse)) / 3
