"""The file with integers: QuantizeLinear and DequantizeLinear around what ONNX Runtime then runs on bytes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from compression.errors import VerificationError
from compression.quantization.int8.bias import shift
from compression.quantization.int8.graph import Graph, Layer, name_nodes
from compression.quantization.int8.placement import ABSORBED, Placement
from compression.quantization.int8.ranges import LEVELS, Affine

MOST_IN_A_BIAS = 2.0**30
NEARLY = 1e-6


@dataclass(frozen=True)
class Weights:
    """`integers` (int8, in the layer's layout) times `scale` of each output channel."""

    integers: NDArray[np.int8]
    scale: NDArray[np.float32]

    def rounded(self, axis: int) -> NDArray[np.float64]:
        shape = [1] * self.integers.ndim
        shape[axis] = -1
        value: NDArray[np.float64] = self.integers * self.scale.astype(np.float64).reshape(shape)
        return value


def weights_of(layer: Layer, high: int = 127, least: NDArray[np.float64] | float = 0.0) -> Weights:
    """Symmetric, the largest magnitude of each output channel at ±`high`; no scale is below `least`."""
    others = tuple(axis for axis in range(layer.weight.ndim) if axis != layer.axis)
    top = np.abs(layer.weight.astype(np.float64)).max(others)
    scale = np.maximum(np.where(top > 0, top, high) / high, least).astype(np.float32)
    shape = [1] * layer.weight.ndim
    shape[layer.axis] = -1
    integers = np.clip(np.rint(layer.weight / scale.reshape(shape).astype(np.float64)), -high, high)
    return Weights(integers.astype(np.int8), scale)


class Writer:
    """Collects the nodes and tensors of one file."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.model = ModelProto()
        self.model.CopyFrom(graph.model)
        self.before: dict[str, list[NodeProto]] = {}
        self.tensors: dict[str, NDArray[np.generic]] = {}

    def tensor(self, name: str, value: NDArray[np.generic]) -> str:
        """The name that it has: this one, where the graph stores no other tensor under it."""
        while name in self.graph.stored:
            name += "_"
        self.tensors[name] = value
        return name

    def done(self) -> bytes:
        """The file, checked by onnx; nodes stand before those that read them, tensors that nobody reads are gone."""
        graph = self.model.graph
        nodes = [entry for node in graph.node for entry in (*self.before.get(node.name, []), node)]
        nodes += self.before.get("", [])
        del graph.node[:]
        graph.node.extend(nodes)
        name_nodes(self.model)
        used = {name for node in _every_node(graph) for name in node.input} | {entry.name for entry in graph.output}
        kept = [entry for entry in graph.initializer if entry.name in used]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        graph.initializer.extend(
            numpy_helper.from_array(np.asarray(value, order="C"), name)
            for name, value in self.tensors.items()
            if name in used
        )
        del graph.value_info[:]
        if all(entry.type.tensor_type.HasField("shape") for entry in graph.output):  # a file may not tell them
            try:
                onnx.checker.check_model(self.model, full_check=True)
            except onnx.checker.ValidationError as error:
                raise VerificationError(
                    f"the file with integers is not sound: {str(error)[:200]}", "quantize.int8"
                ) from error
        return bytes(self.model.SerializeToString(deterministic=True))


def write_static(
    graph: Graph,
    layers: Collection[str],
    where: Placement,
    ranges: Mapping[str, Affine],
    *,
    high: int = 127,
    means: Mapping[str, NDArray[np.float64]] | None = None,
) -> bytes:
    """The file in which `layers` run in integers. `ranges`: of the tensors in `where.ranges`; `high`: of the weights'
    levels; `means`: with them biases are corrected (see `bias.py`)."""
    writer = Writer(graph)
    _absorb(writer, where, ranges)
    for name, source in where.rounded.items():
        _round(writer, name, ranges[source], source)
    for node in writer.model.graph.node:
        layer = graph.layers.get(node.name)
        if layer is not None and node.name in layers and layer.node.input[0] in where.rounded:
            mean = None if means is None else means.get(node.name)
            _integers(writer, node, layer, ranges[where.rounded[layer.node.input[0]]], high, mean)
    return writer.done()


def _absorb(writer: Writer, where: Placement, ranges: Mapping[str, Affine]) -> None:
    """Takes out each Relu and Clip whose work the rounding behind it does: bytes end where the activation does. ONNX
    Runtime would find some of them itself, but not behind a sum, and no Clip."""
    graph = writer.model.graph
    made = {name: node for node in graph.node for name in node.output}
    consumers = writer.graph.consumers()
    fixed = {entry.name for entry in graph.output}
    for node in list(graph.node):
        name = node.output[0]
        if node.op_type not in ABSORBED or where.rounded.get(name) != name or node.input[0] in fixed:
            continue
        before = made.get(node.input[0])
        if before is None or len(consumers[node.input[0]]) > 1 or not _within(writer.graph, node, ranges[name]):
            continue
        before.output[:] = [name if entry == node.input[0] else entry for entry in before.output]
        graph.node.remove(node)


def _within(graph: Graph, node: NodeProto, levels: Affine) -> bool:
    """Whether no level lies where the activation lets nothing through."""
    if node.op_type == "Relu":
        return levels.zero_point == 0
    if len(node.input) < 3 or any(name and name not in graph.stored for name in node.input[1:]):
        return False
    low, high = (float(graph.stored[name].reshape(-1)[0]) if name else None for name in node.input[1:])
    bottom, top = ((level - levels.zero_point) * levels.scale for level in (0, LEVELS - 1))
    return (low is None or bottom >= low - NEARLY) and (high is None or top <= high + NEARLY * max(1, abs(high)))


def _round(writer: Writer, name: str, levels: Affine, source: str) -> None:
    """Puts the tensor through bytes: whoever reads it reads what they stand for."""
    scale = writer.tensor(f"{source}/scale", np.array(levels.scale, np.float32))
    zero = writer.tensor(f"{source}/zero_point", np.array(levels.zero_point, np.uint8))
    graph = writer.model.graph
    given, read = name, f"{name}/dequantized"
    if any(entry.name == name for entry in graph.output):
        given, read = f"{name}/float", name  # an output keeps its name
        for node in graph.node:
            node.output[:] = [given if output == name else output for output in node.output]
    nodes = [
        helper.make_node("QuantizeLinear", [given, scale, zero], [f"{name}/quantized"], f"{name}/QuantizeLinear"),
        helper.make_node("DequantizeLinear", [f"{name}/quantized", scale, zero], [read], f"{name}/DequantizeLinear"),
    ]
    reader = ""
    for node in graph.node:
        if name in node.input:
            reader = reader or node.name
            node.input[:] = [read if entry == name else entry for entry in node.input]
    writer.before.setdefault(reader, []).extend(nodes)


def _integers(
    writer: Writer, node: NodeProto, layer: Layer, levels: Affine, high: int, means: NDArray[np.float64] | None
) -> None:
    """Weights in int8, the bias in int32 at the scale of the sums that it is added to."""
    bias = layer.bias
    most = 0.0 if bias is None else np.abs(bias.astype(np.float64)) / levels.scale / MOST_IN_A_BIAS
    weights = weights_of(layer, high, most)
    name = layer.node.input[1]
    shared = f"{name}/{layer.axis if layer.bias is None else node.name}/int8"  # a bias may ask for other scales
    integers = writer.tensor(shared, weights.integers)
    scale = writer.tensor(f"{shared}/scale", weights.scale)
    zero = writer.tensor(f"{shared}/zero_point", np.zeros(len(weights.scale), np.int8))
    made = [_dequantize([integers, scale, zero], f"{node.name}/weight", layer.axis)]
    node.input[1] = made[0].output[0]
    if means is not None and layer.operator != "MatMul":
        wanted = -shift(layer, weights.rounded(layer.axis), means)
        bias = (wanted if bias is None else bias + wanted).astype(np.float32)
    if bias is not None:
        steps = levels.scale * weights.scale.astype(np.float64)
        exact = np.clip(np.rint(bias / steps), -(2.0**31), 2.0**31 - 1).astype(np.int32)
        parts = [
            writer.tensor(f"{node.name}/bias/int32", exact),
            writer.tensor(f"{node.name}/bias/scale", steps.astype(np.float32)),
        ]
        made.append(_dequantize(parts, f"{node.name}/bias", 0))
        node.input[2:] = [made[-1].output[0]]
    writer.before.setdefault(node.name, []).extend(made)


def _dequantize(parts: list[str], name: str, axis: int) -> NodeProto:
    return helper.make_node("DequantizeLinear", parts, [f"{name}/float"], f"{name}/DequantizeLinear", axis=axis)


def _every_node(graph: onnx.GraphProto) -> list[NodeProto]:
    found = list(graph.node)
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                found += _every_node(inner)
    return found
