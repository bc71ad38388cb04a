"""What labels are, declared or found out; calibration samples; token sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compression.data import Dataset, check_labels, load_dataset
from compression.data.labels import read_labels, task_of
from compression.errors import DataError
from compression.network import Input, Signature
from compression.spec import DataSpec

ROWS = Signature((Input("x", (3,)),))
X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
MANY = (np.random.default_rng(1).random((40, 4)) < 0.4).astype(np.int64)


def load(tmp_path: Path, signature: Signature = ROWS, declared: DataSpec | None = None, **arrays: Any) -> Dataset:
    np.savez(tmp_path / "d.npz", **arrays)
    return load_dataset(tmp_path / "d.npz", signature, declared or DataSpec())


@pytest.mark.parametrize(
    ("stored", "declared", "task", "shape"),
    [
        (np.arange(40) % 3, "auto", "classification", (40,)),
        ((np.arange(40) % 3)[:, None], "auto", "classification", (40,)),
        (np.arange(40) % 2 == 0, "auto", "classification", (40,)),
        (MANY, "auto", "multilabel", (40, 4)),
        (MANY.astype(bool), "auto", "multilabel", (40, 4)),
        (MANY.astype(np.float32), "multilabel", "multilabel", (40, 4)),
        (np.eye(4, dtype=int)[np.arange(40) % 4], "multilabel", "multilabel", (40, 4)),
        (np.arange(40) % 2, "multilabel", "multilabel", (40, 1)),
        (MANY.astype(np.float32), "auto", "regression", (40, 4)),
        (np.arange(40) % 3, "regression", "regression", (40,)),
        (X, "auto", "regression", (40, 3)),
    ],
)
def test_tasks(stored: Any, declared: str, task: str, shape: tuple[int, ...]) -> None:
    labels = read_labels(stored, declared)
    assert task_of(labels) == task
    assert labels.shape == shape
    np.testing.assert_array_equal(labels.numpy().reshape(stored.shape), stored)


@pytest.mark.parametrize(
    ("stored", "declared", "message"),
    [
        (np.eye(4, dtype=int)[np.arange(40) % 4], "auto", "one-hot.*multilabel"),
        (MANY * 2, "multilabel", "0 or 1"),
        (MANY * 2, "auto", "regression"),
        (MANY, "classification", "one axis"),
        (X, "classification", "integers, not float32"),
        (X * np.nan, "regression", "NaN"),
        (X.astype(np.float64) * 1e300, "auto", "too large"),
    ],
)
def test_labels_that_are_not_what_was_declared(stored: Any, declared: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_labels(stored, declared)
    assert caught.value.where == "y"


def test_multi_label_and_several_targets_are_held_against_the_outputs(tmp_path: Path) -> None:
    many = load(tmp_path, x=X, y=MANY)
    check_labels(many, {"out": torch.zeros(2, 4)})
    with pytest.raises(DataError, match="N × 4, the output out is N × 3"):
        check_labels(many, {"out": torch.zeros(2, 3)})
    targets = load(tmp_path, x=X, y=X)
    check_labels(targets, {"out": torch.zeros(2, 3)})
    with pytest.raises(DataError, match="3 values"):
        check_labels(targets, {"out": torch.zeros(2, 4)})
    with pytest.raises(DataError, match="multilabel"):
        check_labels(load(tmp_path, x=X, y=np.arange(40) % 2), {"out": torch.zeros(2, 1)})


def test_labels_of_the_splits_are_alike(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="differ in shape"):
        load(tmp_path, x=X, y=MANY, x_test=X, y_test=MANY[:, :3])


def test_calibration_samples_are_kept_apart(tmp_path: Path) -> None:
    data = load(tmp_path, x=X, y=MANY, x_calibration=X[:7] + 1)
    assert torch.equal(data.calibration.inputs["x"], torch.from_numpy(X[:7] + 1))
    assert data.calibration.labels is None
    assert len(data.train) + len(data.validation) + len(data.test) == 40
    with pytest.raises(DataError, match="no labels") as caught:
        load(tmp_path, x=X, y=MANY, x_calibration=X, y_calibration=MANY)
    assert caught.value.where == "y_calibration"
    without = load(tmp_path, x=X)
    assert without.calibration.inputs is without.train.inputs


def test_a_text_set_is_token_ids_and_a_mask_by_name(tmp_path: Path) -> None:
    signature = Signature((Input("input_ids", (6,), "int64"), Input("attention_mask", (6,), "bool")))
    random = np.random.default_rng(0)
    lengths = random.integers(2, 7, 50)
    mask = np.arange(6) < lengths[:, None]
    tokens = (random.integers(1, 1000, (50, 6)) * mask).astype(np.int32)
    arrays = {"input_ids": tokens, "attention_mask": mask.astype(np.uint8), "y": lengths % 2}
    data = load(tmp_path, signature, **arrays)
    assert data.task == "classification"
    assert {name: value.dtype for name, value in data.train.inputs.items()} == {
        "input_ids": torch.int64,
        "attention_mask": torch.bool,
    }
    for part in (data.train, data.validation, data.test):  # a row's tokens and mask stay together
        assert torch.equal(part.inputs["input_ids"] > 0, part.inputs["attention_mask"])
        assert part.labels is not None
        assert torch.equal(part.inputs["attention_mask"].sum(1) % 2, part.labels)
    assert not data.concerns or {entry.kind for entry in data.concerns} == {"few-samples"}
    with pytest.raises(DataError, match="missing") as caught:
        load(tmp_path, signature, input_ids=tokens)
    assert caught.value.where == "attention_mask"
    with pytest.raises(DataError, match="differ in their number"):
        load(tmp_path, signature, input_ids=tokens, attention_mask=mask[1:])
