"""A data file → `Dataset`: arrays by input name or images by folder, prepared as declared, checked and split.

Arrays are named as the network's inputs (`x` serves where there is one input) and `y` for labels. A suffix says the
split: `x_train`, `x_validation` (or `_val`), `x_test`; `x_calibration` has no labels. A missing split is made, with
`DataSpec.split_seed`. Stored shapes may leave out axes of length one or be flattened (row-major). For images see
`compression/intake/images.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compression.data.concerns import Concern, class_concerns, size_concerns, value_concerns
from compression.data.dataset import Dataset, Split, moments
from compression.data.labels import read_labels, task_of, top_class
from compression.data.prepare import normalised, prepare
from compression.data.resize import resized
from compression.data.splits import completed
from compression.errors import DataError
from compression.intake.arrays import read_arrays
from compression.intake.data_zip import MAX_BYTES
from compression.intake.images import ImageSet, Sample, is_image_set, read_image_set
from compression.intake.picture import decode
from compression.layout import IMAGE_CHANNELS, LABELS, ImageShape, image_shape, label_fault, place, resize_fault
from compression.network import Input, Signature
from compression.spec import DataSpec, Preprocess

Array = NDArray[np.generic]


def load_dataset(path: Path, signature: Signature, spec: DataSpec) -> Dataset:
    """Reads, checks and splits a data file for a network. Every fault is a DataError that names the array or file."""
    unknown = set(spec.preprocess) - {entry.name for entry in signature.inputs}
    if unknown:
        raise DataError("preprocessing is declared for an input that the network doesn't have", min(unknown))
    classes: tuple[str, ...] = ()
    if is_image_set(path):
        images = read_image_set(path)
        parts, classes = _read_images(images, signature, spec), images.classes
    else:
        stored = _by_split(read_arrays(path), signature)
        parts = {split: _read_arrays(arrays, signature, spec, split) for split, arrays in stored.items()}
    calibration = parts.pop("calibration", None)
    kinds = {None if part.labels is None else part.labels.dtype for part in parts.values()}
    if len(kinds) > 1:
        raise DataError("labels must be in every split or in none, and of one kind", "y")
    if len({part.labels.shape[1:] for part in parts.values() if part.labels is not None}) > 1:
        raise DataError("labels of the splits differ in shape", "y")
    whole = completed(parts, spec)
    dataset = Dataset(
        whole["train"],
        whole["validation"],
        whole["test"],
        task_of(whole["train"].labels),
        given_calibration=calibration,
        classes=classes,
        concerns=tuple(_concerns(whole, signature, classes)),
    )
    _check_variety(dataset)
    return dataset


def _by_split(arrays: Mapping[str, Array], signature: Signature) -> dict[str, dict[str, Array]]:
    """Arrays grouped by split ("train" where no suffix is given) and renamed to the network's inputs and LABELS."""
    inputs = [entry.name for entry in signature.inputs]
    if "y" in inputs and len(inputs) > 1:
        raise DataError("an array of this name holds labels: rename the network's input before exporting it", "y")
    found: dict[str, dict[str, Array]] = {}
    for key, value in arrays.items():
        name, split = place(key, inputs)
        if name not in {*inputs, LABELS}:
            raise DataError(f"the network has no input of this name; it has {', '.join(sorted(inputs))}", key)
        if name in found.setdefault(split, {}):
            raise DataError("the array is given twice", key)
        found[split][name] = value
    if "train" not in found:
        raise DataError("there are no training samples", "x")
    if LABELS in found.get("calibration", {}):
        raise DataError("calibration samples have no labels: leave the array out", "y_calibration")
    return found


def _read_arrays(arrays: Mapping[str, Array], signature: Signature, spec: DataSpec, split: str) -> Split:
    inputs: dict[str, Tensor] = {}
    for entry in signature.inputs:
        if entry.name not in arrays:
            raise DataError(f"the array for this input is missing from the split _{split}", entry.name)
        inputs[entry.name] = prepare(arrays[entry.name], entry, spec.preprocess.get(entry.name, Preprocess()))
    counts = {name: len(value) for name, value in inputs.items()}
    labels = None
    if LABELS in arrays:
        labels = read_labels(arrays[LABELS], spec.task)
        counts["y"] = len(labels)
    if len(set(counts.values())) > 1:
        raise DataError(f"arrays of one split differ in their number of samples: {counts}", f"y_{split}")
    if not next(iter(counts.values())):
        raise DataError("the split holds no samples", f"x_{split}")
    return Split(inputs, labels)


def _read_images(images: ImageSet, signature: Signature, spec: DataSpec) -> dict[str, Split]:
    if len(signature.inputs) != 1:
        names = ", ".join(entry.name for entry in signature.inputs)
        raise DataError(f"images are for one input, the network has {names}: upload arrays", images.path.name)
    if images.classes and spec.task not in {"auto", "classification"}:
        raise DataError(f"class folders are for classification, the task declared is {spec.task}", images.path.name)
    entry = signature.inputs[0]
    declared = spec.preprocess.get(entry.name, Preprocess())
    shape = _wanted_image(entry, declared)
    if 4 * len(images.samples) * math.prod(entry.shape) > MAX_BYTES:
        raise DataError(f"the images take more than {MAX_BYTES >> 30} GiB at the network's size", images.path.name)
    parts = {}
    for split in dict.fromkeys(sample.split for sample in images.samples):
        samples = images.split(split)
        pixels = _pixels(images, samples, shape, declared, entry)
        labels = [sample.label for sample in samples if sample.label is not None]
        value = np.ascontiguousarray(pixels if shape.channels_last else pixels.transpose(0, 3, 1, 2))
        tensor = normalised(value.reshape(len(value), *entry.shape), entry, declared)
        parts[split] = Split({entry.name: tensor}, torch.tensor(labels) if labels else None)
    return parts


def _wanted_image(entry: Input, declared: Preprocess) -> ImageShape:
    shape = image_shape(entry.shape)
    if shape is None or shape.channels not in IMAGE_CHANNELS or not entry.dtype.startswith("float"):
        raise DataError(f"the network wants {entry.dtype} {entry.shape}; images have 1 or 3 channels", entry.name)
    if declared.layout != "as-is":
        raise DataError("image files have no layout: leave it out, it is for stored arrays", entry.name)
    if (fault := resize_fault(declared, shape)) is not None:
        raise DataError(fault, entry.name)
    return shape


def _pixels(images: ImageSet, samples: list[Sample], shape: ImageShape, declared: Preprocess, entry: Input) -> Array:
    """Bytes, N × height × width × channels, each image decoded and resized as declared."""
    out = np.empty((len(samples), shape.height, shape.width, shape.channels), np.uint8)
    for index, (sample, _, opened) in enumerate(images.pictures(samples)):
        image = decode(opened, sample.name, shape.channels)
        if declared.resize is not None:
            image = resized(image, shape.height, shape.width, declared.resize, sample.name)
        elif image.size != (shape.width, shape.height):
            size = f"{image.width} × {image.height} pixels, the network wants {shape.width} × {shape.height}"
            raise DataError(f"{size}: declare resize (/data/preprocess/{entry.name}/resize)", sample.name)
        out[index] = np.asarray(image).reshape(out.shape[1:])
    return out


def _check_variety(dataset: Dataset) -> None:
    if dataset.task != "classification":
        return
    parts = (dataset.train, dataset.validation, dataset.test)
    if len({int(value) for part in parts if part.labels is not None for value in torch.unique(part.labels)}) < 2:
        raise DataError("all labels are the same class", "y")


def _concerns(parts: Mapping[str, Split], signature: Signature, classes: tuple[str, ...]) -> list[Concern]:
    """Of the samples as the network gets them, splits that were made included."""
    found = size_concerns({name: len(part) for name, part in parts.items()})
    counts = {}
    for name, part in parts.items():
        if part.labels is not None and task_of(part.labels) == "classification":
            values, numbers = torch.unique(part.labels, return_counts=True)
            names = [classes[value] if classes else str(value) for value in values.tolist()]
            counts[name] = dict(zip(names, numbers.tolist(), strict=True))
    found += class_concerns(counts)
    for entry in signature.inputs:
        value = parts["train"].inputs[entry.name]
        if value.is_floating_point():
            extent = float(value.min()), float(value.max())
            found += value_concerns(entry.name, *extent, *moments(value), images=image_shape(entry.shape) is not None)
    return found


def check_labels(dataset: Dataset, outputs: Mapping[str, Tensor]) -> None:
    """Every output of the network (by name, for some batch) must be what the labels are for: N × C logits with class
    indices below C or N × C labels, or as many values as a target has."""
    for part in (dataset.train, dataset.validation, dataset.test):
        if part.labels is None or dataset.task is None:
            continue
        for name, output in outputs.items():
            shapes = part.labels.shape[1:], top_class(part.labels), output.shape[1:]
            if (fault := label_fault(dataset.task, *shapes, name)) is not None:
                raise DataError(fault, "y")
