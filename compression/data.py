"""A data file as the network sees it: arrays by input name, labels, and three splits.

Arrays are named as the network's inputs (`x` serves where there is one input) and `y` for labels. A suffix says the
split: `x_train`, `x_validation` (or `_val`), `x_test`. A missing split is made, with `DataSpec.split_seed`. Stored
shapes may leave out axes of length one or be flattened (row-major).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compression.errors import DataError
from compression.intake.arrays import read_arrays
from compression.network import Input, Signature
from compression.spec import DataSpec, Preprocess
from compression.training.losses import Task

Array = NDArray[np.generic]
LABELS = "labels of the samples"  # no input has this name: it is no identifier
SPLITS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
MAX_CLASS = 1_000_000
_SUFFIX = re.compile(rf"^(?P<name>.+)_(?P<split>{'|'.join(SPLITS)})$")


@dataclass(frozen=True)
class Split:
    """Samples: `inputs` by name (N × …, in the input's dtype), `labels` (N int64, or N × … float32) or None."""

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
    train: Split
    validation: Split
    test: Split
    task: Task | None  # None: no labels, fidelity to the original is the metric


def load_dataset(path: Path, signature: Signature, spec: DataSpec) -> Dataset:
    """Reads, checks and splits a data file for a network. Every fault is a DataError that names the array."""
    stored = _by_split(read_arrays(path), signature)
    unknown = set(spec.preprocess) - {entry.name for entry in signature.inputs}
    if unknown:
        raise DataError("preprocessing is declared for an input that the network doesn't have", min(unknown))
    parts = {
        split: _read_split(arrays, signature, spec.preprocess, suffix=f"_{split}") for split, arrays in stored.items()
    }
    kinds = {None if part.labels is None else part.labels.is_floating_point() for part in parts.values()}
    if len(kinds) > 1:
        raise DataError("labels must be in every split or in none, and of one kind", "y")
    floating = kinds.pop()
    task: Task | None = None if floating is None else ("regression" if floating else "classification")
    return _complete(parts, spec, task)


def _by_split(arrays: Mapping[str, Array], signature: Signature) -> dict[str, dict[str, Array]]:
    """Arrays grouped by split ("train" where no suffix is given) and renamed to the network's inputs and "y"."""
    inputs = {entry.name for entry in signature.inputs}
    if "y" in inputs and len(inputs) > 1:
        raise DataError("an array of this name holds labels: rename the network's input before exporting it", "y")
    names = inputs | {LABELS}
    found: dict[str, dict[str, Array]] = {}
    for key, value in arrays.items():
        match = None if key in names | {"y"} else _SUFFIX.match(key)
        name, split = (match["name"], SPLITS[match["split"]]) if match else (key, "train")
        if name == "y":  # labels, always; an input of that name is given as `x`
            name = LABELS
        elif name == "x" and len(signature.inputs) == 1:
            name = signature.inputs[0].name
        if name not in names:
            raise DataError(f"the network has no input of this name; it has {', '.join(sorted(inputs))}", key)
        if name in found.setdefault(split, {}):
            raise DataError("the array is given twice", key)
        found[split][name] = value
    if "train" not in found:
        raise DataError("there are no training samples", "x")
    return found


def _read_split(
    arrays: Mapping[str, Array], signature: Signature, preprocess: Mapping[str, Preprocess], suffix: str
) -> Split:
    inputs: dict[str, Tensor] = {}
    for entry in signature.inputs:
        if entry.name not in arrays:
            raise DataError(f"the array for this input is missing from the split{suffix}", entry.name)
        inputs[entry.name] = _prepare(arrays[entry.name], entry, preprocess.get(entry.name, Preprocess()))
    counts = {name: len(value) for name, value in inputs.items()}
    labels = None
    if LABELS in arrays:
        labels = _labels(arrays[LABELS])
        counts["y"] = len(labels)
    if len(set(counts.values())) > 1:
        raise DataError(f"arrays of one split differ in their number of samples: {counts}", f"y{suffix}")
    if not next(iter(counts.values())):
        raise DataError("the split holds no samples", f"x{suffix}")
    return Split(inputs, labels)


def _prepare(stored: Array, entry: Input, declared: Preprocess) -> Tensor:
    """One input's samples: layout, shape, dtype and scale as the network wants them."""
    if stored.ndim == 0:
        raise DataError("an array needs a sample axis", entry.name)
    value = stored
    if declared.layout == "NHWC":
        if value.ndim != 4:
            raise DataError(f"layout NHWC needs 4 axes, not {value.ndim}", entry.name)
        value = np.ascontiguousarray(value.transpose(0, 3, 1, 2))
    stored_shape, wanted = value.shape[1:], entry.shape
    squeezed = tuple(size for size in stored_shape if size != 1) == tuple(size for size in wanted if size != 1)
    flattened = len(stored_shape) == 1 and stored_shape[0] == int(np.prod(wanted))
    if not squeezed and not flattened:
        raise DataError(f"samples have shape {tuple(stored_shape)}, the network wants {wanted}", entry.name)
    value = value.reshape(len(value), *wanted)
    if not entry.dtype.startswith("float"):
        if value.dtype.kind not in "iub":
            raise DataError(f"the network wants {entry.dtype}, the array holds {value.dtype}", entry.name)
        if declared != Preprocess(layout=declared.layout):
            raise DataError(f"scale, mean and std are for numbers, and the network wants {entry.dtype}", entry.name)
        return torch.from_numpy(value.astype(entry.dtype))
    scaled = torch.from_numpy(value.astype(np.float32))
    if not bool(torch.isfinite(scaled).all()):
        raise DataError("the array holds NaN or infinite values", entry.name)
    channels = wanted[0] if wanted else 1
    for numbers in (declared.mean, declared.std):
        if len(numbers) not in {1, channels}:
            raise DataError(f"mean and std need 1 or {channels} values", entry.name)
    axes = (1, -1, *[1] * (len(wanted) - 1))
    scaled.mul_(declared.scale).sub_(torch.tensor(declared.mean).reshape(axes))
    return scaled.div_(torch.tensor(declared.std).reshape(axes))


def _labels(stored: Array) -> Tensor:
    if stored.ndim == 0:
        raise DataError("an array needs a sample axis", "y")
    if stored.dtype.kind in "iub":
        if stored.ndim == 2 and stored.shape[1] == 1:
            stored = stored[:, 0]
        if stored.ndim != 1:
            raise DataError(f"class indices have one axis, not {stored.ndim}", "y")
        if len(stored) and (int(stored.min()) < 0 or int(stored.max()) > MAX_CLASS):
            raise DataError(f"a class index is negative or above {MAX_CLASS}", "y")
        return torch.from_numpy(stored.astype(np.int64))
    values = torch.from_numpy(stored.astype(np.float32))
    if not bool(torch.isfinite(values).all()):
        raise DataError("the array holds NaN or infinite values", "y")
    if values.dim() == 2 and values.shape[1] > 1 and _one_hot(values):
        raise DataError("the labels are one-hot: give class indices, y.argmax(1), as integers", "y")
    return values


def _one_hot(values: Tensor) -> bool:
    return bool((((values == 0) | (values == 1)).all(1) & (values.sum(1) == 1)).all())


def _complete(parts: dict[str, Split], spec: DataSpec, task: Task | None) -> Dataset:
    """Makes the missing splits from the training samples: the test split first, then validation."""
    rest = parts["train"]
    made: dict[str, Split] = {name: part for name, part in parts.items() if name != "train"}
    for name, fraction in (("test", spec.test_fraction), ("validation", spec.validation_fraction)):
        if name not in made:
            rest, made[name] = _divide(rest, fraction, np.random.default_rng([spec.split_seed, len(made)]), name)
    if task == "classification":
        classes = {int(value) for part in (rest, *made.values()) for value in _present(part)}
        if len(classes) < 2:
            raise DataError("all labels are the same class", "y")
    return Dataset(rest, made["validation"], made["test"], task)


def _present(part: Split) -> list[int]:
    return [] if part.labels is None else torch.unique(part.labels).tolist()


def _divide(part: Split, fraction: float, random: np.random.Generator, name: str) -> tuple[Split, Split]:
    """Takes a fraction away, class by class where labels are class indices, so that each keeps its share."""
    order = random.permutation(len(part))
    labels = part.labels
    if labels is not None and not labels.is_floating_point():
        by_class = labels.numpy()[order]
        classes, counts = np.unique(by_class, return_counts=True)
        quotas = counts * fraction
        taken = np.floor(quotas).astype(int)
        # The largest remainders get what rounding down left over (Hare's method), so that many small classes count too.
        left = round(len(part) * fraction) - int(taken.sum())
        taken[np.argsort(taken - quotas, kind="stable")[:left]] += 1
        members = (order[by_class == value][:count] for value, count in zip(classes, taken, strict=True))
        chosen = np.sort(np.concatenate(list(members)))
    else:
        chosen = np.sort(order[: round(len(order) * fraction)])
    if not len(chosen) or len(chosen) == len(part):
        raise DataError(f"too few samples ({len(part)}) to make a {name} split", "x")
    keep = np.ones(len(part), dtype=bool)
    keep[chosen] = False
    return part.take(torch.from_numpy(np.flatnonzero(keep))), part.take(torch.from_numpy(chosen))


def check_labels(dataset: Dataset, outputs: Mapping[str, Tensor]) -> None:
    """Every output of the network (by name, for some batch) must be what the labels are for: N × C logits with class
    indices below C, or as many values as a target has."""
    for part in (dataset.train, dataset.validation, dataset.test):
        if part.labels is None:
            continue
        for name, output in outputs.items():
            if dataset.task == "classification" and output.dim() != 2:
                raise DataError(f"class indices need N × classes; the output {name} is {_shape(output)}", "y")
            if dataset.task == "classification" and int(part.labels.max()) >= output.shape[1]:
                top = int(part.labels.max())
                raise DataError(f"label {top} is out of range: the output {name} has {output.shape[1]} classes", "y")
            if dataset.task == "regression" and part.labels[0].numel() != output[0].numel():
                values = part.labels[0].numel()
                raise DataError(f"a target has {values} values, the output {name} has {output[0].numel()}", "y")


def _shape(output: Tensor) -> str:
    return " × ".join(["N", *map(str, output.shape[1:])])
