"""The splits that a file doesn't have, made of its training samples."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from compression.data.dataset import Split
from compression.data.labels import task_of
from compression.layout import made_splits
from compression.spec import DataSpec


def completed(parts: Mapping[str, Split], spec: DataSpec) -> dict[str, Split]:
    """train, validation and test: what is missing is taken from train, the test split first. DataError: too few."""
    sizes = made_splits(len(parts["train"]), parts.keys(), spec)
    whole = dict(parts)
    for name in ("test", "validation"):
        if name not in whole:
            random = np.random.default_rng([spec.split_seed, len(whole.keys() & {"test", "validation"})])
            whole["train"], whole[name] = _divide(whole["train"], sizes[name], random)
    return whole


def _divide(part: Split, count: int, random: np.random.Generator) -> tuple[Split, Split]:
    """Takes `count` samples away, class by class where labels are class indices, so that each keeps its share."""
    order = random.permutation(len(part))
    labels = part.labels
    if labels is not None and task_of(labels) == "classification":
        by_class = labels.numpy()[order]
        classes, counts = np.unique(by_class, return_counts=True)
        quotas = counts * (count / len(part))
        taken = np.floor(quotas + 1e-9).astype(int)
        # The largest remainders get what rounding down left over (Hare's method), so that many small classes count too.
        taken[np.argsort(taken - quotas, kind="stable")[: count - int(taken.sum())]] += 1
        members = (order[by_class == value][:some] for value, some in zip(classes, taken, strict=True))
        chosen = np.sort(np.concatenate(list(members)))
    else:
        chosen = np.sort(order[:count])
    keep = np.ones(len(part), dtype=bool)
    keep[chosen] = False
    return part.take(torch.from_numpy(np.flatnonzero(keep))), part.take(torch.from_numpy(chosen))
