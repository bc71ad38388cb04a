"""One layer of a network as a small `.onnx` graph, at any width: what the table of layer times is measured on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from compression.intake.shapes import shapes
from compression.network import Network

OPSET, IR_VERSION = 18, 10


@dataclass(frozen=True)
class LayerCall:
    """A call of a convolution or linear layer at batch 1, without its widths. `sizes`: the input's other axes (rows of
    a linear layer, places of a convolution). `multiplier`: outputs for each input of a depthwise convolution, else
    0."""

    layer: str
    operator: str
    sizes: tuple[int, ...]
    attributes: tuple[tuple[str, tuple[int, ...]], ...] = ()
    groups: int = 1
    multiplier: int = 0

    @property
    def key(self) -> str:
        """What calls that take the same time at the same widths share."""
        shape = "×".join(map(str, self.sizes))
        details = [f"{name} {'×'.join(map(str, values))}" for name, values in self.attributes]
        groups = [f"depthwise ×{self.multiplier}"] if self.multiplier else [f"groups {self.groups}"]
        return ", ".join([f"{self.operator} {shape}".strip(), *details, *(groups if self.groups > 1 else [])])

    @property
    def depthwise(self) -> bool:
        return self.multiplier > 0

    def input_shape(self, inputs: int) -> tuple[int, ...]:
        return (*self.sizes, inputs) if self.operator == "MatMul" else (inputs, *self.sizes)


def layer_calls(network: Network) -> dict[str, LayerCall]:
    """By node: every call of a convolution or linear layer in the graph."""
    modules: dict[str, nn.Module] = dict(network.module.named_modules(remove_duplicate=False))
    names: dict[int, str] = {}
    for path, module in modules.items():
        names.setdefault(id(module), path)
    sizes = shapes(network.module, network.signature.inputs, 1)
    found = {}
    for node in network.module.graph.nodes:
        called = modules[str(node.target)] if node.op == "call_module" else None
        if isinstance(called, nn.Linear | nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d):
            source: Any = node.args[0]
            found[node.name] = _call(names[id(called)], called, tuple(sizes[source].shape))
    return found


def _call(name: str, module: nn.Module, shape: tuple[int, ...]) -> LayerCall:
    if isinstance(module, nn.Linear):
        return LayerCall(name, "MatMul", shape[1:-1])
    if not isinstance(module, nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d):
        raise TypeError(f"{name} is neither a convolution nor linear")
    axes = len(module.kernel_size)
    transposed = isinstance(module, nn.ConvTranspose2d)
    if isinstance(module.padding, str):
        total = [
            d * (k - 1) if module.padding == "same" else 0
            for d, k in zip(module.dilation, module.kernel_size, strict=True)
        ]
        pads = (*(t // 2 for t in total), *(t - t // 2 for t in total))
    else:
        pads = (*module.padding, *module.padding)
    attributes: dict[str, tuple[int, ...]] = {"kernel_shape": tuple(module.kernel_size)}
    optional = {"strides": tuple(module.stride), "pads": pads, "dilations": tuple(module.dilation)}
    if transposed:
        optional["output_padding"] = tuple(module.output_padding)
    plain = {"strides": (1,) * axes, "pads": (0,) * 2 * axes, "dilations": (1,) * axes, "output_padding": (0,) * axes}
    attributes |= {key: value for key, value in optional.items() if value != plain[key]}
    depthwise = module.groups > 1 and module.groups == module.in_channels
    multiplier = module.out_channels // module.groups if depthwise else 0
    operator = "ConvTranspose" if transposed else "Conv"
    # A depthwise convolution's groups are its width: not part of what calls share.
    groups = 2 if depthwise else module.groups
    return LayerCall(name, operator, shape[2:], tuple(attributes.items()), groups, multiplier)


def layer_graph(call: LayerCall, inputs: int, outputs: int, copies: int) -> bytes:
    """A file of `copies` of the layer beside each other, each with weights of its own, a bias and a ReLU, summed up:
    the runtime fuses bias, sum and ReLU into the layer, as it does in a network."""
    random = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []
    sum_so_far = ""
    for copy in range(copies):
        weight = random.standard_normal(_weight_shape(call, inputs, outputs)).astype(np.float32)
        bias = random.standard_normal(outputs).astype(np.float32)
        weights += [numpy_helper.from_array(weight, f"w{copy}"), numpy_helper.from_array(bias, f"b{copy}")]
        nodes += _layer_nodes(call, inputs, copy)
        value = f"y{copy}"
        if sum_so_far:
            nodes.append(helper.make_node("Add", [value, sum_so_far], [f"s{copy}"]))
            value = f"s{copy}"
        nodes.append(helper.make_node("Relu", [value], [f"r{copy}"]))
        sum_so_far = f"r{copy}"
    shape: list[str | int | None] = ["batch", *call.input_shape(inputs)]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    result = helper.make_tensor_value_info(sum_so_far, TensorProto.FLOAT, ["batch", *[None] * (len(shape) - 1)])
    graph = helper.make_graph(nodes, "layer", [given], [result], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    return bytes(model.SerializeToString())


def _layer_nodes(call: LayerCall, inputs: int, copy: int) -> list[onnx.NodeProto]:
    weight, bias, value = f"w{copy}", f"b{copy}", f"y{copy}"
    if call.operator != "MatMul":
        groups = inputs if call.depthwise else call.groups
        attributes: dict[str, Any] = {name: list(values) for name, values in call.attributes}
        return [helper.make_node(call.operator, ["x", weight, bias], [value], group=groups, **attributes)]
    if not call.sizes:
        return [helper.make_node("Gemm", ["x", weight, bias], [value])]
    product = helper.make_node("MatMul", ["x", weight], [f"p{copy}"])
    return [product, helper.make_node("Add", [f"p{copy}", bias], [value])]


def _weight_shape(call: LayerCall, inputs: int, outputs: int) -> tuple[int, ...]:
    if call.operator == "MatMul":
        return (inputs, outputs)
    kernel = dict(call.attributes)["kernel_shape"]
    groups = inputs if call.depthwise else call.groups
    if call.operator == "ConvTranspose":
        return (inputs, outputs // groups, *kernel)
    return (outputs, inputs // groups, *kernel)
