"""`OpaqueOnnx`: a model that runs in ONNX Runtime and could not be lifted to a `Network`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from compression.errors import IntakeError
from compression.registry import Method, Verdict

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
        "model can do is teach: name it as a teacher in a distill step of another model's job"
    )
    return Verdict(False, reason, stopped.node or stopped.operator)
