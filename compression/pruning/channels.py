"""Which channels of a network live and die together.

Every place along an axis that a layer produces gets a number; following the graph, each tensor knows which numbers lie
along which of its axes. Operators that force channels to agree (an addition, a depthwise convolution, the product of
queries and keys) unite their numbers; a view that takes an axis apart makes its numbers products of two (heads ×
places in a head). An operator that isn't followed freezes the channels that reach it: the network stays whole, and the
report names what stood in the way. The idea of coupled channels is that of DepGraph (Fang et al. 2023); working on
numbers instead of layer pairs makes concatenation, flattening and attention ordinary indexing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from torch import Tensor, fx, nn

from compression.intake.shapes import shapes
from compression.network import Network
from compression.pruning import contractions, views
from compression.pruning.channel_map import Average, ChannelMap, Labels, Layer, Product, Read
from compression.pruning.graph_names import operator_name, shared_parameters, shared_tensors
from compression.pruning.numbers import Ids, Numbers

Value: TypeAlias = "Labels | list[Labels]"
Convolution: TypeAlias = nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d

ELEMENTWISE = (
    nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.SiLU, nn.Sigmoid, nn.Tanh, nn.GELU, nn.Hardswish, nn.Hardsigmoid, nn.LeakyReLU,
    nn.ELU, nn.Mish, nn.Softplus, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Identity,
)  # fmt: skip
SPATIAL = (
    nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d, nn.Upsample,
)  # fmt: skip
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
}
BATCH = 3


def map_channels(network: Network) -> ChannelMap:
    """Follows every channel through the network."""
    return Tracer(network).trace()


class Tracer:
    """Walks the graph; what it finds goes into `map`. The rules of single operators are in `views`, `contractions`."""

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
            value = self.values[source]
            for labels in value if isinstance(value, list) else [value]:
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
            return self._module(node, self.modules[str(node.target)])
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

    def _module(self, node: fx.Node, module: nn.Module) -> Value:
        labels = self.labels(node.args[0])
        rank = len(self.shape(node))
        if isinstance(module, nn.Linear):
            return self._layer(node, module, rank - 1)
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d) and rank == module.weight.dim():
            return self._layer(node, module, 1)
        if isinstance(module, nn.Embedding):
            return self._embedding(node, module, labels)
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.PReLU):
            return self._norm(module, labels, 1)
        if isinstance(module, nn.LayerNorm):
            return self._layer_norm(node, module, labels, rank)
        if isinstance(module, nn.GroupNorm):
            return self._group_norm(node, module, labels)
        if isinstance(module, nn.Softmax | nn.LogSoftmax) and isinstance(module.dim, int):
            return self.keep_axis(node, labels, module.dim % rank)
        if isinstance(module, nn.PixelShuffle):
            return self._pixel_shuffle(node, module, labels)
        if isinstance(module, ELEMENTWISE):
            return labels
        if isinstance(module, SPATIAL):
            return self.keep_axis(node, labels, *range(2, rank))
        return self.stop(node)

    def _layer(self, node: fx.Node, module: nn.Linear | Convolution, axis: int) -> Labels:
        name = self.names[id(module)]
        groups = 1 if isinstance(module, nn.Linear) else module.groups
        transposed = isinstance(module, nn.ConvTranspose2d)
        labels = self.labels(node.args[0])
        if not isinstance(module, nn.Linear):
            labels = self.keep_axis(node, labels, *(other for other in labels if other != 1))
        size, wanted = _widths(module)
        inputs = labels.get(axis)
        if inputs is None:
            inputs = self.held(wanted, "it isn't a layer's output alone")
        known = self.map.layers.get(name)
        outputs = self.numbers.new(size) if known is None else known.outputs
        if known is not None:  # a shared layer: every use must agree
            self.numbers.unite(known.inputs, inputs)
        layer = Layer(name, inputs, outputs, groups, transposed)
        self._tie_groups(layer)
        if name in self.tied:
            self.freeze({0: inputs, 1: outputs}, f"{name} shares its weight with another layer")
        self._declare(layer, module)
        if not layer.depthwise:
            self.map.reads.append(Read(node.name, (0,), axis - len(self.shape(node)), inputs))
        self._count(node, module, layer, [ids for other, ids in labels.items() if other != axis])
        return {**{other: ids for other, ids in labels.items() if other != axis}, axis: outputs}

    def _tie_groups(self, layer: Layer) -> None:
        if layer.transposed and layer.groups > 1:
            self.freeze({0: layer.inputs, 1: layer.outputs}, f"{layer.name} is a transposed convolution with groups")
        elif layer.depthwise:
            self.numbers.unite(layer.inputs.repeat(len(layer.outputs) // layer.groups), layer.outputs)
        elif layer.groups > 1:  # each group keeps the same places, so that groups stay equal in size
            for ids in (layer.inputs, layer.outputs):
                by_group = ids.reshape(layer.groups, -1)
                for row in by_group[1:]:
                    self.numbers.unite(by_group[0], row)

    def _declare(self, layer: Layer, module: nn.Module) -> None:
        """What changes in the module when channels go."""
        name, channels = layer.name, self.map
        channels.layers[name] = layer
        channels.producers[name] = layer.outputs
        places = {0: layer.outputs}
        if not layer.depthwise:
            places[1] = layer.inputs[: len(layer.inputs) // layer.groups]
        if layer.transposed:
            places = {} if layer.groups > 1 else {0: layer.inputs, 1: layer.outputs}
        channels.slices[f"{name}.weight"] = places
        if getattr(module, "bias", None) is not None:
            channels.slices[f"{name}.bias"] = {0: layer.outputs}
        kinds = ("in_features", "out_features") if isinstance(module, nn.Linear) else ("in_channels", "out_channels")
        channels.attributes |= {(name, kinds[0]): layer.inputs, (name, kinds[1]): layer.outputs}
        if layer.depthwise:
            channels.attributes[name, "groups"] = layer.inputs
        if not isinstance(module, nn.Linear):
            channels.convolutions.add(name)

    def _count(self, node: fx.Node, module: nn.Linear | Convolution, layer: Layer, others: list[Ids]) -> None:
        source: Any = node.args[0]
        pixels = math.prod(self.single_shape(source if layer.transposed else node))
        each = module.weight.numel() // (len(layer.inputs) if layer.transposed else len(layer.outputs))
        ends = (layer.outputs,) if layer.depthwise else (layer.outputs, layer.inputs)
        self.map.products.append(Product(pixels * each, (*ends, *others)))

    def _embedding(self, node: fx.Node, module: nn.Embedding, labels: Labels) -> Labels:
        name = self.names[id(module)]
        outputs = self.map.producers.get(name)
        if outputs is None:
            outputs = self.numbers.new(module.embedding_dim)
        if name in self.tied:
            self.numbers.freeze(outputs, f"{name} shares its weight with another layer")
        self.map.producers[name] = outputs
        self.map.slices[f"{name}.weight"] = {1: outputs}
        self.map.attributes[name, "embedding_dim"] = outputs
        return {**labels, len(self.shape(node)) - 1: outputs}

    def _norm(self, module: nn.Module, labels: Labels, axis: int) -> Labels:
        """A module with one parameter, or statistic, a channel."""
        name, ids = self.names[id(module)], labels.get(axis)
        if isinstance(module, nn.PReLU) and module.num_parameters == 1:
            return labels
        if ids is None:
            return labels
        if name in self.tied:
            self.numbers.freeze(ids, f"{name} shares its parameters with another layer")
        if name in self.map.norms:
            self.numbers.unite(self.map.norms[name], ids)
        self.map.norms[name] = ids
        for part in ("weight", "bias", "running_mean", "running_var"):
            if getattr(module, part, None) is not None:
                self.map.slices[f"{name}.{part}"] = {0: ids}
        kind = {nn.PReLU: "num_parameters", nn.LayerNorm: "normalized_shape", nn.GroupNorm: "num_channels"}
        self.map.attributes[name, kind.get(type(module), "num_features")] = ids
        return labels

    def _layer_norm(self, node: fx.Node, module: nn.LayerNorm, labels: Labels, rank: int) -> Labels:
        if len(module.normalized_shape) > 1:
            return self.keep_axis(node, labels, *range(rank - len(module.normalized_shape), rank))
        if rank - 1 in labels:
            self.numbers.mark(labels[rank - 1], "width")
            self.map.averages[node.name] = Average(node.name, labels[rank - 1], None)
        return self._norm(module, labels, rank - 1)

    def _group_norm(self, node: fx.Node, module: nn.GroupNorm, labels: Labels) -> Labels:
        """Whole groups go without a trace; channels out of every group change its statistics."""
        ids = labels.get(1)
        if ids is None:
            return labels
        groups, each = module.num_groups, module.num_channels // module.num_groups
        rows, columns = (None, ids) if groups == 1 else (ids, None)
        if groups > 1 and each > 1:
            rows, columns = self.numbers.split(ids, groups, each)
        if rows is None and groups > 1:
            return self.keep_axis(node, labels, 1)
        if columns is not None:
            self.numbers.mark(columns, "width")
        if rows is not None:
            self.map.attributes[self.names[id(module)], "num_groups"] = rows
        self.map.averages[node.name] = Average(node.name, ids, rows)
        return self._norm(module, labels, 1)

    def _pixel_shuffle(self, node: fx.Node, module: nn.PixelShuffle, labels: Labels) -> Labels:
        labels = self.keep_axis(node, labels, *(axis for axis in labels if axis != 1))
        if 1 not in labels or self.shape(node)[1] == 1:
            return self.keep_axis(node, labels, 1)
        rows, columns = self.numbers.split(labels[1], self.shape(node)[1], module.upscale_factor**2)
        if columns is not None:
            self.numbers.freeze(columns, f"{node.name} makes pixels of it")
        return {} if rows is None else {1: rows}


def _widths(module: nn.Linear | Convolution) -> tuple[int, int]:
    if isinstance(module, nn.Linear):
        return module.out_features, module.in_features
    return module.out_channels, module.in_channels
