"""The files that could be delivered, and which of them is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray

from compression.context import Context
from compression.errors import MethodError, SpecError
from compression.intake.onnx.runtime import ORT_ERRORS
from compression.measure.claims import CLEAR_LATENCY
from compression.measure.runtime import Comparison, compare_latency, open_session, predict, static_batch
from compression.quantization.int8.budget import disturbances, fewest_floats
from compression.quantization.int8.calibrate import activations
from compression.quantization.int8.dynamic import dynamic_layers, write_dynamic
from compression.quantization.int8.graph import Graph
from compression.quantization.int8.judged import Outputs, finite, lost
from compression.quantization.int8.placement import placement
from compression.quantization.int8.qdq import write_static
from compression.quantization.int8.ranges import affine, range_of

if TYPE_CHECKING:
    from compression.methods.quantize.int8 import QuantizeInt8

SCANNED = 256
"""Samples that the disturbance of each layer is measured on."""
TOLERATED = 1.0
"""Points (see `lost`) that may be lost for speed where no budget is given."""
TIMED_SECONDS = 1.5
"""Of each file, where the faster one is chosen."""


@dataclass(frozen=True)
class Task:
    """What every part of the step looks at. `samples` judge: validation's inputs, or seeded ones; `reference`: the
    float file's last output on them."""

    graph: Graph
    float_file: bytes
    layers: list[str]
    spec: QuantizeInt8
    context: Context
    samples: Mapping[str, NDArray[Any]]
    reference: Outputs

    def lost(self, file: bytes) -> float | None:
        """See `judged.lost`; None without data: seeded inputs say nothing of the task."""
        data = self.context.data
        if data is None:
            return None
        return lost(self.outputs(file), self.reference, data.validation, data.task)

    def outputs(self, file: bytes) -> Outputs:
        try:
            return finite(predict(file, self.samples)[-1])
        except ORT_ERRORS as error:
            raise MethodError(f"ONNX Runtime doesn't run it in integers: {str(error)[:300]}") from error


@dataclass(frozen=True)
class Candidate:
    """A file with integers. `speed`: beside the float file, where it was timed."""

    mode: str
    file: bytes
    integer: list[str]
    lost: float | None
    facts: Mapping[str, Any]
    speed: Comparison | None = None

    def told(self) -> dict[str, Any]:
        found: dict[str, Any] = {"mode": self.mode, "bytes": len(self.file)}
        if self.lost is not None:
            found["lost"] = round(self.lost, 4)
        if self.speed is not None:
            speed = self.speed
            found["times_as_fast"] = round(speed.ratio, 3)
            found["interval"] = [round(speed.low, 3), round(speed.high, 3)]
        return found


def candidates(task: Task) -> list[Candidate]:
    """The file asked for; with auto, each that can be made, timed beside the float one."""
    mode, context = task.spec.mode, task.context
    found = []
    if mode == "static" or (mode == "auto" and context.data is not None):
        found.append(_static(task))
    moving = [name for name in task.layers if name in dynamic_layers(task.graph)]
    if mode == "dynamic" and not moving:
        raise MethodError("no selected layer is a matrix product, and dynamic ranges are for those alone: take static")
    if mode == "auto" and not found and not moving:
        raise SpecError("it has convolutions alone, whose ranges need data: give a dataset", "/mode")
    if mode == "dynamic" or (mode == "auto" and moving):
        found.append(_dynamic(task, moving))
    return found if mode != "auto" else [replace(entry, speed=_speed(task, entry.file)) for entry in found]


def _static(task: Task) -> Candidate:
    spec, context, graph = task.spec, task.context, task.graph
    data = context.require_data("quantize.int8")
    count = min(spec.samples, len(data.calibration))
    spread = torch.linspace(0, len(data.calibration) - 1, count, dtype=torch.float64).round().long()
    samples = {name: value[spread].numpy() for name, value in data.calibration.inputs.items()}
    every = placement(graph, task.layers)
    seen = activations(graph, every.ranges, samples, lambda share: context.progress(0.5 + share / 4, "calibrating"))
    ranges = {
        name: affine(*range_of(seen.histograms[name], spec.calibration, spec.percentile)) for name in every.ranges
    }
    means = seen.means if spec.bias_correction else None

    def write(layers: Collection[str]) -> bytes:
        return write_static(graph, layers, placement(graph, layers), ranges, high=spec.high, means=means)

    facts = {
        "calibration": {"how": spec.calibration, "samples": count, "tensors": len(every.ranges)},
        "bias_correction": spec.bias_correction,
    }
    return _budgeted(task, "static", task.layers, write, facts)


def _dynamic(task: Task, layers: list[str]) -> Candidate:
    return _budgeted(task, "dynamic", layers, lambda some: write_dynamic(task.graph, some, task.spec.high), {})


def _budgeted(
    task: Task, mode: str, layers: list[str], write: Callable[[Collection[str]], bytes], facts: dict[str, Any]
) -> Candidate:
    """With every layer in integers, or as many as the budget allows."""
    file = write(layers)
    budget, loss = task.spec.accuracy_budget, task.lost(file)
    if budget is None or loss is None:
        return Candidate(mode, file, layers, loss, facts)
    facts = {**facts, "lost_with_every_layer": round(loss, 4)}
    if loss <= budget:
        return Candidate(mode, file, layers, loss, facts)
    few = {name: value[:SCANNED] for name, value in task.samples.items()}
    ordered = disturbances(
        layers,
        write,
        lambda part: finite(predict(part, few)[-1]),
        task.reference[:SCANNED],
        lambda share: task.context.progress(0.75 + share / 5, f"{mode}: which layers hurt most"),
    )
    stay, file = fewest_floats(ordered, write, lambda part: task.lost(part) or 0.0, budget)
    integer = [name for name in layers if name not in stay]
    facts["sensitivity"] = [{"layer": entry.layer, "sqnr_db": entry.sqnr_db} for entry in ordered]
    return Candidate(mode, file, integer, task.lost(file), facts)


def _speed(task: Task, file: bytes) -> Comparison:
    batch = static_batch(open_session(file)) or 1
    return compare_latency(task.float_file, file, task.samples, batch, TIMED_SECONDS)


def choose(made: list[Candidate], task: Task) -> tuple[Candidate, str]:
    """The fastest of those that lose no more than is allowed, and why."""
    if task.spec.mode != "auto":
        return made[0], f"{task.spec.mode} was asked for"
    budget = task.spec.accuracy_budget
    allowed = TOLERATED if budget is None else budget
    good = [entry for entry in made if entry.lost is None or entry.lost <= allowed]
    if not good:
        best = min(made, key=lambda entry: entry.lost or 0.0)
        return best, f"every file loses more than {allowed:g}; {best.mode} loses least ({best.lost:.2f})"
    best = max(good, key=lambda entry: _ratio(entry))
    dropped = [entry for entry in made if entry not in good]
    why = [f"{best.mode}: {_ratio(best):.2f}× as fast as the float file at batch 1"]
    why += [f"{entry.mode}: {_ratio(entry):.2f}×" for entry in good if entry is not best]
    why += [f"{entry.mode} loses more than {allowed:g} ({entry.lost:.2f})" for entry in dropped]
    if len(made) == 1:
        other = "no data for static ranges" if task.context.data is None else "no matrix products for dynamic ranges"
        why.append(other)
    if best.speed is not None and best.speed.low < CLEAR_LATENCY:
        why.append("the float file is not slower on this machine: what is won is size")
    return best, "; ".join(why)


def _ratio(entry: Candidate) -> float:
    return 0.0 if entry.speed is None else entry.speed.ratio
