"""The step: a float network, or a model that only runs, becomes a file that runs in integers."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from compression.context import Context
from compression.errors import SpecError
from compression.export.onnx import write_onnx
from compression.integer import Figures, IntegerOnnx, known_cost
from compression.measure.runtime import open_session, predict, random_inputs, static_batch
from compression.network import Network, Signature
from compression.opaque import OpaqueOnnx, signature_of
from compression.quantization.int8.candidates import Task, candidates, choose
from compression.quantization.int8.graph import Graph, Layer, prepared
from compression.quantization.int8.judged import finite, relative_error, unit
from compression.quantization.int8.trained import aware
from compression.registry import StepResult

if TYPE_CHECKING:
    from compression.methods.quantize.int8 import QuantizeInt8


def quantized(model: Network | OpaqueOnnx, spec: QuantizeInt8, context: Context) -> StepResult[IntegerOnnx]:
    facts: dict[str, Any] = {}
    if spec.qat is not None:
        if not isinstance(model, Network):
            raise SpecError("training needs a network that could be taken apart; this model only runs", "/qat")
        model, facts["training"] = aware(model, spec, spec.qat, context)
    task = _task(model, spec, context)
    made = candidates(task)
    chosen, reason = choose(made, task)
    facts |= {
        "mode": chosen.mode,
        "reason": reason,
        **({"lost_in": unit(context.data.task)} if context.data is not None else {}),
        "files": [candidate.told() for candidate in made],
        "integer_layers": len(chosen.integer),
        "float_layers": [name for name in task.graph.layers if name not in chosen.integer],
        **chosen.facts,
    }
    record = {"step": "quantize.int8", "mode": chosen.mode, "calibration": spec.calibration}
    found = IntegerOnnx(
        file=chosen.file,
        signature=_signature(model),
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
        shapes = {entry.name: entry.shape for entry in _signature(model).inputs}
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


def _signature(model: Network | OpaqueOnnx) -> Signature:
    return model.signature if isinstance(model, Network) else signature_of(model)


def _cost(model: Network | OpaqueOnnx, file: bytes) -> Figures:
    """What is computed stays; the bytes are those that the file stores."""
    stored = sum(numpy_helper.to_array(entry).nbytes for entry in onnx.load_from_string(file).graph.initializer)
    return replace(known_cost(model), bytes=stored)
