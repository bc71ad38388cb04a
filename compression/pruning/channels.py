"""Which channels of a network live and die together.

Every place along an axis that a layer produces gets a number; following the graph, each tensor knows which numbers lie
along which of its axes. Operators that force channels to agree (an addition, a depthwise convolution, the product of
queries and keys) unite their numbers; a view that takes an axis apart makes its numbers products of two (heads ×
places in a head). An operator that isn't followed freezes the channels that reach it: the network stays whole, and the
report names what stood in the way. The idea of coupled channels is that of DepGraph (Fang et al. 2023); working on
numbers instead of layer pairs makes concatenation, flattening and attention ordinary indexing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from torch import Tensor, fx

from compression.intake.shapes import shapes
from compression.network import Network
from compression.pruning import contractions, layers, recurrent, views
from compression.pruning.channel_map import ChannelMap, Labels
from compression.pruning.graph_names import operator_name, shared_parameters, shared_tensors
from compression.pruning.numbers import Ids, Numbers

Value: TypeAlias = "Labels | list[Value]"

UNARY_FUNCTIONS = {
    "neg", "abs", "exp", "sqrt", "rsqrt", "pow", "relu", "sigmoid", "tanh", "silu", "gelu", "hardtanh", "hardswish",
    "hardsigmoid", "leaky_relu", "clamp", "clamp_min", "clamp_max", "contiguous", "clone", "detach", "alias", "dropout",
    "square", "reciprocal", "to", "_to_copy", "log", "erf", "floor", "ceil", "round", "sign", "sin", "cos", "elu",
    "mish", "softplus", "relu6",
}  # fmt: skip
BROADCAST_FUNCTIONS = {"add", "sub", "mul", "truediv", "div", "maximum", "minimum", "masked_fill", "where", "rsub"}
FUNCTIONS: Mapping[str, Callable[[Tracer, fx.Node], Value]] = {
    **dict.fromkeys(("flatten", "reshape", "squeeze", "unsqueeze", "unflatten"), views.follow_reshape),
    "permute": views.follow_permute,
    "transpose": views.follow_transpose,
    "expand": views.follow_expand,
    "cat": views.follow_cat,
    "stack": views.follow_stack,
    **dict.fromkeys(("chunk", "split"), views.follow_split),
    "unbind": views.follow_unbind,
    "select": views.follow_select,
    "getitem": views.follow_getitem,
    "index": views.follow_index,
    **dict.fromkeys(("slice", "roll", "index_select", "flip"), views.follow_along),
    **dict.fromkeys(("pad", "constant_pad_nd"), views.follow_pad),
    **dict.fromkeys(("mean", "sum", "amax", "amin"), views.follow_reduction),
    **dict.fromkeys(("softmax", "log_softmax"), views.follow_softmax),
    **dict.fromkeys(("matmul", "bmm", "mm"), contractions.follow_matmul),
    "einsum": contractions.follow_einsum,
    "scaled_dot_product_attention": contractions.follow_attention,
    **dict.fromkeys(("lstm", "gru"), recurrent.follow_call),
}
BATCH = 3


def map_channels(network: Network) -> ChannelMap:
    """Follows every channel through the network."""
    return Tracer(network).trace()


class Tracer:
    """Walks the graph; what it finds goes into `map`. The rules of single operators are in `layers`, `views` and
    `contractions`."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.graph = network.module.graph
        self.modules = dict(network.module.named_modules(remove_duplicate=False))
        self.names: dict[int, str] = {}  # a module's first name: it may be called by several
        for path, module in self.modules.items():
            self.names.setdefault(id(module), path)
        self.tied = shared_parameters(network.module)
        self.shared = shared_tensors(network.module)
        self.numbers = Numbers()
        self.values: dict[fx.Node, Value] = {}
        self.sizes = shapes(network.module, network.signature.inputs, BATCH)
        self.single = shapes(network.module, network.signature.inputs, 1)
        self.map = ChannelMap()

    def trace(self) -> ChannelMap:
        for node in self.graph.nodes:
            self.values[node] = self._follow(node)
        self.map.units, self.map.reasons, self.map.kinds = self.numbers.settle()
        return self.map

    def labels(self, node: Any) -> Labels:
        value = self.values.get(node, {}) if isinstance(node, fx.Node) else {}
        return {} if isinstance(value, list) else value

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        """Of its tensor at a batch of `BATCH`; () for a number."""
        value = self.sizes.get(node)
        return tuple(value.shape) if isinstance(value, Tensor) else ()

    def single_shape(self, node: fx.Node) -> tuple[int, ...]:
        """Of its tensor at a batch of one: what MACs are counted at."""
        value = self.single.get(node)
        return tuple(value.shape) if isinstance(value, Tensor) else ()

    def freeze(self, labels: Labels, reason: str) -> None:
        for ids in labels.values():
            self.numbers.freeze(ids, reason)

    def stop(self, node: fx.Node) -> Value:
        """Freezes all that reaches an operator that isn't followed. Its own output is no producer's any more."""
        for source in node.all_input_nodes:
            for labels in _every(self.values[source]):
                self.freeze(labels, f"{operator_name(node, self.modules)} ({node.name}) isn't followed")
        parts = self.sizes.get(node)
        return [{} for _ in parts] if isinstance(parts, tuple | list) else {}

    def keep_axis(self, node: fx.Node, labels: Labels, *axes: int) -> Labels:
        """`labels` without `axes`, which must stay whole for what `node` does."""
        held = {axis: ids for axis, ids in labels.items() if axis in axes}
        self.freeze(held, f"{operator_name(node, self.modules)} ({node.name}) works along it")
        return {axis: ids for axis, ids in labels.items() if axis not in axes}

    def held(self, count: int, reason: str) -> Ids:
        """New numbers for channels that no layer of the map makes."""
        ids = self.numbers.new(count)
        self.numbers.freeze(ids, reason)
        return ids

    def broadcast(self, node: fx.Node, operands: list[fx.Node]) -> Labels:
        """The labels of an element-wise operator's result: along each axis the operands' numbers are united."""
        result: dict[int, Ids] = {}
        shape = self.shape(node)
        for axis, size in enumerate(shape):
            known: list[Ids] = []
            missing = False
            for operand in operands:
                place = axis - len(shape) + len(self.shape(operand))
                ids = self.labels(operand).get(place)
                if place < 0:
                    continue
                if self.shape(operand)[place] != size:
                    self.freeze({} if ids is None else {place: ids}, f"it is broadcast in {node.name}")
                elif ids is None:
                    missing = True
                else:
                    known.append(ids)
            for ids in known:
                if missing:
                    self.numbers.freeze(ids, f"it meets values in {node.name} that must stay")
                else:
                    self.numbers.unite(known[0], ids)
            if known and not missing:
                result[axis] = known[0]
        return result

    def _follow(self, node: fx.Node) -> Value:
        if node.op == "placeholder":
            return {}
        if node.op == "output":
            for source in node.all_input_nodes:
                self.freeze(self.labels(source), "it is an output of the network")
            return {}
        if node.op == "get_attr":
            return self._constant(node)
        if isinstance(self.sizes[node], int | float):
            return self._length(node)
        if node.op == "call_module":
            return layers.follow_module(self, node, self.modules[str(node.target)])
        name = operator_name(node)
        if name in FUNCTIONS:
            return FUNCTIONS[name](self, node)
        if name in BROADCAST_FUNCTIONS:
            return self.broadcast(node, [source for source in node.all_input_nodes if source in self.sizes])
        if name in UNARY_FUNCTIONS and node.all_input_nodes == [node.args[0]]:
            return self.labels(node.args[0])
        return self.stop(node)

    def _constant(self, node: fx.Node) -> Labels:
        name = str(node.target)
        if name not in self.map.slices:
            shape = self.shape(node)
            made = {axis: self.numbers.new(size) for axis, size in enumerate(shape) if size > 1}
            if name in self.shared:
                self.freeze(made, f"{name} is used under several names")
            self.map.slices[name] = made
        return self.map.slices[name]

    def _length(self, node: fx.Node) -> Labels:
        """A number that is computed: a length along a labelled axis must not change."""
        for source in node.all_input_nodes:
            labels = self.labels(source)
            given: Any = node.args[1] if len(node.args) > 1 else None
            axes = [given % len(self.shape(source))] if isinstance(given, int) and labels else list(labels)
            self.freeze({a: labels[a] for a in axes if a in labels}, f"its size is computed with ({node.name})")
        return {}


def _every(value: Value) -> list[Labels]:
    """The labels of a tensor, or of each of several."""
    return [labels for part in value for labels in _every(part)] if isinstance(value, list) else [value]
