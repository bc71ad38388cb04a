"""Whether a dataset fits a model's inputs, by names and shapes alone; the engine looks at the values."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from api.problems import Fault, fault, pointer
from compression.spec import JobSpec

_SPLIT = re.compile(r"^(?P<name>.+)_(?P<split>train|validation|val|test)$")


def data_faults(spec: JobSpec, inputs: Sequence[Mapping[str, Any]], arrays: Mapping[str, Any]) -> list[Fault]:
    """Arrays that are missing, of no input, or of another shape than their input's (its batch axis is left out)."""
    shapes = {entry["name"]: entry["shape"] for entry in inputs}
    faults = [
        fault(pointer("data", "preprocess", name), f"the model has no input of this name; it has {', '.join(shapes)}")
        for name in spec.data.preprocess
        if name not in shapes
    ]
    trained = set()
    for key, facts in arrays.items():
        split = None if key in shapes else _SPLIT.match(key)
        name = split["name"] if split else key
        if name == "x" and len(shapes) == 1:
            name = next(iter(shapes))
        if split is None or split["split"] == "train":
            trained.add(name)
        if name == "y":
            continue
        if name not in shapes:
            faults.append(fault("/dataset", f"the array {key} is of no input; the model has {', '.join(shapes)}"))
        elif not _fits(_samples(spec, name, facts["shape"]), shapes[name]):
            stored = list(facts["shape"][1:])
            faults.append(fault("/dataset", f"samples of {key} have shape {stored}, the model wants {shapes[name]}"))
    faults += [
        fault("/dataset", f"there is no array for the input {name} to train on")
        for name in shapes
        if name not in trained
    ]
    return faults


def _samples(spec: JobSpec, name: str, stored: Sequence[int]) -> Sequence[int]:
    """The shape of one sample, as the network is to get it."""
    declared = spec.data.preprocess.get(name)
    if declared is not None and declared.layout == "NHWC" and len(stored) == 4:
        return [stored[3], stored[1], stored[2]]
    return stored[1:]


def _fits(sample: Sequence[int], wanted: Sequence[int]) -> bool:
    """Axes of length one may be left out, and a sample may be flat."""
    bare = [size for size in sample if size != 1] == [size for size in wanted if size != 1]
    return bare or (len(sample) == 1 and sample[0] == math.prod(wanted))
