"""What a data file holds, before any network is known: figures, classes, a few pictures, and what looks wrong."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from compression.data import thumbnails
from compression.data.concerns import (
    Concern,
    class_concerns,
    gap_concerns,
    listed,
    order_concerns,
    size_concerns,
    told_once,
    value_concerns,
)
from compression.data.facts import (
    DIGEST,
    SHOWN_CLASSES,
    Moments,
    constant_columns,
    count_values,
    describe_array,
    repeated,
    sample_digests,
)
from compression.data.labels import read_labels, task_of
from compression.errors import DataError
from compression.intake.arrays import read_arrays
from compression.intake.images import ImageSet, Sample, is_image_set, read_image_set
from compression.intake.picture import decode
from compression.layout import LABELS, SPLITS, made_splits, place
from compression.spec import DataSpec

Array = NDArray[np.generic]
Json = dict[str, Any]
STRIP = 1 << 20  # pixels
ORDER = list(dict.fromkeys(SPLITS.values()))


def inspect_data(path: Path) -> Json:
    """JSON facts, training first wherever splits follow one another. `splits`: samples by split, as stored. `labels`:
    task, classes, and samples by split and class; None without labels. `samples`: pictures. `warnings`: {"kind",
    "message", "where"}. DataError: the file can't be read."""
    return _of_images(read_image_set(path)) if is_image_set(path) else _of_arrays(read_arrays(path))


def _of_arrays(stored: Mapping[str, Array]) -> Json:
    arrays = dict(sorted(stored.items(), key=lambda item: ORDER.index(place(item[0])[1])))
    facts = {name: describe_array(value) for name, value in arrays.items()}
    inputs: dict[str, dict[str, Array]] = {}
    labels: dict[str, Array] = {}
    for key, value in arrays.items():
        name, split = place(key)
        if name == LABELS:
            labels[split] = value
        elif value.ndim:
            inputs.setdefault(split, {})[name] = value
    concerns = told_once(entry for key, value in arrays.items() for entry in _array_concerns(key, value, facts[key]))
    pictures = thumbnails.Thumbnails()
    for key, value in arrays.items():
        name, split = place(key)
        if name != LABELS:
            thumbnails.of_array(pictures, value, facts[key], split, labels.get(split))
    sizes = {split: min(len(value) for value in found.values()) for split, found in inputs.items()}
    described = _array_labels(labels, concerns)
    return {
        "kind": "data",
        "format": "arrays",
        "arrays": facts,
        "images": None,
        "splits": sizes,
        "labels": described,
        "samples": pictures.samples,
        "warnings": [
            entry.as_dict()
            for entry in [
                *concerns,
                *size_concerns(_with_made(sizes)),
                *_duplicates({split: sample_digests(found) for split, found in inputs.items()}),
            ]
        ],
    }


def _array_concerns(key: str, value: Array, facts: Json) -> list[Concern]:
    if not facts.get("finite", True):
        return [Concern("not-finite", "NaN or infinite values: no job will take this array", key)]
    if place(key)[0] == LABELS:
        return []
    found = []
    images = thumbnails.is_image_like(value)
    # Token ids and masks are integers too: only bytes that look like images are numbers to normalise.
    if "std" in facts and (value.dtype.kind == "f" or (images and value.dtype == np.uint8)):
        found += value_concerns(key, *(facts[name] for name in ("min", "max", "mean", "std")), images=images)
    if value.dtype.kind == "f" and (constant := constant_columns(value)) and facts["min"] != facts["max"]:
        found.append(Concern("constant-feature", f"{constant} of {value.shape[1]} features never change", key))
    return found


def _array_labels(stored: Mapping[str, Array], concerns: list[Concern]) -> Json | None:
    """Task, classes and counts by split; what the labels can't be used for is added to `concerns`."""
    try:
        read = {split: read_labels(value) for split, value in stored.items()}
    except DataError as error:
        concerns.append(Concern("labels", error.message, "y"))
        return None
    tasks = {task_of(value) for value in read.values()}
    if len(tasks) != 1:
        if tasks:
            concerns.append(Concern("labels", "the splits hold labels of different kinds", "y"))
        return None
    task = tasks.pop()
    counts: dict[str, dict[str, int]] = {}
    if task == "classification":
        counts = {split: count_values(value.numpy()) for split, value in read.items()}
        present = sorted({int(name) for found in counts.values() for name in found})
        concerns += gap_concerns(present)
        classes = list(map(str, range(present[-1] + 1))) if present and present[-1] < SHOWN_CLASSES else None
    elif task == "multilabel":
        counts = {
            split: {str(index): int(count) for index, count in enumerate(value.flatten(1).sum(0).tolist())}
            for split, value in read.items()
        }
        width = next(iter(read.values())).shape[1:].numel()
        classes = list(map(str, range(min(width, SHOWN_CLASSES))))
    else:
        return {"task": task, "classes": None, "counts": None}
    concerns += class_concerns(counts)
    shown = all(len(found) <= SHOWN_CLASSES for found in counts.values())
    return {"task": task, "classes": classes, "counts": counts if shown else None}


def _of_images(images: ImageSet) -> Json:
    moments, pictures = Moments(), thumbnails.Thumbnails()
    channels: Counter[str] = Counter()
    formats: Counter[str] = Counter()
    sides: list[tuple[int, int]] = []
    digests: dict[str, list[bytes]] = {}
    shown: set[int | None] = set()
    samples = sorted(images.samples, key=lambda sample: ORDER.index(sample.split))
    for sample, content, opened in images.pictures(samples):
        image = decode(opened, sample.name)
        formats[opened.format or "?"] += 1
        channels["1" if image.mode == "L" else "3"] += 1
        if image is not opened:
            opened.close()  # a large image isn't held twice
        for strip in _strips(image):
            moments.add(strip)
        sides.append((image.height, image.width))
        digests.setdefault(sample.split, []).append(hashlib.blake2b(content, digest_size=DIGEST).digest())
        if sample.split == "train" and not pictures.full and (sample.label is None or sample.label not in shown):
            shown.add(sample.label)
            pictures.add(image, sample.split, None if sample.label is None else images.classes[sample.label])
    sizes = Counter(sample.split for sample in samples)
    facts = moments.as_dict()
    concerns = value_concerns("", facts["min"], facts["max"], facts["mean"], facts["std"], images=True)
    concerns += order_concerns(images.classes)
    labels = None
    if images.classes:
        counts = _class_counts(samples, images.classes)
        concerns += class_concerns(counts)
        shown_counts = counts if len(images.classes) <= SHOWN_CLASSES else None
        labels = {"task": "classification", "classes": list(images.classes[:SHOWN_CLASSES]), "counts": shown_counts}
    described = {
        "count": len(samples),
        "skipped": images.skipped,
        "channels": dict(channels),
        "formats": dict(formats),
        "height": _spread([height for height, _ in sides]),
        "width": _spread([width for _, width in sides]),
        "classes": len(images.classes),
        **facts,
    }
    concerns += [*size_concerns(_with_made(sizes)), *_duplicates(digests)]
    return {
        "kind": "data",
        "format": "images",
        "arrays": {},
        "images": described,
        "splits": dict(sizes),
        "labels": labels,
        "samples": pictures.samples,
        "warnings": [concern.as_dict() for concern in concerns],
    }


def _strips(image: Image.Image) -> Iterator[Array]:
    """The pixels, some rows at a time: as an array, a large image would be in memory twice more."""
    rows = max(1, STRIP // image.width)
    if rows >= image.height:
        yield np.asarray(image)
        return
    for top in range(0, image.height, rows):
        yield np.asarray(image.crop((0, top, image.width, min(top + rows, image.height))))


def _class_counts(samples: Sequence[Sample], classes: Sequence[str]) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for sample in samples:
        if sample.label is not None:
            found = counts.setdefault(sample.split, {})
            name = classes[sample.label]
            found[name] = found.get(name, 0) + 1
    return counts


def _spread(values: Sequence[int]) -> Json:
    return {"min": min(values), "median": int(np.median(values)), "max": max(values)}


def _with_made(sizes: Mapping[str, int]) -> dict[str, int]:
    """Sizes with those of the splits that a job makes, as the defaults say."""
    try:
        return {**sizes, **made_splits(sizes.get("train", 0), sizes.keys(), DataSpec())}
    except DataError:
        return dict(sizes)


def _duplicates(digests: Mapping[str, Sequence[bytes]]) -> list[Concern]:
    parts = []
    pairs = repeated({split: digests[split] for split in ("train", "validation", "test") if split in digests})
    between = {pair: count for pair, count in pairs.items() if pair[0] != pair[1]}
    for (first, second), count in between.items():
        parts.append(f"{count} samples of {second} are in {first} too")
    if (again := pairs.get(("train", "train"))) and not {"validation", "test"} <= digests.keys():
        parts.append(f"{again} training samples come again, so splits made of them share samples")
    return [Concern("duplicates", listed(parts), "")] if parts else []
