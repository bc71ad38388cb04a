"""Sparse files: they give back what was written, in the smallest layout; CSR as scipy has it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from scipy.sparse import csr_matrix

from compression.export.sparse import read_sparse, write_sparse


def sparse_array(share: float, *shape: int) -> np.ndarray:
    random = np.random.default_rng(0)
    return (random.normal(size=shape) * (random.random(shape) < share)).astype(np.float32)


@pytest.mark.parametrize(
    ("share", "layout"), [(1.0, "plain"), (0.5, "bits"), (0.05, "csr"), (0.2, "bits"), (0.001, "csr"), (0.0, "csr")]
)
def test_the_smallest_layout_is_taken_and_read_back(share: float, layout: str, tmp_path: Path) -> None:
    value = sparse_array(share, 40, 3, 7, 7)
    assert write_sparse({"w": value, "bias": np.zeros(4, np.float32)}, tmp_path / "f") == (
        {"plain": 2} if layout == "plain" else {layout: 1, "plain": 1}
    )
    again = read_sparse(tmp_path / "f")
    assert again["w"].dtype == value.dtype
    np.testing.assert_array_equal(again["w"], value)
    np.testing.assert_array_equal(again["bias"], np.zeros(4))


@pytest.mark.parametrize(("columns", "dtype"), [(250, np.uint8), (300, np.uint16), (70_000, np.uint32)])
def test_rows_are_those_of_scipy(columns: int, dtype: type, tmp_path: Path) -> None:
    value = sparse_array(0.005, 20, columns)
    assert write_sparse({"w": value}, tmp_path / "f") == {"csr": 1}
    parts, expected = load_file(tmp_path / "f"), csr_matrix(value)
    assert parts["w#columns"].dtype == dtype
    np.testing.assert_array_equal(parts["w#rows"], expected.indptr)
    np.testing.assert_array_equal(parts["w#columns"], expected.indices)
    np.testing.assert_array_equal(parts["w#values"], expected.data)
    np.testing.assert_array_equal(read_sparse(tmp_path / "f")["w"], value)


def test_a_negative_zero_is_left_out(tmp_path: Path) -> None:
    value = np.full((64, 64), -0.0, np.float32)
    value[3, 5] = -1.5
    write_sparse({"w": value}, tmp_path / "f")
    assert len(load_file(tmp_path / "f")["w#values"]) == 1


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_a_tensor_without_entries_is_plain(shape: tuple[int, int], tmp_path: Path) -> None:
    assert write_sparse({"w": np.zeros(shape, np.float32)}, tmp_path / "f") == {"plain": 1}
    assert read_sparse(tmp_path / "f")["w"].shape == shape
