"""Writes `.onnx`: one file, opset of torch's exporter, the batch axis free.

What the exporter does to the network: it folds a BatchNorm that follows a convolution or a linear layer into that
layer's weight and bias, keeps any other as `BatchNormalization`, and drops Dropout and Identity. So the file can have
fewer parameters than the network. Weights keep their names ("conv1.weight"); we name nodes after them ("conv1"), so
that a profile of the file speaks of layers (an activation that ONNX Runtime fuses into "conv1" is "conv1/Relu").
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import onnx
import torch
from torch import Tensor, fx

from compression.encodings import Encoding
from compression.export.onnx_encodings import encode_parameters
from compression.measure.runtime import open_session
from compression.network import Signature


def write_onnx(
    module: fx.GraphModule,
    signature: Signature,
    example: tuple[Tensor, ...],
    path: Path,
    encodings: Mapping[str, Encoding] | None = None,
) -> dict[str, str]:
    """Exports `module` to `path`, checked by onnx's own checker. `signature` names its inputs and outputs; `example`
    has two samples or more: one would be taken for a constant. Parameters that have codebooks or grids are written as
    their integers; those that are plain tensors all the same are returned, each with the reason. The bytes depend on
    the arguments and on the versions of torch and onnx alone."""
    batch = torch.export.Dim("batch", min=1)
    with _quiet():
        program = torch.onnx.export(
            module,
            example,
            dynamo=True,
            external_data=False,
            verbose=False,
            input_names=[entry.name for entry in signature.inputs],
            output_names=list(signature.outputs),
            dynamic_shapes=tuple({0: batch} for _ in signature.inputs),
        )
    if program is None:
        raise TypeError("torch.onnx.export returned no program")
    model = program.model_proto
    _strip(model)
    _name_layers(model.graph)
    parameters = dict(module.named_parameters())
    own = {name: encoding for name, encoding in (encodings or {}).items() if name in parameters}
    plain = encode_parameters(model, parameters, own)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return plain


def read_onnx(path: Path, signature: Signature) -> Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]]:
    """The file in ONNX Runtime, as a function from inputs to outputs, both in the order of `signature`."""
    session = open_session(path)

    def run(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        named = {entry.name: value.numpy() for entry, value in zip(signature.inputs, inputs, strict=True)}
        return tuple(torch.from_numpy(value) for value in session.run(list(signature.outputs), named))

    return run


def _strip(model: onnx.ModelProto) -> None:
    """Removes the exporter's notes on its own run: stack traces with paths of this machine, and its graph's text."""
    model.doc_string = ""
    del model.metadata_props[:]
    for graph in _graphs(model.graph):
        graph.doc_string = ""
        del graph.metadata_props[:]
        parts: Iterable[onnx.NodeProto | onnx.ValueInfoProto | onnx.TensorProto] = [
            *graph.node,
            *graph.input,
            *graph.output,
            *graph.value_info,
            *graph.initializer,
        ]
        for part in parts:
            part.doc_string = ""
            del part.metadata_props[:]


def _name_layers(graph: onnx.GraphProto) -> None:
    """Names the node that owns a weight "X.weight" X, and those from there to the next layer "X/Add", "X/Add/Relu" …
    Their outputs too, because ONNX Runtime names fused nodes after those."""
    weights = {entry.name for entry in graph.initializer if entry.name.endswith(".weight")}
    taken = {name for node in graph.node for name in (node.name, *node.output)}
    taken |= {entry.name for entry in (*graph.input, *graph.initializer)}
    fixed = {entry.name for entry in graph.output}
    renamed: dict[str, str] = {}
    for node in graph.node:
        layers = [name.removesuffix(".weight") for name in node.input if name in weights]
        nearest = min((renamed[name] for name in node.input if name in renamed), key=_steps, default="")
        node.input[:] = [renamed.get(name, name) for name in node.input]
        name = layers[0] if layers else f"{nearest}/{node.op_type}" if nearest else ""
        if not name or name in taken:
            continue
        taken.add(name)
        node.name = name
        if node.output[0] not in fixed:
            renamed[node.output[0]] = name
            node.output[0] = name
    for entry in graph.value_info:
        entry.name = renamed.get(entry.name, entry.name)


def _steps(name: str) -> int:
    return name.count("/")


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    yield from _graphs(inner)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences three notes of the exporter: that torchvision isn't installed, its own use of an old torch call, and
    that several inputs share one batch axis."""
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    registration.addFilter(_about_anything_but_torchvision)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)`", category=FutureWarning)
            warnings.filterwarnings("ignore", message="# The axis name: batch will not be used", category=UserWarning)
            yield
    finally:
        registration.removeFilter(_about_anything_but_torchvision)


def _about_anything_but_torchvision(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("torchvision is not installed")
