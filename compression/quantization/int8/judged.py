"""How much worse a file with integers answers than its float one."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from compression.data import Split
from compression.errors import SpecError
from compression.training.evaluate import metrics_of
from compression.training.losses import Task

Outputs = NDArray[np.float32]


def lost(value: Outputs, reference: Outputs, split: Split, task: Task | None) -> float:
    """Points of accuracy (of average precision, with several labels) that `value` is below `reference`; percent that
    the squared error grew; without labels, points of top-1 that is another, or, of a single number, percent of error.
    Negative: it got better."""
    found, before = torch.from_numpy(value), torch.from_numpy(reference)
    after = metrics_of(found, split.labels, task, before)
    if task is None:
        return 100 * (1 - after["agreement"] if "agreement" in after else relative_error(value, reference))
    was = metrics_of(before, split.labels, task, before)
    if task == "regression":
        return 100 * (after["mse"] / was["mse"] - 1) if was["mse"] > 0 else 100 * after["mse"]
    return 100 * (was["score"] - after["score"])


def unit(task: Task | None) -> str:
    """What `lost` counts in."""
    if task == "classification":
        return "points of accuracy"
    if task == "multilabel":
        return "points of average precision"
    return "percent of squared error" if task == "regression" else "percent of answers changed"


def relative_error(value: Outputs, reference: Outputs) -> float:
    """‖value − reference‖ / ‖reference‖, Euclidean, in float64."""
    difference = np.linalg.norm(value.astype(np.float64) - reference.astype(np.float64))
    return float(difference / max(1e-12, float(np.linalg.norm(reference.astype(np.float64)))))


def decibels(value: Outputs, reference: Outputs) -> float:
    """Signal to noise; 200 stands for equality."""
    error = relative_error(value, reference)
    return 200.0 if error < 1e-10 else float(-20 * np.log10(error))


def finite(value: NDArray[np.generic]) -> Outputs:
    """Outputs as float32. SpecError: they hold NaN or infinity."""
    if not np.isfinite(value.astype(np.float64)).all():
        raise SpecError("the network gives NaN or infinite values on the validation samples", "/mode")
    return value.astype(np.float32)
