"""What a training run has come to, and which of its weights are the best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from compression.training.evaluate import top1


@dataclass
class Progress:
    """What a run has come to: everything that isn't a tensor."""

    step: int = 0
    best_epoch: float = 0.0
    best: dict[str, float] = field(default_factory=dict)
    top: float = 0.0  # the highest accuracy or agreement seen
    history: list[dict[str, float]] = field(default_factory=list)


def better(new: dict[str, float], best: dict[str, float], top: float, samples: int) -> bool:
    """Whether `new` validation metrics replace the `best`; `top`: the highest accuracy (without labels: agreement with
    the teacher) seen, `new` included.

    Such a share of few samples is coarse: of those within one standard error of the top, the lowest loss is the best.
    """
    if top1(new) is None:
        return new["score"] > best["score"]
    limit = top - _standard_error(top, samples)
    if new["score"] < limit or best["score"] < limit:
        return new["score"] >= limit
    return new["loss"] < best["loss"]


def ruined(history: Sequence[Mapping[str, float]], samples: int) -> bool:
    """Whether every validation was worse than the first one, before training; a share by more than one standard error
    of so many samples."""
    start, *later = history
    limit = start["score"]
    if top1(dict(start)) is not None:
        limit -= _standard_error(limit, samples)
    return all(entry["score"] < limit for entry in later)


def _standard_error(share: float, samples: int) -> float:
    return math.sqrt(max(share * (1 - share), 1 / samples) / samples)
