"""ATen's recurrent operators as layers: `aten.lstm` and `aten.gru`, each layer of a stack a module of its own.

A module of the vocabulary has one layer and takes steps first, so that what is around it is ordinary: a transposition
where the batch came first, a dropout between layers, the last states joined. All of it is what the operator does, bit
for bit. What is no such layer stays the operator that it is, and runs and trains as well, but isn't cut: one with a
first state other than zero, without biases, with a projection, or over packed sequences.
"""

from __future__ import annotations

import operator

import torch
from torch import Tensor, fx, nn

from compression.intake.aten_call import AtenCall, Value
from compression.intake.lift_modules import training_mode

KINDS: dict[str, type[nn.LSTM | nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}
_ZEROS = {"zeros", "zeros_like", "full", "full_like"}


def layers_of(call: AtenCall) -> list[nn.Module] | None:
    """The layers that a call runs, with a dropout between them where it has one, or None: it is no plain stack."""
    cls = KINDS.get(call.operator)
    if cls is None or "batch_sizes" in call.arguments or not call["has_biases"]:
        return None
    states = call["hx"] if isinstance(call["hx"], list | tuple) else [call["hx"]]
    if not all(_is_zero(state) for state in states) or len(call.shape(call["input"])) != 3:
        return None
    if call["train"] and call["dropout"]:
        raise training_mode(call)
    try:
        weights = [_stored(node) for node in call["params"]]
    except LookupError:
        return None
    count = 8 if call["bidirectional"] else 4  # of weights and biases in a layer; a projection adds one each way
    if len(weights) != count * call["num_layers"]:
        return None
    found: list[nn.Module] = []
    for start in range(0, len(weights), count):
        if found and call["dropout"]:
            found.append(nn.Dropout(call["dropout"]))
        found.append(_layer(cls, weights[start : start + count]))
    return found


def names_of(path: str, layers: list[nn.Module]) -> list[str]:
    """Where they go: a layer alone at `path`, those of a stack below it."""
    if len(layers) == 1:
        return [path]
    kinds = ["dropout" if isinstance(layer, nn.Dropout) else "layer" for layer in layers]
    return [f"{path}.{kind}_{kinds[:index].count(kind)}" for index, kind in enumerate(kinds)]


def run_layers(
    graph: fx.Graph, call: AtenCall, value: fx.Node, placed: list[tuple[str, nn.Module]]
) -> tuple[fx.Node, ...]:
    """Calls the modules `placed` (path, module) one after the other: what the operator gives, output and states."""
    last: list[fx.Node] = []
    if call["batch_first"]:
        value = graph.call_function(torch.transpose, (value, 0, 1))
    for path, layer in placed:
        called = value = graph.call_module(path, (value,))
        if not isinstance(layer, nn.Dropout):
            value = _item(called, 0)
            last.append(_item(called, 1))
    if call["batch_first"]:
        value = graph.call_function(torch.transpose, (value, 0, 1))
    if call.operator == "gru":
        return value, _joined(last)
    return value, *(_joined([_item(states, index) for states in last]) for index in range(2))


def _item(source: fx.Node, index: int) -> fx.Node:
    return source.graph.call_function(operator.getitem, (source, index))


def _joined(states: list[fx.Node]) -> fx.Node:
    """One layer's states behind the other's, each of directions × batch × hidden."""
    if len(states) == 1:
        return states[0]
    joined = states[0].graph.call_function(torch.cat, (states, 0))
    joined.meta["states"] = states
    return joined


def of_one_layer(call: AtenCall, joined: fx.Node) -> fx.Node | None:
    """`h[-1]`, `h[-2:]` … straight from the layer whose states they are: what reads one layer ties no others to it."""
    states: list[fx.Node] = joined.meta.get("states", [])
    if not states or call.operator not in {"select", "slice"} or call["dim"] not in {0, -3}:
        return None
    ways = call.shape(call["self"])[0] // len(states)
    every = range(ways * len(states))
    bounds = [call[name] for name in (("start", "end", "step") if call.operator == "slice" else ("index",))]
    if any(isinstance(bound, fx.Node) for bound in bounds):
        return None
    chosen = every[slice(*bounds)] if call.operator == "slice" else [every[bounds[0]]]
    layers = {place // ways for place in chosen}
    if len(layers) != 1:
        return None
    source = states[layers.pop()]
    if call.operator == "select":
        return source.graph.call_function(torch.ops.aten.select.int, (source, 0, chosen[0] % ways))
    return source if len(chosen) == ways else None


def _is_zero(state: Value) -> bool:
    if not isinstance(state, fx.Node) or state.op != "call_function":
        return False
    name = getattr(getattr(state.target, "overloadpacket", None), "__name__", "")
    return name in _ZEROS and (not name.startswith("full") or bool(state.args[1] == 0))


def _stored(node: Value) -> Tensor:
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        raise LookupError("a weight is computed")
    value: Tensor = getattr(node.graph.owning_module, str(node.target))
    return value


def _layer(cls: type[nn.LSTM | nn.GRU], weights: list[Tensor]) -> nn.LSTM | nn.GRU:
    hidden = weights[1].shape[1]
    layer = cls(weights[0].shape[1], hidden, bidirectional=len(weights) == 8, device="meta")
    for name, weight in zip([name for name, _ in layer.named_parameters()], weights, strict=True):
        setattr(layer, name, weight if isinstance(weight, nn.Parameter) else nn.Parameter(weight))
    return layer
