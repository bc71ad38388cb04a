"""Hidden units of recurrent layers: `nn.LSTM` and `nn.GRU` of one layer, one way or both, steps first.

A hidden unit is a row of every gate's block (four of an LSTM, three of a GRU) in the weights and biases, a column of
the recurrent weights, and a place in the output, the last hidden and the last cell state. It is read by what reads
those, and by the layer itself at its next step.

A layer that runs both ways has as many units each way, for `hidden_size` is one number. Unit i forwards and unit i
backwards are one: they go together. Exporters write the output as steps × directions × hidden, and networks add both
ways or take the last states apart by direction; places that are paired otherwise couldn't be viewed so any more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, fx, nn

from compression.pruning.channel_map import Product, Read, Recurrent
from compression.pruning.numbers import Ids

if TYPE_CHECKING:
    from compression.pruning.channels import Tracer, Value

States: TypeAlias = "tuple[Tensor, Tensor | tuple[Tensor, Tensor]]"


def follow_recurrent(t: Tracer, node: fx.Node, module: nn.LSTM | nn.GRU) -> Value:
    """Its output, and its last states: (hidden, cell) of an LSTM, hidden of a GRU."""
    source: Any = node.args[0]
    if len(t.shape(source)) != 3:
        return t.stop(node)  # one sample alone, whose steps are the first of two axes
    name = t.names[id(module)]
    labels = t.keep_axis(node, t.labels(source), 0, 1)
    inputs = labels.get(2)
    if inputs is None:
        inputs = t.held(module.input_size, "it isn't a layer's output alone")
    known = t.map.recurrent.get(name)
    if known is not None:  # a shared layer: every use must agree
        t.numbers.unite(known.inputs, inputs)
    hidden = t.numbers.new(module.hidden_size) if known is None else known.hidden
    if name in t.tied:
        t.freeze({0: inputs, 1: hidden}, f"{name} shares its weights with another layer")
    _declare(t, Recurrent(name, inputs, hidden), module)
    t.map.reads.append(Read(node.name, (0,), -1, inputs))
    directions = 2 if module.bidirectional else 1
    for direction in range(directions):
        t.map.reads.append(Read(node.name, recurrent_weight(direction), -1, hidden))
    steps = math.prod(t.single_shape(source)[:2])
    for weight, matrix in matrices(module):
        t.map.products.append(
            Product(steps * matrix.numel(), (hidden, hidden if "_hh_" in weight else inputs), node.name)
        )
    output = {2: np.tile(hidden, directions)}
    state = {2: hidden}
    return [output, [state, state] if isinstance(module, nn.LSTM) else state]


def follow_call(t: Tracer, node: fx.Node) -> Value:
    """A recurrent operator that lifting couldn't make a layer of."""
    for source in node.all_input_nodes:
        t.freeze(
            t.labels(source),
            f"{node.name} is recurrent, but no plain layer: a first state, packed sequences, a projection or no biases",
        )
    return t.stop(node)


def _declare(t: Tracer, layer: Recurrent, module: nn.LSTM | nn.GRU) -> None:
    """What changes in the module when units or inputs go."""
    name = layer.name
    t.map.recurrent[name] = layer
    t.map.producers[name] = layer.hidden
    rows = np.tile(layer.hidden, gates(module))
    for part, value in module.named_parameters():
        columns = {1: layer.hidden if "_hh_" in part else layer.inputs} if value.dim() == 2 else {}
        t.map.slices[f"{name}.{part}"] = {0: rows, **columns}
    t.map.attributes |= {(name, "input_size"): layer.inputs, (name, "hidden_size"): layer.hidden}


def gates(module: nn.LSTM | nn.GRU) -> int:
    return 4 if isinstance(module, nn.LSTM) else 3


def matrices(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The weights from the inputs and from the hidden units, each way: (gates · hidden) × what they read."""
    return ((part, value) for part, value in module.named_parameters() if value.dim() == 2)


def norms(layer: Recurrent, squared: Tensor, part: str) -> Iterator[tuple[Ids, Tensor]]:
    """Of a matrix, squared: the sum for each unit over its rows in all gates, and for each column."""
    hidden = len(layer.hidden)
    yield layer.hidden, squared.reshape(-1, hidden, squared.shape[1]).sum((0, 2))
    yield (layer.hidden if "_hh_" in part else layer.inputs), squared.sum(0)


def recurrent_weight(direction: int) -> tuple[int, ...]:
    """Which argument of `stepped`, as in `Read`, the weight is that reads the hidden units of the step before."""
    return (1, 4 * direction + 1)


def open_recurrent(module: fx.GraphModule, node: fx.Node) -> fx.Node:
    """Puts a call of `stepped` in place of a recurrent layer's, so that its weights are arguments."""
    leaf = module.get_submodule(str(node.target))
    with module.graph.inserting_before(node):
        weights = [module.graph.get_attr(f"{node.target}.{part}") for part, _ in leaf.named_parameters()]
        opened = module.graph.call_function(stepped, (node.args[0], weights))
    node.replace_all_uses_with(opened)
    module.graph.erase_node(node)
    return opened


def stepped(value: Tensor, weights: list[Tensor]) -> States:
    """What a recurrent layer gives from a zero state. `weights`: for each way those from the inputs and from the hidden
    units, and both biases, as the layer holds them."""
    rows, hidden = weights[1].shape
    ways = len(weights) // 4
    zero = value.new_zeros(ways, value.shape[1], hidden)
    # cuDNN differentiates what ran as if in training alone; there is no dropout that this could turn on
    settings = (True, 1, 0.0, torch.is_grad_enabled(), ways == 2, False)
    if rows == 4 * hidden:
        output, last, cell = torch.lstm(value, (zero, zero), weights, *settings)
        return output, (last, cell)
    return torch.gru(value, zero, weights, *settings)
