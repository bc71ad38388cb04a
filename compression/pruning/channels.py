"""Which channels of a network live and die together.

Every channel that a layer produces gets a number; following the graph, each tensor knows which numbers lie along its
channel axis. Operators that force channels to agree (an addition, a depthwise convolution) unite their numbers. An
operator that this file doesn't follow freezes the channels that reach it: the network stays whole, and the report names
what stood in the way. The idea of coupled channels is that of DepGraph (Fang et al. 2023); working on channel numbers
instead of layer pairs makes concatenation and flattening ordinary indexing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch._ops import OpOverload
from torch.fx.passes.shape_prop import ShapeProp

from compression.network import Network
from compression.pruning.channel_map import ChannelMap, Channels, Layer, Numbers

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
}  # fmt: skip
BINARY_FUNCTIONS = {"add", "sub", "mul", "truediv", "div", "maximum", "minimum"}


def map_channels(network: Network) -> ChannelMap:
    """Follows every channel through the network."""
    return _Tracer(network).trace()


class _Tracer:
    def __init__(self, network: Network) -> None:
        self.network = network
        self.graph = network.module.graph
        self.modules = dict(network.module.named_modules(remove_duplicate=False))
        self.names: dict[int, str] = {}  # a module's first name: it may be called by several
        for path, module in self.modules.items():
            self.names.setdefault(id(module), path)
        self.tied = _tied(network.module)
        self.numbers = Numbers()
        self.values: dict[fx.Node, Channels | None] = {}
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}
        self.map = ChannelMap()

    def trace(self) -> ChannelMap:
        with torch.no_grad():
            ShapeProp(self.network.module).propagate(*self.network.example(2))
        for node in self.graph.nodes:
            meta = node.meta.get("tensor_meta")
            if meta is not None and hasattr(meta, "shape"):
                self.shapes[node] = tuple(meta.shape)
        for node in self.graph.nodes:
            self.values[node] = self._follow(node)
        return self.numbers.settle(self.map)

    def _freeze(self, value: Channels | None, reason: str) -> None:
        if value is not None:
            self.numbers.freeze(value.ids, reason)

    def _follow(self, node: fx.Node) -> Channels | None:
        if node.op == "placeholder":
            return self._untouchable(node, f"it is the input {node.target}")
        if node.op == "output":
            for source in node.all_input_nodes:
                self._freeze(self.values[source], "it is an output of the network")
            return None
        if isinstance(node.meta.get("tensor_meta"), tuple | list) and node not in self.shapes:
            return self._stop(node)  # several tensors: chunk, split
        if node.op == "get_attr" or node not in self.shapes:
            self._not_a_tensor(node)
            return None
        if node.op == "call_module":
            return self._follow_module(node, self.modules[str(node.target)])
        return self._follow_function(node, operator_name(node))

    def _untouchable(self, node: fx.Node, reason: str) -> Channels | None:
        if len(self.shapes.get(node, ())) < 2:
            return None
        value = Channels(1, self.numbers.new(self.shapes[node][1]))
        self._freeze(value, reason)
        return value

    def _not_a_tensor(self, node: fx.Node) -> None:
        # A size along the channel axis must not change; one along another axis doesn't.
        if node.op != "get_attr":
            for source in node.all_input_nodes:
                value = self.values.get(source)
                dimension = node.args[1] if len(node.args) > 1 else None
                if value is None or dimension == 0:
                    continue
                if not isinstance(dimension, int) or dimension % len(self.shapes[source]) == value.axis:
                    self._freeze(value, f"its size is computed with ({node.name})")

    def _stop(self, node: fx.Node) -> Channels | None:
        """Freezes all that reaches an operator that isn't followed. Its own output is no producer's any more."""
        for source in node.all_input_nodes:
            self._freeze(self.values[source], f"{operator_name(node, self.modules)} ({node.name}) isn't followed")
        return self._untouchable(node, f"{operator_name(node, self.modules)} ({node.name}) isn't followed")

    def _source(self, node: fx.Node) -> Channels | None:
        first = node.args[0]
        return self.values[first] if isinstance(first, fx.Node) else None

    def _follow_module(self, node: fx.Node, module: nn.Module) -> Channels | None:
        value = self._source(node)
        if isinstance(module, nn.Conv1d | nn.Conv2d) and value is not None and value.axis == 1:
            return self._layer(node, module, value, kernel=math.prod(module.kernel_size), axis=1)
        rank = len(self.shapes[node])
        if isinstance(module, nn.Linear) and value is not None and value.axis == rank - 1:
            return self._layer(node, module, value, kernel=1, axis=rank - 1)
        if isinstance(module, nn.Linear):
            # Channels elsewhere than on the last axis pass through; what it produces itself stays as it is.
            return value if value is not None and value.axis < rank - 1 else self._stop(node)
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and value is not None and value.axis == 1:
            return self._norm(module, value)
        if isinstance(module, nn.PReLU) and value is not None and value.axis == 1:
            return value if module.num_parameters == 1 else self._norm(module, value)
        if isinstance(module, ELEMENTWISE):
            return value
        if isinstance(module, SPATIAL) and value is not None and value.axis == 1:
            return value
        return self._stop(node)

    def _norm(self, module: nn.Module, value: Channels) -> Channels:
        name = self.names[id(module)]
        self.map.norm_parameters[name] = len(list(module.parameters()))
        if name in self.tied:
            self.numbers.freeze(value.ids, f"{name} shares its parameters with another layer")
        if name in self.map.norms:
            self.numbers.unite(self.map.norms[name], value.ids)
        self.map.norms[name] = value.ids
        return value

    def _layer(
        self, node: fx.Node, module: nn.Conv1d | nn.Conv2d | nn.Linear, value: Channels, kernel: int, axis: int
    ) -> Channels:
        name = self.names[id(module)]
        groups = 1 if isinstance(module, nn.Linear) else module.groups
        size = module.weight.shape[0]
        outputs = self.numbers.new(size) if name not in self.map.layers else self.map.layers[name].outputs
        if name in self.map.layers:  # a shared layer: every use must agree
            self.numbers.unite(self.map.layers[name].inputs, value.ids)
        if groups == len(value.ids) and groups > 1:
            self.numbers.unite(np.repeat(value.ids, size // groups), outputs)
        elif groups > 1:  # each group keeps the same places, so that groups stay equal in size
            for ids in (value.ids, outputs):
                by_group = ids.reshape(groups, -1)
                for row in by_group[1:]:
                    self.numbers.unite(by_group[0], row)
        shape = self.shapes[node]
        positions = math.prod(shape[1:]) // size
        if name in self.map.layers:
            positions += self.map.layers[name].positions
        if name in self.tied:
            for ids in (value.ids, outputs):
                self.numbers.freeze(ids, f"{name} shares its weight with another layer")
        self.map.layers[name] = Layer(name, value.ids, outputs, groups, kernel, positions, module.bias is not None)
        return Channels(axis, outputs)

    def _follow_function(self, node: fx.Node, name: str) -> Channels | None:
        handlers: dict[str, Callable[[fx.Node], Channels | None]] = {
            "cat": self._cat,
            "flatten": self._flatten,
            "reshape": self._reshape,
            "squeeze": self._ones,
            "unsqueeze": self._ones,
            "mean": self._reduce,
            "sum": self._reduce,
            "constant_pad_nd": self._pad,
            "pad": self._pad,
            "permute": self._permute,
            "transpose": self._transpose,
        }
        if name in handlers:
            return handlers[name](node)
        if name in BINARY_FUNCTIONS:
            return self._binary(node)
        if name in UNARY_FUNCTIONS and node.all_input_nodes == [node.args[0]]:
            return self._source(node)
        return self._stop(node)

    def _binary(self, node: fx.Node) -> Channels | None:
        operands = [argument for argument in node.args[:2] if isinstance(argument, fx.Node)]
        tensors = [operand for operand in operands if operand in self.shapes]
        if len(tensors) == 1:
            return self.values[tensors[0]]
        left, right = tensors
        rank = len(self.shapes[node])
        known: list[Channels] = []
        for operand, other in ((left, right), (right, left)):
            value = self.values[operand]
            if value is None and math.prod(self.shapes[operand]) != 1:
                return self._constant(node, operand, other)
            if value is not None:
                known.append(Channels(value.axis + rank - len(self.shapes[operand]), value.ids))
        if len(known) == 2 and known[0].axis == known[1].axis:
            if len(known[0].ids) == len(known[1].ids):
                self.numbers.unite(known[0].ids, known[1].ids)
                return known[0]
            wide, narrow = sorted(known, key=lambda value: -len(value.ids))  # broadcast from one channel
            self._freeze(narrow, f"it is broadcast in {node.name}")
            return wide
        return known[0] if len(known) == 1 else self._stop(node)

    def _constant(self, node: fx.Node, constant: fx.Node, other: fx.Node) -> Channels | None:
        """A constant operand passes where it is the same for every channel."""
        value = self.values[other]
        if value is None or constant.op != "get_attr":
            return self._stop(node)
        shape = self.shapes[constant]
        place = value.axis - len(self.shapes[other])  # from the end, as broadcasting aligns
        if len(shape) <= len(self.shapes[other]) and (-place > len(shape) or shape[place] == 1):
            return value
        return self._stop(node)

    def _cat(self, node: fx.Node) -> Channels | None:
        sources = node.args[0]
        if not isinstance(sources, Sequence):
            return self._stop(node)
        values = [self.values[source] for source in sources if isinstance(source, fx.Node)]
        known = [value for value in values if value is not None]
        axes = {value.axis for value in known}
        if len(known) != len(sources) or len(axes) != 1:
            return self._stop(node)
        axis = axes.pop()
        dimension = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
        if isinstance(dimension, int) and dimension % len(self.shapes[node]) == axis:
            return Channels(axis, np.concatenate([value.ids for value in known]))
        for value in known[1:]:
            self.numbers.unite(known[0].ids, value.ids)
        return known[0]

    def _flatten(self, node: fx.Node) -> Channels | None:
        value, source = self._source(node), node.args[0]
        if value is None or not isinstance(source, fx.Node):
            return self._stop(node)
        shape = self.shapes[source]
        start, stop = _argument(node, 1, "start_dim", 0), _argument(node, 2, "end_dim", -1)
        start, stop = start % len(shape), stop % len(shape)
        if stop < value.axis:
            return Channels(value.axis - (stop - start), value.ids)
        if start > value.axis:
            return value
        # Row-major: what lies before the channels repeats them as a block, what lies behind each one by itself.
        block = np.repeat(value.ids, math.prod(shape[value.axis + 1 : stop + 1]))
        return Channels(start, np.tile(block, math.prod(shape[start : value.axis])))

    def _reshape(self, node: fx.Node) -> Channels | None:
        """Only where axes of length one come or go, and the channels' length isn't written down."""
        sizes: Any = node.args[1] if len(node.args) == 2 else node.args[1:]
        result = self._ones(node)
        if result is None or not isinstance(sizes, Sequence) or sizes[result.axis] != -1:
            return self._stop(node)
        return result

    def _ones(self, node: fx.Node) -> Channels | None:
        value, source = self._source(node), node.args[0]
        if value is None or not isinstance(source, fx.Node):
            return self._stop(node)
        before, after = self.shapes[source], self.shapes[node]
        kept = [axis for axis, size in enumerate(before) if size != 1]
        places = [axis for axis, size in enumerate(after) if size != 1]
        if [before[axis] for axis in kept] != [after[axis] for axis in places] or value.axis not in kept:
            return self._stop(node)
        return Channels(places[kept.index(value.axis)], value.ids)

    def _reduce(self, node: fx.Node) -> Channels | None:
        value, source = self._source(node), node.args[0]
        if value is None or not isinstance(source, fx.Node):
            return self._stop(node)
        rank = len(self.shapes[source])
        given: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
        dimensions = [given] if isinstance(given, int) else given
        if not isinstance(dimensions, Sequence):
            return self._stop(node)
        reduced = {int(dimension) % rank for dimension in dimensions}
        if value.axis in reduced:
            return self._stop(node)
        if len(self.shapes[node]) == rank:
            return value
        return Channels(value.axis - sum(dimension < value.axis for dimension in reduced), value.ids)

    def _pad(self, node: fx.Node) -> Channels | None:
        value, widths = self._source(node), node.args[1]
        if value is None or not isinstance(widths, Sequence) or len(self.shapes[node]) - len(widths) // 2 <= value.axis:
            return self._stop(node)
        return value

    def _permute(self, node: fx.Node) -> Channels | None:
        value = self._source(node)
        given: Any = node.args[1] if len(node.args) == 2 else node.args[1:]
        rank = len(self.shapes[node])
        if value is None or not isinstance(given, Sequence) or not all(isinstance(entry, int) for entry in given):
            return self._stop(node)
        return Channels([int(entry) % rank for entry in given].index(value.axis), value.ids)

    def _transpose(self, node: fx.Node) -> Channels | None:
        value = self._source(node)
        if value is None:
            return self._stop(node)
        rank = len(self.shapes[node])
        one, other = _argument(node, 1, "dim0", 0) % rank, _argument(node, 2, "dim1", 1) % rank
        return Channels({one: other, other: one}.get(value.axis, value.axis), value.ids)


def _tied(module: nn.Module) -> set[str]:
    """Names of the modules of which a parameter belongs to another module too."""
    owners: dict[int, set[int]] = {}
    names: dict[int, str] = {}
    for path, part in module.named_modules(remove_duplicate=False):
        names.setdefault(id(part), path)
        for parameter in part.parameters(recurse=False):
            owners.setdefault(id(parameter), set()).add(id(part))
    return {names[part] for parts in owners.values() if len(parts) > 1 for part in parts}


def _argument(node: fx.Node, place: int, name: str, default: int) -> int:
    value: Any = node.args[place] if len(node.args) > place else node.kwargs.get(name, default)
    return int(value)


def operator_name(node: fx.Node, modules: dict[str, nn.Module] | None = None) -> str:
    """The plain name of what a node calls: `Conv2d`, `add`, `cat` …"""
    if node.op == "call_module" and modules is not None:
        return type(modules[str(node.target)]).__name__
    if isinstance(node.target, OpOverload):
        return str(node.target.overloadpacket.__name__).rstrip("_")
    return node.target if isinstance(node.target, str) else str(getattr(node.target, "__name__", node.target))
