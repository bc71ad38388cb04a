"""Labels as stored → as a loss wants them."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compression.errors import DataError
from compression.spec import DataSpec
from compression.training.losses import Task

Array = NDArray[np.generic]
MAX_CLASS = 1_000_000
DECLARE = "declare the task (/data/task)"


def read_labels(stored: Array, declared: str = DataSpec().task) -> Tensor:
    """int64 N: class indices; bool N × C: multi-label; float32 N × …: targets. `declared` is DataSpec.task."""
    if stored.ndim == 0:
        raise DataError("an array needs a sample axis", "y")
    if declared == "regression":
        return _targets(stored)
    if declared == "multilabel":
        return _many(stored)
    if stored.dtype.kind in "iub":
        table = stored.ndim == 2 and stored.shape[1] > 1
        if declared == "auto" and table and _binary(stored):
            if len(stored) and _one_hot(stored):
                raise DataError(
                    f"the labels are one-hot: give class indices, y.argmax(1), or {DECLARE} multilabel", "y"
                )
            return _many(stored)
        return _indices(stored)
    if declared == "classification":
        raise DataError(f"class indices are integers, not {stored.dtype}", "y")
    targets = _targets(stored)
    if stored.ndim == 2 and stored.shape[1] > 1 and _binary(stored) and _one_hot(stored):
        raise DataError(f"the labels are one-hot: give class indices, y.argmax(1), as integers, or {DECLARE}", "y")
    return targets


def task_of(labels: Tensor | None) -> Task | None:
    if labels is None:
        return None
    if labels.dtype == torch.bool:
        return "multilabel"
    return "regression" if labels.is_floating_point() else "classification"


def top_class(labels: Tensor) -> int | None:
    return int(labels.max()) if task_of(labels) == "classification" else None


def _indices(stored: Array) -> Tensor:
    if stored.ndim == 2 and stored.shape[1] == 1:
        stored = stored[:, 0]
    if stored.ndim != 1:
        axes = f"class indices have one axis, not {stored.ndim}"
        raise DataError(f"{axes}; if these are numbers to predict, {DECLARE} regression", "y")
    if len(stored) and (int(stored.min()) < 0 or int(stored.max()) > MAX_CLASS):
        raise DataError(f"a class index is negative or above {MAX_CLASS}", "y")
    return torch.from_numpy(stored.astype(np.int64))


def _many(stored: Array) -> Tensor:
    if not _binary(stored):
        raise DataError("multi-label labels are 0 or 1 for each class", "y")
    table = stored.astype(bool)
    return torch.from_numpy(table[:, None] if table.ndim == 1 else table)


def _targets(stored: Array) -> Tensor:
    with np.errstate(over="ignore"):
        values = torch.from_numpy(stored.astype(np.float32))
    if not bool(torch.isfinite(values).all()):
        raise DataError("the array holds NaN, infinite values, or numbers too large for float32", "y")
    return values


def _binary(stored: Array) -> bool:
    return math.prod(stored.shape) > 0 and bool(((stored == 0) | (stored == 1)).all())


def _one_hot(stored: Array) -> bool:
    return bool((stored.astype(np.float32).sum(1) == 1).all())
