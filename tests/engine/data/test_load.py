"""Data files: names, splits, shapes, preprocessing, and files that lie."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from compression.data import Dataset, check_labels, load_dataset
from compression.errors import DataError
from compression.intake.arrays import read_arrays
from compression.network import Input, Signature
from compression.spec import DataSpec, Preprocess

IMAGE = Signature((Input("image", (1, 4, 4)),))


def load(tmp_path: Path, spec: DataSpec | None = None, signature: Signature = IMAGE, **arrays: Any) -> Dataset:
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    return load_dataset(path, signature, spec or DataSpec())


def test_splits_are_made_by_class_and_seed(tmp_path: Path) -> None:
    x = np.arange(200 * 16, dtype=np.float32).reshape(200, 4, 4)
    y = np.repeat(np.arange(10, dtype=np.uint8), 20)
    data = load(tmp_path, x=x, y=y)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [162, 18, 20]
    assert data.task == "classification"
    assert data.test.labels is not None
    assert torch.bincount(data.test.labels).tolist() == [2] * 10
    first = [part.inputs["image"][:, 0, 0, 0] for part in (data.train, data.validation, data.test)]
    assert len(torch.unique(torch.cat(first))) == 200  # no sample twice, none lost
    again = load(tmp_path, x=x, y=y)
    assert torch.equal(again.test.inputs["image"], data.test.inputs["image"])


def test_given_splits_are_kept_and_validation_comes_from_training(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    train, test = random.normal(size=(50, 1, 4, 4)), random.normal(size=(8, 1, 4, 4))
    data = load(tmp_path, image_train=train, y_train=np.arange(50) % 2, x_test=test, y_test=np.array([0, 1] * 4))
    assert (len(data.train), len(data.validation), len(data.test)) == (45, 5, 8)
    assert torch.equal(data.test.inputs["image"], torch.from_numpy(test.astype(np.float32)))


def test_preprocessing_is_applied_as_declared(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (30, 4, 4, 3), dtype=np.uint8)
    declared = DataSpec(preprocess={"x": Preprocess(scale=1 / 255, mean=[0.1, 0.2, 0.3], std=[2], layout="NHWC")})
    data = load(tmp_path, declared, Signature((Input("x", (3, 4, 4)),)), x_train=x, x_validation=x, x_test=x)
    expected = (x.transpose(0, 3, 1, 2) / 255 - np.array([0.1, 0.2, 0.3]).reshape(1, 3, 1, 1)) / 2
    np.testing.assert_allclose(data.train.inputs["x"].numpy(), expected, atol=1e-6)
    assert data.task is None


def test_safetensors_and_regression(tmp_path: Path) -> None:
    path = tmp_path / "d.safetensors"
    save_file({"x": np.ones((40, 16), np.float32), "y": np.arange(40, dtype=np.float32)}, path)
    data = load_dataset(path, IMAGE, DataSpec())
    assert data.task == "regression"
    assert data.train.inputs["image"].shape == (32, 1, 4, 4)
    check_labels(data, {"out": torch.zeros(2, 1)})
    with pytest.raises(DataError, match="1 values"):
        check_labels(data, {"out": torch.zeros(2, 3)})


X = np.ones((20, 1, 4, 4), np.float32)


@pytest.mark.parametrize(
    ("arrays", "where", "message"),
    [
        ({"x": np.ones((20, 5, 5))}, "image", "shape"),
        ({"x": X, "picture": X}, "picture", "no input of this name"),
        ({"x": X, "image": X}, "image", "twice"),
        ({"y": np.arange(20)}, "image", "missing"),
        ({"x_test": X}, "x", "no training"),
        ({"x": X, "y": np.arange(19)}, "y", "differ"),
        ({"x": X, "y": -np.arange(20)}, "y", "negative"),
        ({"x": X, "y": np.zeros(20, int)}, "y", "same class"),
        ({"x": X, "y": np.full((20, 2), 3)}, "y", "one axis"),
        ({"x": X, "y": np.float32(3)}, "y", "sample axis"),
        ({"x": X, "y": np.eye(4, dtype=np.float32)[np.arange(20) % 4]}, "y", "one-hot"),
        ({"x": X, "y": np.full(20, 2**63, np.uint64)}, "y", "above"),
        ({"x": X * np.nan}, "image", "NaN"),
        ({"x": np.array(["a"] * 20)}, "x", "numbers"),
        ({"x": X[:0]}, "x", "no samples"),
        ({"x": X[:3]}, "x", "too few"),
        ({"x_train": X, "y_train": np.arange(20) % 2, "x_test": X}, "y", "every split"),
    ],
)
def test_faults_name_the_array(tmp_path: Path, arrays: dict[str, Any], where: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path, **arrays)
    assert caught.value.where.split("_")[0] == where


def test_labels_beyond_the_outputs_are_refused(tmp_path: Path) -> None:
    data = load(tmp_path, x=np.ones((40, 4, 4), np.float32), y=np.arange(40) % 4)
    check_labels(data, {"out": torch.zeros(2, 4)})
    with pytest.raises(DataError, match="out of range"):
        check_labels(data, {"out": torch.zeros(2, 3)})
    with pytest.raises(DataError, match="N × 4 × 1 × 1"):
        check_labels(data, {"out": torch.zeros(2, 4, 1, 1)})


def test_small_classes_reach_the_test_split_together(tmp_path: Path) -> None:
    data = load(tmp_path, x=np.ones((400, 4, 4), np.float32), y=np.arange(400) % 100)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [324, 36, 40]


def test_an_input_called_y_is_given_as_x(tmp_path: Path) -> None:
    signature = Signature((Input("y", (1, 4, 4)),))
    data = load(tmp_path, signature=signature, x=np.ones((40, 4, 4), np.float32), y=np.arange(40) % 4)
    assert data.task == "classification"
    assert data.train.inputs["y"].shape[1:] == (1, 4, 4)
    with pytest.raises(DataError, match="rename"):
        load(tmp_path, signature=Signature((Input("y", (4,)), Input("x", (4,)))), x=X, y=X)


def test_the_jobs_seed_has_no_part_in_the_splits(tmp_path: Path) -> None:
    x = np.arange(200 * 16, dtype=np.float32).reshape(200, 4, 4)
    one = load(tmp_path, x=x).test.inputs["image"]
    assert torch.equal(one, load(tmp_path, x=x).test.inputs["image"])
    assert not torch.equal(one, load(tmp_path, DataSpec(split_seed=1), x=x).test.inputs["image"])


def npy(header: bytes, data: bytes = b"") -> bytes:
    padded = header + b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded + data


@pytest.mark.parametrize(
    "member",
    [
        npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 99999999999)}"),
        npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (-4,)}", b"\0" * 16),
        npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"cos\nsystem\n(S'true'\ntR."),
        npy(b"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", b"\0" * 4),
        npy(b"__import__('os').system('true')"),
        npy(b"{" * 5000),
        npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"1, " * 70 + b"), }", b"\0" * 4),
        b"\x93NUMPY\x09\x00" + b"\0" * 40,
        b"",
    ],
    ids=["overflow", "negative", "pickle", "record", "expression", "nesting", "dimensions", "version", "empty"],
)
def test_lying_headers_are_refused(tmp_path: Path, member: bytes) -> None:
    path = tmp_path / "bad.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", member)
    with pytest.raises(DataError):
        read_arrays(path)


def valid_npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, x=np.ones((4, 3), np.float32), y=np.arange(4))
    return buffer.getvalue()


@settings(max_examples=150, deadline=None)
@given(place=st.integers(0, len(valid_npz()) - 1), value=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_file_is_read_or_refused(tmp_path_factory: Any, place: int, value: int, cut: bool) -> None:
    content = bytearray(valid_npz())
    content[place] = value
    path = tmp_path_factory.mktemp("damaged") / "d.npz"
    path.write_bytes(content[:place] if cut else content)
    try:
        arrays = read_arrays(path)
    except DataError:
        return
    assert all(array.dtype.kind in "fiub" for array in arrays.values())
