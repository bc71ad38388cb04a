"""Whether a dataset fits a model, by what the inspections of both hold; the engine looks at the values again.

What only the whole file tells (a token beyond its embedding, labels of a kind that was never declared) is the engine's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from api.problems import Fault, fault, pointer
from compression.errors import DataError
from compression.layout import (
    IMAGE_CHANNELS,
    LABELS,
    image_shape,
    label_fault,
    made_splits,
    place,
    resize_fault,
    sample_fault,
)
from compression.spec import DataSpec, JobSpec, Preprocess

Json = Mapping[str, Any]


def data_faults(spec: JobSpec, model: Json, data: Json) -> list[Fault]:
    """Of two inspections. An inspection made by an older version lacks what came later: that isn't judged then."""
    shapes = {entry["name"]: entry["shape"] for entry in model["inputs"]}
    faults = [
        fault(pointer("data", "preprocess", name), f"the model has no input of this name; it has {', '.join(shapes)}")
        for name in spec.data.preprocess
        if name not in shapes
    ]
    images = data.get("images")
    faults += _array_faults(spec, shapes, data["arrays"]) if images is None else _image_faults(spec, shapes, images)
    faults += _split_faults(spec.data, data)
    return faults + list(_label_faults(spec.data, model, data))


def model_fault(model: Json, other: Json) -> str | None:
    """Why another model (a teacher, a student) can't stand beside the job's: it must take the same inputs, told apart
    by name where both have the same names and else by their order, and where each has one output, give the same. A
    free length (None) takes any."""
    own, its = ({entry["name"]: entry for entry in side["inputs"]} for side in (model, other))
    if len(own) != len(its):
        return f"it has {len(its)} inputs, the job's model has {len(own)}"
    for mine, theirs in zip(own.values(), its.values(), strict=True):
        given = its[mine["name"]] if own.keys() == its.keys() else theirs
        if given["dtype"] != mine["dtype"] or not _alike(given["shape"], mine["shape"]):
            described = f"{given['name']} {given['dtype']} {given['shape']}"
            return f"it takes {described}, the job's model {mine['name']} {mine['dtype']} {mine['shape']}"
    outputs = [side.get("output_shapes", []) for side in (model, other)]
    if all(len(shapes) == 1 for shapes in outputs) and not _alike(outputs[1][0], outputs[0][0]):
        return f"its output is {outputs[1][0]}, that of the job's model {outputs[0][0]}"
    return None


def _alike(shape: Sequence[int | None], wanted: Sequence[int | None]) -> bool:
    return len(shape) == len(wanted) and all(
        length is None or other is None or length == other for length, other in zip(shape, wanted, strict=True)
    )


def _array_faults(spec: JobSpec, shapes: Mapping[str, Any], arrays: Json) -> list[Fault]:
    """Arrays that are missing, of no input, of another shape than their input's (of several splits, said once), or with
    NaN in them."""
    faults = []
    trained = set()
    misshapen: dict[tuple[str, str], list[str]] = {}
    for key, facts in arrays.items():
        name, split = place(key, shapes)
        if split == "train":
            trained.add(name)
        if facts.get("finite") is False:
            faults.append(fault("/dataset", f"the array {key} holds NaN or infinite values"))
        if name == LABELS:
            continue
        if name not in shapes:
            faults.append(fault("/dataset", f"the array {key} is of no input; the model has {', '.join(shapes)}"))
        elif None not in shapes[name]:  # a free length of a model that wasn't taken apart
            declared = spec.data.preprocess.get(name, Preprocess())
            if (reason := sample_fault(facts["shape"][1:], shapes[name], declared)) is not None:
                misshapen.setdefault((name, reason), []).append(key)
    faults += [fault("/dataset", f"{', '.join(keys)}: {reason}") for (_, reason), keys in misshapen.items()]
    missing = [name for name in shapes if name not in trained]
    return faults + [fault("/dataset", f"there is no array for the input {name} to train on") for name in missing]


def _image_faults(spec: JobSpec, shapes: Mapping[str, Any], images: Json) -> list[Fault]:
    """A set of images for a network that wants other than images, or images of another size with no resize declared."""
    if len(shapes) != 1:
        return [fault("/dataset", f"images are for one input, the model has {', '.join(shapes)}: upload arrays")]
    ((name, wanted),) = shapes.items()
    declared = spec.data.preprocess.get(name, Preprocess())
    shape = image_shape(wanted)
    if shape is None or None in wanted or shape.channels not in IMAGE_CHANNELS:
        return [fault("/dataset", f"the model wants {wanted}; images have 1 or 3 channels")]
    at = pointer("data", "preprocess", name)
    if declared.layout != "as-is":
        return [fault(f"{at}/layout", "image files have no layout: leave it out, it is for stored arrays")]
    if (reason := resize_fault(declared, shape)) is not None:
        return [fault(f"{at}/resize/size", reason)]
    sides = {side: (images[side]["min"], images[side]["max"]) for side in ("height", "width")}
    if declared.resize is None and sides != {"height": (shape.height,) * 2, "width": (shape.width,) * 2}:
        found = " × ".join(f"{low}" if low == high else f"{low}–{high}" for low, high in sides.values())
        reason = f"the images have {found} pixels (height × width), the model wants {shape.height} × {shape.width}"
        return [fault(f"{at}/resize", f"{reason}: declare resize")]
    return []


def _split_faults(spec: DataSpec, data: Json) -> list[Fault]:
    sizes = data.get("splits")
    if not sizes or "train" not in sizes:
        return []
    try:
        made_splits(sizes["train"], sizes.keys(), spec)
    except DataError as error:
        return [fault("/dataset", error.message)]
    return []


def _label_faults(spec: DataSpec, model: Json, data: Json) -> Iterator[Fault]:
    """Class indices beyond the outputs, or labels of another number of values than they have."""
    shapes = model.get("output_shapes", [])
    outputs = [(name, shape) for name, shape in zip(model["outputs"], shapes, strict=False) if None not in shape]
    for label, top, task in _labels(spec, data):
        for name, shape in outputs:
            if (reason := label_fault(task, label, top, shape, name)) is not None:
                yield fault("/dataset", reason)


def _labels(spec: DataSpec, data: Json) -> Iterator[tuple[Sequence[int], int | None, str]]:
    """(shape of one label, highest class, task) of the labels, all splits together, where their task is sure."""
    labels = data.get("labels")
    if labels is None:
        return
    task = labels["task"] if spec.task == "auto" else spec.task
    if data.get("images") is not None:
        yield [], data["images"]["classes"] - 1, task
        return
    tops: dict[tuple[int, ...], list[int]] = {}
    for key, facts in data["arrays"].items():
        if place(key)[0] == LABELS:
            label = tuple(facts["shape"][1:]) or ((1,) if task == "multilabel" else ())
            top = [int(facts["max"])] if task == "classification" and "max" in facts else []
            tops[label] = tops.get(label, []) + top
    for label, found in tops.items():
        yield label, max(found, default=None), task
