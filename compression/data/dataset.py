"""Samples, and the splits that a job works with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from compression.data.concerns import Concern
from compression.training.losses import Task


@dataclass(frozen=True)
class Split:
    """Samples: `inputs` by name (N × …, in the input's dtype) and `labels`, or None.

    The labels' type says what they are: int64, N: class indices; bool, N × …: multi-label; float32, N × …: targets."""

    inputs: Mapping[str, Tensor]
    labels: Tensor | None

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def take(self, indices: Tensor) -> Split:
        labels = None if self.labels is None else self.labels[indices]
        return Split({name: value[indices] for name, value in self.inputs.items()}, labels)

    def to(self, device: torch.device) -> Split:
        labels = None if self.labels is None else self.labels.to(device)
        return Split({name: value.to(device) for name, value in self.inputs.items()}, labels)

    def tensors(self, start: int, stop: int) -> tuple[Tensor, ...]:
        """The inputs of samples start … stop − 1, in the order of the signature."""
        return tuple(value[start:stop] for value in self.inputs.values())


@dataclass(frozen=True)
class Dataset:
    """Three splits of one task; None: no labels, fidelity to the original is the metric. `classes`: names by index,
    where the file has them. `concerns`: what looks wrong and is no fault."""

    train: Split
    validation: Split
    test: Split
    task: Task | None
    given_calibration: Split | None = None
    classes: tuple[str, ...] = ()
    concerns: tuple[Concern, ...] = ()

    @property
    def calibration(self) -> Split:
        """Unlabelled samples to measure ranges of activations on: the file's own (`_calibration`), and where it has
        none, the inputs of the training split. Never validation or test samples."""
        return Split(self.train.inputs, None) if self.given_calibration is None else self.given_calibration

    def described(self) -> dict[str, Any]:
        """For the report: JSON facts on what the job trained on and was judged by."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        return {
            "task": self.task,
            "splits": {name: len(part) for name, part in splits.items()},
            "calibration": f"{len(self.calibration)} samples, "
            + ("the training inputs" if self.given_calibration is None else "of its own"),
            "classes": list(self.classes),
            "inputs": {name: _moments(value) for name, value in self.train.inputs.items()},
            "warnings": [concern.as_dict() for concern in self.concerns],
        }


def _moments(value: Tensor) -> dict[str, Any]:
    facts: dict[str, Any] = {"shape": list(value.shape[1:]), "dtype": str(value.dtype).removeprefix("torch.")}
    if value.is_floating_point():
        mean, std = moments(value)
        return facts | {"min": float(value.min()), "max": float(value.max()), "mean": mean, "std": std}
    return facts | {"min": int(value.min()), "max": int(value.max())}


def moments(value: Tensor) -> tuple[float, float]:
    """Mean and standard deviation of all numbers of a float tensor."""
    std, mean = torch.std_mean(value.double() if value.numel() < 1 << 24 else value, correction=0)
    return float(mean), float(std)
