"""Which tensors of a graph are rounded to bytes, so that ONNX Runtime runs everything between them in integers.

Its fusions want a QuantizeLinear behind each convolution (and the activation that follows it), one before each layer,
and both sides of sums, pools and concatenations rounded; what only moves values keeps its input's scale.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from onnx import NodeProto

from compression.quantization.int8.graph import Graph

COMPUTING = frozenset({"Add", "Mul", "Concat", "AveragePool", "GlobalAveragePool", "Sigmoid", "LeakyRelu"})
"""They have an integer form in ONNX Runtime, with a scale of their own for what they give."""
MOVING = frozenset({"MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze"})
"""They run on bytes as they are: the scale stays."""
ABSORBED = frozenset({"Relu", "Clip"})
"""An activation behind a layer is done by the rounding to a range that begins at zero."""


@dataclass(frozen=True)
class Placement:
    """`rounded`: each tensor that becomes bytes, with the tensor whose range it has (its own, or what was moved)."""

    rounded: dict[str, str]

    @property
    def ranges(self) -> list[str]:
        """The tensors whose ranges have to be known."""
        return list(dict.fromkeys(self.rounded.values()))


def placement(graph: Graph, layers: Collection[str]) -> Placement:
    """For these layers in integers, by name; the others stay float."""
    consumers = graph.consumers()
    outputs = {entry.name for entry in graph.model.graph.output}
    rounded: dict[str, str] = {}

    def behind(node: NodeProto) -> str:
        """The output of a node, or of the activation that it is all for."""
        name: str = node.output[0]
        following = consumers.get(name, [])
        if len(following) == 1 and following[0].op_type in ABSORBED and name not in outputs:
            name = following[0].output[0]
        return name

    for node in graph.model.graph.node:
        if node.name in layers and node.input[0] in graph.floats:
            rounded.setdefault(node.input[0], node.input[0])
            if node.op_type == "Conv":
                rounded.setdefault(behind(node), behind(node))
    for node in graph.model.graph.node:
        values = [name for name in node.input if name in graph.floats]
        if not values or not all(name in rounded for name in values):
            continue
        if node.op_type in COMPUTING and len(values) == len(node.input) and behind(node) not in outputs:
            rounded.setdefault(behind(node), behind(node))
        elif node.op_type in MOVING and node.output[0] not in outputs and len(node.output) == 1:
            rounded[node.output[0]] = rounded[values[0]]
    return Placement(rounded)
