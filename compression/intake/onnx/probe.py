"""A model that can't be lifted is run once, in a process of its own with bounds: for time, and for memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto
from onnx.defs import has

from compression.errors import IntakeError
from compression.intake.onnx.signature import declared_dtype, declared_shape, default_length, real_inputs
from compression.intake.onnx.structure import node_name
from compression.intake.onnx.tensors import TYPES, to_array
from compression.opaque import OpaqueOnnx, OpaqueValue, Stopped

SECONDS = 20.0
MEMORY = 600 << 20
"""Bytes besides those of the file itself, which is held twice."""
_UNKNOWN = """\
{operator} is no operator of ONNX: the exporter wrote one of its framework's own, as tf2onnx does with what it can't \
translate. With Keras 3, set KERAS_BACKEND=torch before Python starts, and export again with \
input_signature=[keras.InputSpec(shape=(1, …))]; or write the layer otherwise. \
"""


def opaque(
    path: Path, model: ModelProto, opset: int, chosen: Mapping[str, Sequence[int]], stopped: Mapping[str, str]
) -> OpaqueOnnx:
    """The model as it can be run. IntakeError: it can't be (model-unsupported), or not within bounds (model-unsafe)."""
    inputs = real_inputs(model)
    told = [OpaqueValue(entry.name, declared_shape(entry), declared_dtype(entry)) for entry in inputs]
    foreign = next((node for node in model.graph.node if not has(node.op_type)), None)
    where = (stopped["node"] if foreign is None else node_name(foreign)) or path.name
    unknown = "" if foreign is None else _UNKNOWN.format(operator=foreign.op_type[:100])
    asked = [{"name": entry.name, "shape": _tried(entry, chosen), "dtype": entry.dtype} for entry in told]
    _probe(path, asked, where, unknown)
    tensors = [
        tensor for tensor in _tensors(model.graph) if TYPES[tensor.data_type].dtype in {"float32", "float16", "float64"}
    ]
    arrays = [array for array in map(to_array, tensors) if array is not None]
    return OpaqueOnnx(
        path=path,
        inputs=tuple(told),
        outputs=tuple(OpaqueValue(entry.name, declared_shape(entry), _dtype(entry)) for entry in model.graph.output),
        stopped_by=Stopped(**stopped),
        parameters=sum(array.size for array in arrays),
        nonzero=sum(int(np.count_nonzero(array)) for array in arrays),
        bytes=sum(array.nbytes for array in arrays),
        provenance=({"format": "onnx", "opset": opset, "producer": model.producer_name[:100], "opaque": True},),
    )


def _tried(entry: OpaqueValue, chosen: Mapping[str, Sequence[int]]) -> list[int]:
    shape = entry.shape or ()
    wanted = chosen.get(entry.name, [])
    free = [1, *wanted] if len(wanted) == len(shape) - 1 else [1, *[default_length(len(shape))] * (len(shape) - 1)]
    return [size if length is None else length for length, size in zip(shape, free, strict=False)]


def _dtype(entry: ValueInfoProto) -> str:
    kind = TYPES.get(entry.type.tensor_type.elem_type)
    return "unknown" if kind is None or kind.dtype is None else kind.dtype


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _tensors(inner)


def _probe(path: Path, inputs: list[dict[str, Any]], where: str, unknown: str) -> None:
    """Runs the file once on seeded inputs in another process. The model that can't be lifted may hold loops without end
    and values of any size, so time and memory are bounded from outside."""
    memory = MEMORY + 3 * path.stat().st_size
    asked = json.dumps({"path": str(path.resolve()), "inputs": inputs, "memory": memory, "seconds": SECONDS})
    command = [sys.executable, "-m", "compression.intake.onnx.probe_process"]
    found_at = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    try:
        done = subprocess.run(
            command, input=asked, capture_output=True, text=True, timeout=SECONDS + 5, check=False, env=found_at
        )
    except subprocess.TimeoutExpired as error:
        raise IntakeError(f"it does not end within {SECONDS:.0f} seconds", where, "model-unsafe") from error
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        answer = {"failed": "memory", "message": f"the process ended with {done.returncode}"}
    if answer.get("failed") == "time":
        raise IntakeError(f"it does not end within {SECONDS:.0f} seconds", where, "model-unsafe")
    if answer.get("failed") == "memory":
        raise IntakeError(f"it takes more than {memory >> 20} MB: {answer['message']}", where, "model-unsafe")
    if "failed" in answer:
        hint = (
            '; free axes were tried with a guess, give their lengths as {"inputs": {NAME: […]}}'
            if answer["failed"] == "run"
            else ""
        )
        message = f"{unknown}ONNX Runtime does not run this file: {answer['message']}{hint}"
        raise IntakeError(message, where, "model-unsupported")
