"""`OpaqueOnnx`: a model that runs in ONNX Runtime and could not be lifted to a `Network`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compression.errors import DataError, IntakeError, SpecError
from compression.registry import Method, Verdict

if TYPE_CHECKING:
    from compression.data import Dataset
    from compression.network import Signature

SECONDS = 600.0
"""One run may take so long."""


@dataclass(frozen=True)
class OpaqueValue:
    """An input or output: `shape` with its first axis, None where a length is free; None as a whole: not declared."""

    name: str
    shape: tuple[int | None, ...] | None
    dtype: str


@dataclass(frozen=True)
class Stopped:
    """What kept the model from being lifted: `operator` and `node` are "" where it is the model as a whole."""

    operator: str
    node: str
    why: str


@dataclass(frozen=True)
class OpaqueOnnx:
    """The file at `path`, checked and tried (`compression.intake.onnx`). `parameters` and `bytes` are those of its
    stored floating-point tensors; what it multiplies isn't known."""

    path: Path
    inputs: tuple[OpaqueValue, ...]
    outputs: tuple[OpaqueValue, ...]
    stopped_by: Stopped
    parameters: int
    nonzero: int
    bytes: int
    provenance: tuple[Mapping[str, Any], ...]

    def run(self, inputs: Mapping[str, NDArray[Any]], seconds: float = SECONDS) -> dict[str, NDArray[Any]]:
        """The outputs by name, in ONNX Runtime: one thread, the CPU. IntakeError: it fails, or takes too long."""
        from compression.intake.onnx.runtime import ORT_ERRORS, open_reference, run_bounded

        try:
            found = run_bounded(open_reference(self.path), inputs, seconds)
        except ORT_ERRORS as error:
            message = f"ONNX Runtime does not run it: {str(error)[:300]}"
            raise IntakeError(message, self.path.name, "model-unsupported") from error
        return dict(zip((entry.name for entry in self.outputs), found, strict=True))


def verdict_on(model: OpaqueOnnx, method: Method) -> Verdict:
    """Whether a method can run on a model that couldn't be lifted; if not, `where` is what stopped the lift."""
    if "opaque" in method.forms:
        return method.check(model)
    stopped = model.stopped_by
    what = f"its operator {stopped.operator}" if stopped.operator else "it"
    reason = (
        f"it needs a network that Niwaki can take apart, and {what} could not be read so: {stopped.why}. What such a "
        "model can do: quantize.int8 may take it, and it can teach: name it as a teacher in a distill step of another "
        "model's job"
    )
    return Verdict(False, reason, stopped.node or stopped.operator)


def signature_of(model: OpaqueOnnx, architecture: Mapping[str, Any] | None = None) -> Signature:
    """Its inputs and outputs, as a job's data has to fit them. `architecture` may hold the lengths of free axes, as
    `read_model` takes it. SpecError: some are free and not given."""
    from compression.network import Input, Signature

    given = (architecture or {}).get("inputs", {})
    inputs = []
    for entry in model.inputs:
        shape = given.get(entry.name, None if entry.shape is None else entry.shape[1:])
        if shape is None or None in shape:
            raise SpecError(
                f"the lengths of the input {entry.name} are free in the file: give them with the model, as "
                '{"inputs": {NAME: [lengths of one sample]}}',
                "/architecture/inputs",
            )
        inputs.append(Input(entry.name, tuple(shape), entry.dtype))
    return Signature(tuple(inputs), tuple(entry.name for entry in model.outputs))


def with_lengths(model: OpaqueOnnx, signature: Signature) -> OpaqueOnnx:
    """The model, its inputs as long as the signature says: steps know then what it is to be run on."""
    inputs = tuple(
        replace(entry, shape=((entry.shape or (None,))[0], *known.shape))
        for entry, known in zip(model.inputs, signature.inputs, strict=True)
    )
    return replace(model, inputs=inputs)


def tried_opaque(dataset: Dataset, model: OpaqueOnnx, samples: int = 64) -> Dataset:
    """The dataset, after a run on samples of it. DataError: the model fails on them, gives no output for each, or
    outputs that the labels aren't for."""
    import torch

    from compression.data.load import check_labels
    from compression.intake.onnx.runtime import ORT_ERRORS
    from compression.measure.runtime import predict

    count = min(samples, len(dataset.train))
    chosen = {name: value[:count].numpy() for name, value in dataset.train.inputs.items()}
    try:
        values = predict(model.path, chosen)
    except ORT_ERRORS as error:
        raise DataError(f"the model doesn't run on these samples: {str(error)[:300]}", model.inputs[0].name) from error
    outputs = {}
    for entry, value in zip(model.outputs, values, strict=True):
        if value.ndim < 2 or len(value) != count:
            raise DataError(f"{list(value.shape)} is no output for each of {count} samples", entry.name)
        if not np.isfinite(value.astype(np.float64)).all():
            raise DataError("the model's output on samples of this data holds NaN or infinite values", entry.name)
        outputs[entry.name] = torch.from_numpy(value)
    last = model.outputs[-1].name  # the one that is judged
    check_labels(dataset, {last: outputs[last]})
    return dataset
