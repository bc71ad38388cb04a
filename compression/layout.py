"""Names, shapes and sizes of data, by rule alone: what the API says at submission is what the engine does later.

Standard library and pydantic only. Shapes are of one sample: the batch axis is left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from compression.errors import DataError
from compression.spec import DataSpec, Preprocess

LABELS = "labels of the samples"  # no input has this name: it is no identifier
SPLITS = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "test": "test",
    "calibration": "calibration",
}
IMAGE_CHANNELS = (1, 3)
_SUFFIX = re.compile(rf"^(?P<name>.+)_(?P<split>{'|'.join(SPLITS)})$")


@dataclass(frozen=True)
class ImageShape:
    channels: int
    height: int
    width: int
    channels_last: bool = False


def place(key: str, inputs: Collection[str] = ()) -> tuple[str, str]:
    """(input or LABELS, split) of an array called `key`: `x_val` → ("x", "validation"); no suffix means training.
    `x` is the only input, where there is one."""
    match = None if key in {*inputs, "y"} else _SUFFIX.match(key)
    name, split = (match["name"], SPLITS[match["split"]]) if match else (key, "train")
    if name == "y":  # labels, always; an input of that name is given as `x`
        return LABELS, split
    if name == "x" and len(inputs) == 1:
        name = next(iter(inputs))
    return name, split


def image_shape(wanted: Sequence[int]) -> ImageShape | None:
    """How an input of this shape is seen as an image: channels first, unless only the last axis can be channels."""
    if len(wanted) == 2:
        return ImageShape(1, wanted[0], wanted[1])
    if len(wanted) != 3:
        return None
    if wanted[0] not in IMAGE_CHANNELS and wanted[2] in IMAGE_CHANNELS:
        return ImageShape(wanted[2], wanted[0], wanted[1], channels_last=True)
    return ImageShape(wanted[0], wanted[1], wanted[2])


def channels_first(stored: Sequence[int], declared: Preprocess, image: ImageShape) -> tuple[int, int, int] | None:
    """The shape of a stored sample as channels × height × width; None: it is no image."""
    if len(stored) == 2:
        return 1, stored[0], stored[1]
    if len(stored) != 3:
        return None
    first, second, third = stored
    return (third, first, second) if stored_channels_last(declared, image) else (first, second, third)


def stored_channels_last(declared: Preprocess, image: ImageShape) -> bool:
    """Whether stored samples of three axes have their channels along the last."""
    return declared.layout == "NHWC" or (declared.layout == "as-is" and image.channels_last)


def sample_fault(stored: Sequence[int], wanted: Sequence[int], declared: Preprocess) -> str | None:
    """Why samples of this shape can't be brought to the network's, if so. Axes of length one may be left out, and a
    sample may be flat (row-major)."""
    shape, image = tuple(stored), image_shape(wanted)
    if declared.layout != "as-is" and len(shape) != 3:
        return f"layout {declared.layout} needs 4 axes, not {len(shape) + 1}"
    if declared.layout != "as-is" or declared.resize is not None:
        found = channels_first(shape, declared, image) if image is not None else None
        if image is None or found is None:
            return f"layout and resize are for images: samples have shape {shape}, the network wants {tuple(wanted)}"
        if (fault := resize_fault(declared, image)) is not None:
            return fault
        if declared.resize is not None:
            found = (found[0], image.height, image.width)
        shape = (found[1], found[2], found[0]) if image.channels_last else found
    if _bare(shape) == _bare(wanted) or (len(shape) == 1 and shape[0] == math.prod(wanted)):
        return None
    return f"samples have shape {shape}, the network wants {tuple(wanted)}{_hint(shape, declared, image)}"


def resize_fault(declared: Preprocess, image: ImageShape) -> str | None:
    """Why the declared size isn't the network's, if so."""
    given = declared.resize.size if declared.resize is not None else None
    if given is None or given == [image.height, image.width]:
        return None
    return f"resize gives {given[0]} × {given[1]}, the network wants {image.height} × {image.width}: leave size out"


def _hint(shape: Sequence[int], declared: Preprocess, image: ImageShape | None) -> str:
    """What to declare, where a sample looks like an image of another layout or size."""
    if image is None or len(shape) not in {2, 3}:
        return ""
    turned = len(shape) == 3 and declared.layout == "as-is" and shape[0] != image.channels == shape[2]
    if turned and not image.channels_last:
        size = "" if tuple(shape[:2]) == (image.height, image.width) else " and resize"
        return f"; if its channels come last, declare layout NHWC{size}"
    found = channels_first(shape, declared, image)
    if declared.resize is None and found is not None and found[0] == image.channels:
        return "; declare resize to bring images to that size"
    return ""


def _bare(shape: Sequence[int]) -> list[int]:
    return [size for size in shape if size != 1]


def made_splits(samples: int, given: Collection[str], spec: DataSpec) -> dict[str, int]:
    """How many samples each split has that is made of `samples` training samples: test first, then validation; "train"
    is what is left. DataError: too few."""
    sizes = {"train": samples}
    for name, fraction in (("test", spec.test_fraction), ("validation", spec.validation_fraction)):
        if name in given:
            continue
        taken = round(sizes["train"] * fraction)
        if not 0 < taken < sizes["train"]:
            raise DataError(f"too few samples ({sizes['train']}) to make a {name} split", "x")
        sizes[name] = taken
        sizes["train"] -= taken
    return sizes


def label_fault(task: str, label: Sequence[int], top: int | None, output: Sequence[int], name: str) -> str | None:
    """Why labels (each of shape `label`, the highest class index `top`) aren't for the output `name`, if so."""
    if task == "classification":
        if len(output) != 1:
            return f"class indices need N × classes; the output {name} is {batch_shape(output)}"
        if top is not None and top >= output[0]:
            hint = "; for one sigmoid value declare the task multilabel" if output[0] == 1 else ""
            return f"label {top} is out of range: the output {name} has {output[0]} classes{hint}"
    elif task == "multilabel" and list(label) != list(output):
        return f"the labels are {batch_shape(label)}, the output {name} is {batch_shape(output)}"
    elif task == "regression" and math.prod(label) != math.prod(output):
        return f"a target has {math.prod(label)} values, the output {name} has {math.prod(output)}"
    return None


def batch_shape(shape: Sequence[int]) -> str:
    return " × ".join(["N", *map(str, shape)])
