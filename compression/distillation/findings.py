"""What came of it, for the report: agreement, calibration, gap closed, and what one class looks like to the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

BINS = 15
MOST_CLASSES = 32
PAIRS_NAMED = 50


def agreement(outputs: Tensor, teacher: Tensor) -> float:
    """Share of samples (N × C) with the same top-1."""
    return float((outputs.argmax(-1) == teacher.argmax(-1)).double().mean())


def calibration_error(logits: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """Expected calibration error (Guo et al. 2017, equation 3): Σ |B|/n · |accuracy(B) − confidence(B)| over `bins`
    equal bins (low, high] of the top-1 probability."""
    confidence, predicted = torch.softmax(logits.double(), 1).max(1)
    place = (confidence * bins).ceil().long().clamp(1, bins) - 1
    difference = (predicted == labels).double() - confidence
    sums = torch.zeros(bins, dtype=torch.float64).index_add_(0, place, difference)
    return float(sums.abs().sum() / len(labels))


def mean_rows(logits: Tensor, classes: Tensor, temperature: float) -> Tensor:
    """C × C: row k is the mean softmax at `temperature` of the samples of class k (`classes`, N); NaN where none is."""
    soft = torch.softmax(logits.double() / temperature, 1)
    count = logits.shape[1]
    sums = torch.zeros(count, count, dtype=torch.float64).index_add_(0, classes, soft)
    return sums / torch.bincount(classes, minlength=count).unsqueeze(1)


def learned(
    teacher: tuple[Tensor, Tensor], student: Tensor, classes: Tensor, temperature: float, names: Sequence[str]
) -> dict[str, Any]:
    """How classes look to teacher and student: mean softened rows at T = 1 and at the temperature used; `teacher`: its
    logits at either, which differ for several teachers in one. More than 32 classes: the pairs that look most alike."""
    rows = {
        f"{who}_at_{name}": mean_rows(logits, classes, t)
        for who, both in (("teacher", teacher), ("student", (student, student)))
        for (name, t), logits in zip((("1", 1.0), ("t", temperature)), both, strict=True)
    }
    count = student.shape[1]
    named = list(names) or [str(index) for index in range(count)]
    if count <= MOST_CLASSES:
        return {"classes": named, "temperature": temperature} | {
            name: [[_rounded(value) for value in row] for row in matrix.tolist()] for name, matrix in rows.items()
        }
    alike = rows["teacher_at_t"].nan_to_num(0.0).fill_diagonal_(0.0).flatten()
    best = alike.topk(PAIRS_NAMED).indices.tolist()
    pairs = [
        {"class": named[place // count], "looks_like": named[place % count]}
        | {name: _rounded(float(matrix.flatten()[place])) for name, matrix in rows.items()}
        for place in best
    ]
    return {"temperature": temperature, "pairs": pairs}


def _rounded(value: float) -> float | None:
    return None if value != value else float(f"{value:.3g}")


def gap_closed(student: float, control: float, teacher: float) -> float | None:
    """Share of the distance from the control (the same student, hard labels) to the teacher that the student covers;
    None: the teacher is no better than the control, so there is no gap."""
    return (student - control) / (teacher - control) if teacher > control else None


def recall(logits: Tensor, labels: Tensor, index: int) -> float | None:
    """Of the samples of class `index` the share found; None: there are none."""
    mine = labels == index
    return float((logits[mine].argmax(1) == index).double().mean()) if bool(mine.any()) else None
