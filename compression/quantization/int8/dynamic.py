"""Products of matrices in integers, with the range of what they read taken anew in every run.

DynamicQuantizeLinear → MatMulInteger → Cast → Mul, which ONNX Runtime fuses. Convolutions stay float: their dynamic
form is several times slower than the float one.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from onnx import TensorProto, helper

from compression.quantization.int8.graph import Graph
from compression.quantization.int8.qdq import Writer, weights_of


def dynamic_layers(graph: Graph) -> list[str]:
    """Those that can run so."""
    return [
        name for name, layer in graph.layers.items() if layer.operator != "Conv" and layer.node.input[0] in graph.floats
    ]


def write_dynamic(graph: Graph, layers: Collection[str], high: int = 127) -> bytes:
    writer = Writer(graph)
    read: dict[str, str] = {}
    nodes = []
    for node in writer.model.graph.node:
        layer = graph.layers.get(node.name)
        if layer is None or node.name not in layers or layer.operator == "Conv":
            nodes.append(node)
            continue
        name, source = node.name, node.input[0]
        if source not in read:
            read[source] = f"{source}/bytes"
            parts = [read[source], f"{source}/scale", f"{source}/zero_point"]
            nodes.append(helper.make_node("DynamicQuantizeLinear", [source], parts, f"{source}/DynamicQuantizeLinear"))
        weights = weights_of(layer, high)
        matrix = weights.integers if layer.axis == 1 else weights.integers.T
        stored = writer.tensor(f"{name}/weight/int8", matrix)
        scale = writer.tensor(f"{name}/weight/scale", weights.scale)
        zero = writer.tensor("int8/zero", np.array(0, np.int8))
        last = f"{name}/product" if layer.bias is not None else node.output[0]
        nodes += [
            helper.make_node(
                "MatMulInteger", [read[source], stored, f"{source}/zero_point", zero], [f"{name}/sums"], name
            ),
            helper.make_node("Cast", [f"{name}/sums"], [f"{name}/wide"], f"{name}/Cast", to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{source}/scale", scale], [f"{name}/sums/scale"], f"{name}/scales"),
            helper.make_node("Mul", [f"{name}/wide", f"{name}/sums/scale"], [last], f"{name}/Mul"),
        ]
        if layer.bias is not None:
            bias = writer.tensor(f"{name}/bias", layer.bias)
            nodes.append(helper.make_node("Add", [last, bias], [node.output[0]], f"{name}/Add"))
    del writer.model.graph.node[:]
    writer.model.graph.node.extend(nodes)
    return writer.done()
