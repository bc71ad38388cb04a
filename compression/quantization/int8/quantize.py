"""The step: a float network, or a model that only runs, becomes a file that runs in integers."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from compression.context import Context
from compression.errors import MethodError, SpecError
from compression.export.onnx import write_onnx
from compression.integer import IntegerOnnx, known_cost
from compression.measure.claims import CLEAR_LATENCY
from compression.measure.cost import NetworkCost, StoredCost
from compression.measure.runtime import (
    Comparison,
    compare_latency,
    open_session,
    predict,
    random_inputs,
    static_batch,
)
from compression.network import Input, Network, Signature
from compression.opaque import OpaqueOnnx
from compression.quantization.int8.budget import disturbances, fewest_floats
from compression.quantization.int8.calibrate import activations
from compression.quantization.int8.dynamic import dynamic_layers, write_dynamic
from compression.quantization.int8.graph import Graph, Layer, prepared
from compression.quantization.int8.judged import Outputs, finite, lost, relative_error, unit
from compression.quantization.int8.placement import placement
from compression.quantization.int8.qdq import write_static
from compression.quantization.int8.ranges import affine, range_of
from compression.registry import StepResult

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
        return finite(predict(file, self.samples)[-1])


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


def quantized(model: Network | OpaqueOnnx, spec: QuantizeInt8, context: Context) -> StepResult[IntegerOnnx]:
    facts: dict[str, Any] = {}
    if spec.qat is not None:
        if not isinstance(model, Network):
            raise SpecError("training needs a network that could be taken apart; this model only runs", "/qat")
        model, facts["training"] = _trained(model, spec, context)
    task = _task(model, spec, context)
    candidates = _candidates(task)
    chosen, reason = _chosen(candidates, task)
    facts |= {
        "mode": chosen.mode,
        "reason": reason,
        **({"lost_in": unit(context.data.task)} if context.data is not None else {}),
        "files": [candidate.told() for candidate in candidates],
        "integer_layers": len(chosen.integer),
        "float_layers": [name for name in task.graph.layers if name not in chosen.integer],
        **chosen.facts,
    }
    record = {"step": "quantize.int8", "mode": chosen.mode, "calibration": spec.calibration}
    found = IntegerOnnx(
        file=chosen.file,
        signature=_signature(model, task.samples),
        cost=_cost(model, chosen.file),
        relative_error=relative_error(task.outputs(chosen.file), task.reference),
        compared_on="the float network, on the validation samples" if context.data else "the float network",
        provenance=(*model.provenance, record),
    )
    return StepResult(found, facts)


def _task(model: Network | OpaqueOnnx, spec: QuantizeInt8, context: Context) -> Task:
    file = _float_file(model)
    graph = prepared(file)
    layers = [name for name in graph.layers if name in _selected(model, spec, graph)]
    if not layers:
        raise SpecError("none of the selected layers has weights that can be integers", "/layers")
    if context.data is not None:
        samples = {name: value.numpy() for name, value in context.data.validation.inputs.items()}
    else:
        session = open_session(file)
        shapes = {entry.name: entry.shape for entry in model.signature.inputs} if isinstance(model, Network) else None
        samples = random_inputs(session, static_batch(session) or 64, shapes=shapes)
    return Task(graph, file, layers, spec, context, samples, finite(predict(file, samples)[-1]))


def _float_file(model: Network | OpaqueOnnx) -> bytes:
    if isinstance(model, OpaqueOnnx):
        return model.path.read_bytes()
    with tempfile.TemporaryDirectory(prefix="niwaki-int8-") as folder:
        path = Path(folder) / "float.onnx"
        write_onnx(model.module, model.signature, model.example(2), path)
        return path.read_bytes()


def _selected(model: Network | OpaqueOnnx, spec: QuantizeInt8, graph: Graph) -> set[str]:
    """Names of the graph's layers. Those of a network are chosen by the network's own names."""
    if isinstance(model, OpaqueOnnx):
        return spec.layers.select({name: layer.operator for name, layer in graph.layers.items()})
    modules = model.layers()
    chosen = spec.layers.select({name: type(module).__name__ for name, module in modules.items()})
    left = [module for name, module in modules.items() if name not in chosen]
    return {name for name, layer in graph.layers.items() if not any(_same(layer, module) for module in left)}


def _same(layer: Layer, module: torch.nn.Module) -> bool:
    """Whether a layer of the file is this one of the network: the exporter may have transposed its weights, and scaled
    each output by a norm that it folded in."""
    weight = getattr(module, "weight", None)
    rows = np.moveaxis(layer.weight, layer.axis, 0).reshape(layer.weight.shape[layer.axis], -1).astype(np.float64)
    if not isinstance(weight, torch.Tensor) or weight.dim() < 2 or len(weight) != len(rows):
        return False
    own = weight.detach().numpy().reshape(len(rows), -1).astype(np.float64)
    if own.shape != rows.shape:
        return False
    norms = np.linalg.norm(own, axis=1) * np.linalg.norm(rows, axis=1)
    return bool((np.abs((own * rows).sum(1)) >= norms * (1 - 1e-6)).all())


def _candidates(task: Task) -> list[Candidate]:
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


def _chosen(candidates: list[Candidate], task: Task) -> tuple[Candidate, str]:
    """The fastest of those that lose no more than is allowed, and why."""
    if task.spec.mode != "auto":
        return candidates[0], f"{task.spec.mode} was asked for"
    budget = task.spec.accuracy_budget
    allowed = TOLERATED if budget is None else budget
    good = [entry for entry in candidates if entry.lost is None or entry.lost <= allowed]
    if not good:
        best = min(candidates, key=lambda entry: entry.lost or 0.0)
        return best, f"every file loses more than {allowed:g}; {best.mode} loses least ({best.lost:.2f})"
    best = max(good, key=lambda entry: _ratio(entry))
    dropped = [entry for entry in candidates if entry not in good]
    why = [f"{best.mode}: {_ratio(best):.2f}× as fast as the float file at batch 1"]
    why += [f"{entry.mode}: {_ratio(entry):.2f}×" for entry in good if entry is not best]
    why += [f"{entry.mode} loses more than {allowed:g} ({entry.lost:.2f})" for entry in dropped]
    if len(candidates) == 1:
        other = "no data for static ranges" if task.context.data is None else "no matrix products for dynamic ranges"
        why.append(other)
    if best.speed is not None and best.speed.low < CLEAR_LATENCY:
        why.append("the float file is not slower on this machine: what is won is size")
    return best, "; ".join(why)


def _ratio(entry: Candidate) -> float:
    return 0.0 if entry.speed is None else entry.speed.ratio


def _signature(model: Network | OpaqueOnnx, samples: Mapping[str, NDArray[Any]]) -> Signature:
    if isinstance(model, Network):
        return model.signature
    inputs = tuple(Input(entry.name, samples[entry.name].shape[1:], entry.dtype) for entry in model.inputs)
    return Signature(inputs, tuple(entry.name for entry in model.outputs))


def _cost(model: Network | OpaqueOnnx, file: bytes) -> NetworkCost | StoredCost:
    """What is computed stays; the bytes are those that the file stores."""
    import onnx

    stored = sum(onnx.numpy_helper.to_array(entry).nbytes for entry in onnx.load_from_string(file).graph.initializer)
    return replace(known_cost(model), bytes=stored)


def _trained(network: Network, spec: QuantizeInt8, context: Context) -> tuple[Network, dict[str, Any]]:
    """Quantization-aware: see `fake.py`. Ranges of activations are those before training; the file's are measured anew
    afterwards."""
    from compression.pruning.weights import weight_names
    from compression.quantization.int8.fake import (
        RoundedWeight,
        faked,
        histograms,
        masks,
        rounded_values,
        unfaked,
    )
    from compression.training.loop import train

    assert spec.qat is not None  # noqa: S101 - asked by the caller
    data = context.require_data("quantize.int8")
    kinds = {name: type(module).__name__ for name, module in network.layers().items()}
    layers = {name for name in spec.layers.select(kinds) if kinds[name] in {"Conv1d", "Conv2d", "Linear"}}
    nodes = rounded_values(network.module, layers)
    samples = {name: value[: spec.samples] for name, value in data.calibration.inputs.items()}
    seen = histograms(network, nodes, samples)
    ranges = {name: affine(*range_of(histogram, spec.calibration, spec.percentile)) for name, histogram in seen.items()}
    learned = {name: RoundedWeight(spec.high, mask) for name, mask in masks(network, weight_names(network, layers))}
    copy = faked(network, ranges)
    trained, facts = train(copy, spec.qat, context, stage="qat", field="/qat", span=(0.0, 0.5), learned=learned)
    return unfaked(trained, network), facts
