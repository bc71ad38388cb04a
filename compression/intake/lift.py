"""ATen program → `Network`: leaf modules and plain functions, so that training and cutting are ordinary again."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload

from compression.errors import IntakeError
from compression.intake.aten_call import AtenCall, Value, aten_call
from compression.intake.lift_batch import Place, batch_places
from compression.intake.lift_functions import BURNT, Called, free_axis, lift_function, passes_through
from compression.intake.lift_modules import Leaf, lift_module, training_mode
from compression.intake.lift_recurrent import layers_of, names_of, of_one_layer, run_layers
from compression.intake.places import Places
from compression.intake.program import Program
from compression.intake.same import check_same
from compression.intake.shapes import RUN_ERRORS, shapes
from compression.network import Network, Signature
from compression.vocabulary import aten, module_arguments, size, state


def lift(program: Program) -> Network:
    """The network that computes what `program` does, bit for bit, with a free batch.

    IntakeError: an operator is unsupported, the program doesn't run, or (model-inexact) the lifted graph differs.
    """
    batches = (2, 3) if program.static_batch is None else (program.static_batch,)
    trials = tuple(shapes(program.module, program.inputs, batch) for batch in batches)
    module = _Lifting(program, trials).run()
    outputs = ("output",) if program.outputs == 1 else tuple(f"output_{index}" for index in range(program.outputs))
    source: dict[str, Any] = {"format": "pt2", "torch": program.torch_version}
    if program.static_batch is not None:
        source["static_batch"] = program.static_batch
    if program.fixed_axes:
        source["fixed_axes"] = list(program.fixed_axes)
    network = Network(module, Signature(program.inputs, outputs), provenance=(source,))
    check_same(program, network)
    return network


class _Lifting:
    """`values` maps each ATen node to what it became. A node that works in place shares the entry of the node whose
    value it changes, so that later users of either see the new value."""

    def __init__(self, program: Program, trials: tuple[Mapping[fx.Node, Value], ...]) -> None:
        self.program = program
        self.trials = trials
        self.root = nn.Module()
        self.put = Places(self.root)
        self.graph = fx.Graph()
        self.values: dict[fx.Node, Value] = {}
        self.stands_for: dict[fx.Node, fx.Node] = {}
        static = program.static_batch
        self.places = {} if static is None else batch_places(program.module, trials[0], static)
        self.made: dict[tuple[Any, ...], str] = {}
        self.attached: dict[int, str] = {}
        self.batch: fx.Node | None = None

    def run(self) -> fx.GraphModule:
        for node in self.program.module.graph.nodes:
            if node.op == "placeholder":
                self.values[node] = self.graph.placeholder(str(node.target))
            elif node.op == "call_function":
                self._call(node)
            elif node.op == "output":
                self.graph.output(fx.map_arg(node.args[0], self._value))
        module = fx.GraphModule(self.root, self.graph)
        module.graph.eliminate_dead_code()
        module.delete_all_unused_submodules()
        module.recompile()
        return module.eval()

    def _value(self, node: fx.Node) -> Value:
        node = self.stands_for.get(node, node)
        if node not in self.values:
            self.values[node] = self.graph.get_attr(self._constant(node))
        return self.values[node]

    def _constant(self, node: fx.Node) -> str:
        """Attaches a parameter or buffer that no leaf module owns, under its own name."""
        tensor: Tensor = getattr(self.program.module, str(node.target))
        if id(tensor) not in self.attached:
            self.attached[id(tensor)] = self.put.tensor(self.program.names[str(node.target)], tensor)
        return self.attached[id(tensor)]

    def _call(self, node: fx.Node) -> None:
        if not isinstance(node.target, OpOverload):
            self.values[node] = self._python_call(node)
            return
        call = aten_call(node, self.trials)
        try:
            lifted = self._lift(call)
        except RUN_ERRORS as error:
            message = f"this call can't be lifted: {str(error)[:200]}"
            raise IntakeError(message, str(node.target), kind="operator-unsupported") from error
        if node.target.overloadpacket.__name__.endswith("_") and isinstance(node.args[0], fx.Node):
            changed = self.stands_for.get(node.args[0], node.args[0])
            self.stands_for[node] = changed
            self.values[changed] = lifted
        else:
            self.values[node] = lifted

    def _python_call(self, node: fx.Node) -> Value:
        """Arithmetic on numbers, or one of an operator's several values: of a layer's they are known already."""
        function: Any = node.target
        source: Any = node.args[0]
        if function is operator.getitem and isinstance(self.values.get(source), tuple):
            return self.values[source][node.args[1]]
        return self._emit((function, node.args, {}), node)

    def _lift(self, call: AtenCall) -> Value:
        if passes_through(call):
            return self._value(call["self"])
        if call.operator == "scaled_dot_product_attention" and call["dropout_p"] != 0:
            raise training_mode(call)
        leaf = lift_module(call)
        if leaf is not None:
            return self._module(call, leaf)
        layers = layers_of(call)
        if layers is not None:
            return self._recurrent(call, layers)
        if call.operator in {"select", "slice"}:
            part = of_one_layer(call, self._value(call["self"]))
            if part is not None:
                return part
        place = self.places.get(call.node)
        if place is not None and call.operator in BURNT:
            return self._with_free_batch(call, place)
        return self._emit(lift_function(call) or _plain(call), call.node)

    def _with_free_batch(self, call: AtenCall, place: Place) -> Value:
        """The call with its batch, a number in the program, taken from the first input or (where it is a factor of a
        length) left for the reshape to find."""
        function, args, keywords = lift_function(call) or _plain(call)
        where = next((index for index, value in enumerate(args) if isinstance(value, list | tuple)), None)
        if where is None and self._merges(call, args, place):  # a flatten: it names no length
            return self._emit((function, args, keywords), call.node)
        if where is None:
            function, args, where = torch.reshape, (call["self"], tuple(call.node.args[1])), 1  # type: ignore[arg-type]
        given = list(call.arguments.get("size", call.arguments.get("shape", call.arguments.get("repeats"))) or [])
        free = None
        if call.operator in {"view", "reshape"} and -1 not in given:
            before, after = call.shape(call["self"]), call.shape(call.node)
            free = free_axis(before, after, given, [place.axis])
        if given[place.axis] == self.program.static_batch and place.before == 1:
            given[place.axis] = self._batch()
        elif given[place.axis] != -1:
            free = place.axis
        sizes = [-1 if axis == free else length for axis, length in enumerate(given)]
        args = (*args[:where], type(args[where])(sizes), *args[where + 1 :])
        return self._emit((function, args, keywords), call.node)

    def _merges(self, call: AtenCall, flatten: tuple[Any, ...], place: Place) -> bool:
        """Whether this flatten, found for one batch, leaves every batch where it belongs."""
        source, first, last = flatten
        axis = self.places[source].axis if source in self.places else 0
        last %= len(call.shape(source))
        return place.axis == (axis if axis < first else first if axis <= last else axis - last + first)

    def _batch(self) -> fx.Node:
        if self.batch is None:
            first = next(node for node in self.graph.nodes if node.op == "placeholder")
            self.batch = self.graph.call_function(size, (first, 0))
            self.values[self.batch] = self.batch
        return self.batch

    def _emit(self, called: Called, node: fx.Node) -> fx.Node:
        function, args, keywords = called
        new_args, new_keywords = fx.map_arg(args, self._value), fx.map_arg(keywords, self._value)
        return self.graph.create_node("call_function", function, new_args, new_keywords, name=node.name)

    def _module(self, call: AtenCall, leaf: Leaf) -> fx.Node:
        source = self._value(call[leaf.input])
        path = self._placed(self._wanted_name(call, leaf), leaf.module)
        return self.graph.create_node("call_module", path, (source,), name=call.node.name)

    def _recurrent(self, call: AtenCall, layers: list[nn.Module]) -> Value:
        owner = self.program.names[str(call["params"][0].target)].rpartition(".")[0] or call.operator
        placed = [
            (self._placed(name, layer), layer) for name, layer in zip(names_of(owner, layers), layers, strict=True)
        ]
        return run_layers(self.graph, call, self._value(call["input"]), placed)

    def _placed(self, wanted: str, module: nn.Module) -> str:
        """Where a leaf module is: one of the same tensors, or the same name where it has none, is there once."""
        tensors = tuple(id(tensor) for tensor in module.parameters())
        key = (type(module), repr(module_arguments(module)), tensors or wanted)
        if key not in self.made:
            self.made[key] = self._place_module(wanted, module)
        return self.made[key]

    def _wanted_name(self, call: AtenCall, leaf: Leaf) -> str:
        """The path of the module that made the call, where it is of the leaf's class; else that of its weight."""
        path, cls = call.node.meta["module"]
        if path and cls == type(leaf.module).__name__:
            return str(path)
        if leaf.owner is None:
            return call.node.name
        owned = self.program.names[str(call[leaf.owner].target)]
        return re.sub(r"[._]?(weight|running_mean)$", "", owned) or call.node.name

    def _place_module(self, wanted: str, module: nn.Module) -> str:
        path = self.put.module(wanted, module)
        self._adopt_counter(path, module)
        for part, tensor in state(module).items():
            self.attached.setdefault(id(tensor), f"{path}.{part}")
        return path

    def _adopt_counter(self, path: str, module: nn.Module) -> None:
        """A batch norm's count of batches is no argument of its call, but part of its state."""
        wanted = f"{path}.num_batches_tracked"
        attribute = next((key for key, name in self.program.names.items() if name == wanted), None)
        if attribute is not None and isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.num_batches_tracked = getattr(self.program.module, attribute)


def _plain(call: AtenCall) -> Called:
    """The call as it is, out of place."""
    overload: Any = call.node.target
    functional = aten(f"aten.{call.operator}.{overload.__name__.split('.')[1]}")
    if functional is None:
        raise IntakeError("this operator is not supported", str(overload), kind="operator-unsupported")
    return functional, call.node.args, dict(call.node.kwargs)
