"""An `.onnx` file made ready to be quantised: constants folded, layers whole, operators that have an integer form."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, shape_inference, version_converter

from compression.errors import MethodError
from compression.intake.onnx.runtime import ORT_ERRORS

OLDEST_OPSET = 13
"""The first whose DequantizeLinear knows a scale for each channel."""
LAYERS = frozenset({"Conv", "Gemm", "MatMul"})


@dataclass(frozen=True)
class Layer:
    """A node with stored weights: `axis` of them counts its outputs."""

    name: str
    operator: str
    node: NodeProto
    weight: NDArray[np.float32]
    bias: NDArray[np.float32] | None
    axis: int


@dataclass(frozen=True)
class Graph:
    """The model, its stored tensors and its layers by name, and the tensors known to be float32 and no constant."""

    model: ModelProto
    stored: dict[str, NDArray[np.generic]]
    layers: dict[str, Layer]
    floats: frozenset[str]

    def consumers(self) -> dict[str, list[NodeProto]]:
        """The nodes that read a tensor, also within the graphs of their own that a loop or a branch has."""
        found: dict[str, list[NodeProto]] = {}
        for node in self.model.graph.node:
            for name in dict.fromkeys(_reads(node)):
                found.setdefault(name, []).append(node)
        return found


def prepared(file: bytes) -> Graph:
    """MethodError: ONNX can't bring an old file to a newer opset, or ONNX Runtime not simplify it."""
    model = onnx.load_from_string(file)
    opset = next((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), 1)
    if opset < OLDEST_OPSET:
        try:
            model = version_converter.convert_version(model, OLDEST_OPSET)
        except Exception as error:  # the converter raises whatever its C++ does
            raise MethodError(f"opset {opset} can't be brought to {OLDEST_OPSET}: {str(error)[:200]}") from error
    model = _simplified(model)
    _tell_outputs(model)
    name_nodes(model)
    _pool(model)
    return graph_of(model)


def graph_of(model: ModelProto) -> Graph:
    typed = shape_inference.infer_shapes(model)
    stored = {entry.name: numpy_helper.to_array(entry) for entry in model.graph.initializer}
    entries = [*typed.graph.input, *typed.graph.value_info, *typed.graph.output]
    floats = {entry.name for entry in entries if entry.type.tensor_type.elem_type == TensorProto.FLOAT}
    layers = {layer.name: layer for node in model.graph.node if (layer := _layer(node, stored)) is not None}
    return Graph(model, stored, layers, frozenset(floats - stored.keys()))


def _layer(node: NodeProto, stored: dict[str, NDArray[np.generic]]) -> Layer | None:
    if node.op_type not in LAYERS or node.domain not in {"", "ai.onnx"} or len(node.input) < 2:
        return None
    weight = stored.get(node.input[1])
    bias = stored.get(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    told = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    if weight is None or weight.dtype != np.float32 or node.input[0] in stored or weight.size == 0:
        return None
    if len(node.input) > 2 and node.input[2] and (bias is None or bias.dtype != np.float32):
        return None
    axis = 0
    if node.op_type == "MatMul":
        if weight.ndim != 2:
            return None
        axis = 1
    elif node.op_type == "Gemm":
        if told.get("alpha", 1.0) != 1 or told.get("beta", 1.0) != 1 or told.get("transA", 0):
            return None
        axis = 0 if told.get("transB", 0) else 1
    if bias is not None and bias.size != weight.shape[axis]:
        return None
    flat = None if bias is None else bias.reshape(-1).astype(np.float32)
    return Layer(node.name, node.op_type, node, weight.astype(np.float32), flat, axis)


def _simplified(model: ModelProto) -> ModelProto:
    """Constants folded and norms fused into layers by ONNX Runtime's basic rules, which keep to ONNX's operators."""
    with tempfile.TemporaryDirectory(prefix="niwaki-int8-") as folder:
        path = Path(folder) / "basic.onnx"
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(path)
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except ORT_ERRORS as error:
            raise MethodError(f"ONNX Runtime doesn't simplify it: {str(error)[:300]}") from error
        simple = onnx.load(path)
    used = {node.domain for graph in _graphs(simple.graph) for node in graph.node} | {""}
    kept = [entry for entry in simple.opset_import if entry.domain in used]
    del simple.opset_import[:]
    simple.opset_import.extend(kept)
    return simple


def _reads(node: NodeProto) -> Iterator[str]:
    yield from node.input
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs):
            for entry in inner.node:
                yield from _reads(entry)
            yield from (entry.name for entry in inner.output)


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    yield from _graphs(inner)


def _tell_outputs(model: ModelProto) -> None:
    """The shapes of outputs that a file leaves out; onnx's checker wants them."""
    inferred = {entry.name: entry for entry in shape_inference.infer_shapes(model).graph.output}
    for entry in model.graph.output:
        if not entry.type.tensor_type.HasField("shape"):
            entry.CopyFrom(inferred[entry.name])


def name_nodes(model: ModelProto) -> None:
    """Every node a name of its own, that a selector and a report can use."""
    taken: set[str] = set()
    for index, node in enumerate(model.graph.node):
        name = node.name or f"{node.op_type}_{index}"
        while name in taken:
            name = f"{name}_{index}"
        taken.add(name)
        node.name = name


def _pool(model: ModelProto) -> None:
    """A mean over height and width is a GlobalAveragePool, which has an integer form; ReduceMean has none."""
    stored = {entry.name: entry for entry in model.graph.initializer}
    ranks = {
        entry.name: len(entry.type.tensor_type.shape.dim)
        for entry in shape_inference.infer_shapes(model).graph.value_info
        if entry.type.tensor_type.HasField("shape")
    }
    nodes = []
    for node in model.graph.node:
        nodes.append(node)
        if node.op_type != "ReduceMean" or ranks.get(node.input[0]) != 4:
            continue
        told = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        axes = told.get("axes")
        if axes is None and len(node.input) > 1 and node.input[1] in stored:
            axes = numpy_helper.to_array(stored[node.input[1]]).tolist()
        if axes is None or sorted(axis % 4 for axis in axes) != [2, 3]:
            continue
        node.op_type = "GlobalAveragePool"
        del node.attribute[:]
        del node.input[1:]
        if not told.get("keepdims", 1):
            (output,) = node.output
            node.output[0] = f"{output}/pooled"
            nodes.append(helper.make_node("Flatten", [f"{output}/pooled"], [output], f"{node.name}/Flatten", axis=1))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
