"""What the teachers say about every sample, computed once and kept in memory-mapped files of the job's scratch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from compression.data import Split
from compression.distillation.teachers import BATCH, Runner

MAX_BYTES = 4 << 30
"""Of one split's outputs, all teachers together; beyond it they are computed anew in each step."""

Answers = list[tuple[Tensor, ...]]
"""For each teacher its outputs, N × … each."""


def cached(runners: Sequence[Runner], split: Split, folder: Path, max_bytes: int = MAX_BYTES) -> Answers | None:
    """The answers of all teachers on a split, backed by files in `folder`; None: they would take more than `max_bytes`.

    The first batch says how large the outputs are.
    """
    first = [runner.on(split, 0) for runner in runners]
    each = sum(math.prod(value.shape[1:]) for outputs in first for value in outputs)
    if 4 * each * len(split) > max_bytes:
        return None
    return [
        _written(runner, [value.shape[1:] for value in outputs], split, folder / f"teacher-{index}")
        for index, (runner, outputs) in enumerate(zip(runners, first, strict=True))
    ]


def _written(runner: Runner, shapes: Sequence[torch.Size], split: Split, path: Path) -> tuple[Tensor, ...]:
    stored = tuple(
        torch.from_file(
            str(path.with_name(f"{path.name}-{index}")),
            shared=True,
            size=len(split) * math.prod(shape),
            dtype=torch.float32,
        ).reshape(len(split), *shape)
        for index, shape in enumerate(shapes)
    )
    for start in range(0, len(split), BATCH):
        for place, value in zip(stored, runner.on(split, start), strict=True):
            place[start : start + BATCH] = value.cpu()
    return stored
