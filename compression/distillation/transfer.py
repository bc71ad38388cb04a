"""What the student is taught on: the training samples, or those of some classes alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from compression.data import Dataset, Split
from compression.errors import SpecError


def class_indices(wanted: Sequence[int | str], names: Sequence[str], count: int) -> list[int]:
    """Classes by index, or by name where the data has names, ascending. SpecError: there is no such class, or all."""
    found = set()
    for place, entry in enumerate(wanted):
        index = entry if isinstance(entry, int) else list(names).index(entry) if entry in names else -1
        if not 0 <= index < count:
            known = f"0 to {count - 1}" + (f", or {', '.join(names[:10])}" if names else "")
            raise SpecError(f"there is no class {entry!r}; classes are {known}", f"/exclude_classes/{place}")
        found.add(index)
    if len(found) >= count - 1:
        raise SpecError("at least two classes must be left", "/exclude_classes")
    return sorted(found)


def classes_of(data: Dataset, split: Split, teacher: Callable[[], Tensor]) -> Tensor:
    """Of each sample of a split: its label where that is a class, or else what the teacher, by logits, takes it for."""
    if data.task == "classification" and split.labels is not None:
        return split.labels
    return teacher().argmax(1)


def without(data: Dataset, classes: Sequence[int], train_classes: Tensor, validation_classes: Tensor) -> Dataset:
    """The data without samples of `classes`, in training and in the validation that chooses the best epoch: the student
    never sees them. What class a sample is, its label says, or else the teacher."""
    return replace(
        data,
        train=_without(data.train, classes, train_classes, "training"),
        validation=_without(data.validation, classes, validation_classes, "validation"),
    )


def _without(split: Split, classes: Sequence[int], of_samples: Tensor, name: str) -> Split:
    kept = torch.nonzero(~torch.isin(of_samples, torch.tensor(classes))).flatten()
    if not len(kept):
        raise SpecError(f"no {name} sample is of another class", "/exclude_classes")
    return split.take(kept)
