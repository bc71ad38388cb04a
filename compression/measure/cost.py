"""What a network costs: parameters, multiply-accumulates (MACs) and bytes, per layer and in total."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from compression.network import Network, as_tuple
from compression.opaque import OpaqueOnnx
from compression.vocabulary import used_tensors


@dataclass(frozen=True)
class LayerCost:
    """One layer, or one function that multiplies. Shapes are at batch 1; a layer called twice has the MACs of both
    calls and the shape of its last output. A parameter shared by several layers counts at the first."""

    name: str
    type: str
    output_shape: list[int]
    weight_shape: list[int] | None
    parameters: int
    nonzero: int
    macs: int


@dataclass(frozen=True)
class NetworkCost:
    """`macs` at batch 1. `bytes` of parameters and buffers as they lie in memory: 4 per fp32 number."""

    parameters: int
    nonzero: int
    macs: int
    bytes: int
    layers: list[LayerCost]


@dataclass(frozen=True)
class StoredCost:
    """What is known of a model that can't be looked into: its stored numbers. What it multiplies isn't."""

    parameters: int
    nonzero: int
    bytes: int
    macs: None = None
    layers: list[LayerCost] = field(default_factory=list)


def stored_cost(model: OpaqueOnnx) -> StoredCost:
    return StoredCost(model.parameters, model.nonzero, model.bytes)


def cost_of(network: Network, variant: str = "full") -> NetworkCost:
    """The cost of one variant of a network: of what that variant's outputs need, and nothing else.

    MACs are those of convolutions and matrix products, half of what torch's FlopCounterMode counts. Biases, norms,
    activations, pooling and element-wise arithmetic count zero, as is the custom of the literature.
    """
    module = network.variant(variant)
    tensors = used_tensors(module)
    parameters = {name: value for name, value in tensors.items() if isinstance(value, nn.Parameter)}
    counter = _MacsByNode(module)
    counter.count(network.example(1))
    layers = _layers(module, parameters, counter)
    return NetworkCost(
        parameters=sum(value.numel() for value in parameters.values()),
        nonzero=sum(int(torch.count_nonzero(value)) for value in parameters.values()),
        macs=sum(layer.macs for layer in layers),
        bytes=sum(value.numel() * value.element_size() for value in tensors.values()),
        layers=layers,
    )


class _MacsByNode(fx.Interpreter):
    """Runs a graph and notes each node's MACs and output shape."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.macs: dict[str, int] = {}
        self.shapes: dict[str, list[int]] = {}
        self.flops = FlopCounterMode(display=False)

    def count(self, inputs: tuple[Tensor, ...]) -> None:
        # FlopCounterMode knows no formula for the fused attention kernel of the CPU and would count it as nothing.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), self.flops:
            self.run(*inputs)

    def run_node(self, n: fx.Node) -> Any:
        before = self.flops.get_total_flops()
        result = super().run_node(n)
        self.macs[n.name] = (self.flops.get_total_flops() - before) // 2
        leaf = self.fetch_attr(str(n.target)) if n.op == "call_module" else None
        if isinstance(leaf, nn.LSTM | nn.GRU):  # a fused kernel, of which the counter knows nothing: steps first
            matrices = sum(value.numel() for value in leaf.parameters() if value.dim() == 2)
            self.macs[n.name] = matrices * math.prod(result[0].shape[:2])
        first = as_tuple(result)[0] if n.op.startswith("call_") else None
        self.shapes[n.name] = list(first.shape) if isinstance(first, Tensor) else []
        return result


def _layers(module: fx.GraphModule, parameters: Mapping[str, nn.Parameter], counter: _MacsByNode) -> list[LayerCost]:
    """Every leaf module with parameters, every parameter that stands alone, and every other node that multiplies."""
    nodes: dict[str, list[fx.Node]] = {}
    for node in module.graph.nodes:
        if node.op in {"call_module", "get_attr"}:
            nodes.setdefault(str(node.target), []).append(node)
        elif node.op == "call_function":
            nodes[node.name] = [node]
    layers = []
    for name, calls in nodes.items():
        owned = [value for key, value in parameters.items() if key == name or key.rpartition(".")[0] == name]
        macs = sum(counter.macs[node.name] for node in calls)
        if owned or macs:
            layers.append(
                LayerCost(
                    name=name,
                    type=_type(module, calls[-1]),
                    output_shape=counter.shapes[calls[-1].name],
                    weight_shape=_weight_shape(module, calls[-1]),
                    parameters=sum(value.numel() for value in owned),
                    nonzero=sum(int(torch.count_nonzero(value)) for value in owned),
                    macs=macs,
                )
            )
    return layers


def _type(module: fx.GraphModule, node: fx.Node) -> str:
    if node.op == "call_module":
        return type(module.get_submodule(str(node.target))).__name__
    if node.op == "get_attr":
        return "parameter"
    return str(getattr(node.target, "__name__", node.target))


def _weight_shape(module: fx.GraphModule, node: fx.Node) -> list[int] | None:
    if node.op != "call_module":
        return None
    weight = getattr(module.get_submodule(str(node.target)), "weight", None)
    return list(weight.shape) if isinstance(weight, Tensor) else None
