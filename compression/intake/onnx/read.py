"""The way of an `.onnx` file through this package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import ModelProto
from torch import fx

from compression.errors import IntakeError, SpecError
from compression.intake.onnx import LARGEST_FILE
from compression.intake.onnx.compare import compare
from compression.intake.onnx.edit import Editor
from compression.intake.onnx.fuse_activations import fuse_activations
from compression.intake.onnx.fuse_attention import fuse_attention
from compression.intake.onnx.fuse_moves import fuse_biases, fuse_moves, fuse_reshapes, fuse_selects, merge_equal
from compression.intake.onnx.fuse_norms import fuse_norms
from compression.intake.onnx.fuse_views import fuse_folded_products, fuse_views
from compression.intake.onnx.importer import Stop, import_graph
from compression.intake.onnx.probe import opaque
from compression.intake.onnx.signature import Undeclared, declare, network_inputs
from compression.intake.onnx.structure import check_model
from compression.intake.onnx.trace import Trace
from compression.intake.onnx.wire import check_wire
from compression.intake.onnx.work import check_work
from compression.intake.shapes import shapes
from compression.network import Network, Signature
from compression.opaque import OpaqueOnnx

LARGEST_BATCH = 1024
"""A static batch above this isn't tried twice over."""


def read_onnx(path: Path, architecture: Mapping[str, Any] | None = None) -> Network | OpaqueOnnx:
    """The network in a file, or what can be said of it where it can't be lifted. `architecture` may hold
    {"inputs": {NAME: [lengths without the batch]}} for axes that are free in the file.

    IntakeError: see the package. SpecError: the shapes given don't fit the file's inputs.
    """
    chosen = _chosen(architecture)
    if path.stat().st_size > LARGEST_FILE:
        raise IntakeError("an ONNX file has at most 2 GB", path.name, "model-unsupported")
    data = path.read_bytes()
    check_wire(memoryview(data))
    try:
        model = ModelProto.FromString(data)
    except (DecodeError, ValueError, MemoryError) as error:
        raise IntakeError(f"not a sound ONNX file: {str(error)[:200]}", path.name) from error
    opset = check_model(model)
    try:
        return lift(model, opset, data, chosen)
    except Stop as stop:
        return opaque(path, model, opset, chosen, stop.as_dict())


def lift(model: ModelProto, opset: int, data: bytes, chosen: Mapping[str, Sequence[int]]) -> Network:
    """The network that computes what the checked `model` does; `data` are its bytes. Stop: what stands in the way."""
    try:
        declared = declare(model, chosen)
    except Undeclared as error:
        raise Stop("", error.where[:200], error.why) from error
    static = declared.static_batch
    if static is not None and static > LARGEST_BATCH:
        raise Stop("", declared.inputs[0].name, f"a static batch of {static}")
    trace = import_graph(model, opset, declared, (2, 3) if static is None else (static, 2 * static))
    check_work(trace)
    _fuse(trace)
    source: dict[str, Any] = {"format": "onnx", "opset": opset, "producer": model.producer_name[:100]}
    if static is not None:
        source["static_batch"] = static
    if declared.fixed_axes:
        source["fixed_axes"] = list(declared.fixed_axes)
    if declared.unused:
        source["unused_inputs"] = [entry.name[:200] for entry in declared.unused]
    module = _module(trace)
    named = module.named_parameters()
    encodings = {name: trace.encoded[id(value)] for name, value in named if id(value) in trace.encoded}
    network = Network(
        module, Signature(network_inputs(declared), declared.outputs), encodings=encodings, provenance=(source,)
    )
    _try_shapes(network)
    compare(network, declared, data)
    return network


def _try_shapes(network: Network) -> None:
    """As a checkpoint of the network is tried when it is read again: what would be refused there is refused here."""
    for batch in (1, 3):
        try:
            shapes(network.module, network.signature.inputs, batch)
        except IntakeError as error:
            if error.kind == "model-unsafe":
                raise
            raise Stop(
                "", error.where, f"the lifted network does not run at a batch of {batch}: {error.message}"
            ) from error


def _fuse(trace: Trace) -> None:
    editor = Editor(trace)
    merge_equal(editor)
    fuse_activations(editor)
    fuse_views(editor)
    fuse_norms(editor)
    fuse_biases(editor)
    fuse_moves(editor)
    fuse_folded_products(editor)
    fuse_reshapes(editor)
    fuse_selects(editor)
    fuse_attention(editor)
    fuse_moves(editor)


def _module(trace: Trace) -> fx.GraphModule:
    for node in trace.graph.nodes:
        node.meta = {}
    module = fx.GraphModule(trace.root, trace.graph)
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()
    return module.eval()


def _chosen(architecture: Mapping[str, Any] | None) -> Mapping[str, Sequence[int]]:
    if architecture is None:
        return {}
    inputs = architecture.get("inputs")
    if set(architecture) != {"inputs"} or not isinstance(inputs, dict):
        raise SpecError('with an .onnx file goes {"inputs": {NAME: [lengths without the batch]}}', "/architecture")
    if not all(isinstance(shape, list) and len(shape) <= 8 for shape in inputs.values()):
        raise SpecError("a shape is a list of lengths", "/architecture/inputs")
    return inputs
