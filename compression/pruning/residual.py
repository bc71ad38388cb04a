"""Whole blocks of a residual network: found in the graph, weighed, and taken out.

A block is what an addition adds to a value: x + f(x), with f's values used nowhere else. Without it x passes alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from compression.context import Context
from compression.network import Network, as_tuple
from compression.pruning.graph_names import operator_name
from compression.pruning.importance import (
    FISHER_SAMPLES,
    TAYLOR_BATCH,
    TAYLOR_SAMPLES,
    Criterion,
    batch_loss,
    batches,
)
from compression.verify import check_equal

GATE = "block_gate"


@dataclass(frozen=True)
class Block:
    """`addition`: the node that adds the branch `nodes` to the node `skip`. `name`: its layers' common name."""

    name: str
    addition: str
    skip: str
    nodes: frozenset[str]


def residual_blocks(network: Network) -> list[Block]:
    """In the graph's order. Blocks within a block are found as well; each is a block of its own."""
    module = network.module
    found = []
    for node in module.graph.nodes:
        operands = _operands(node)
        for skip, branch in (operands, operands[::-1]) if operands else ():
            inside = _branch(branch, skip, node)
            layers = [str(n.target) for n in module.graph.nodes if n in inside and n.op == "call_module"]
            if any(list(module.get_submodule(name).parameters()) for name in layers):
                found.append(Block(_shared_name(layers, node), node.name, skip.name, frozenset(n.name for n in inside)))
                break
    return found


def bypass(network: Network, blocks: Collection[Block], *, reason: Mapping[str, object]) -> Network:
    """A copy without `blocks`. Compared with the network whose branches are multiplied by zero: both agree to 1e-5
    (relative, fp32), or VerificationError is raised."""
    result = network.copy()
    graph = result.module.graph
    nodes = {node.name: node for node in graph.nodes}
    gone: set[fx.Node] = set()
    order = {name: place for place, name in enumerate(nodes)}
    for block in sorted(blocks, key=lambda b: -order[b.addition]):  # the last first: its skip may be another's addition
        addition = nodes[block.addition]
        addition.replace_all_uses_with(nodes[block.skip])
        gone |= {addition, *(nodes[name] for name in block.nodes)}
    for node in reversed(list(graph.nodes)):
        if node in gone:
            graph.erase_node(node)
    _forget(result.module, {str(node.target) for node in gone if node.op == "get_attr"})
    result.module.delete_all_unused_submodules()
    result.module.recompile()
    left = dict(result.module.named_parameters())
    encodings = {name: encoding for name, encoding in network.encodings.items() if name in left}
    result = result.replaced(encodings=encodings, provenance=(*network.provenance, dict(reason)))
    check_equal(result, _silenced(network, blocks), what="the network without blocks against their branches at zero")
    return result


def block_losses(network: Network, blocks: Collection[Block], criterion: Criterion, context: Context) -> list[float]:
    """What is lost without each block, in the unit of the channels' scores, measured on the batches those come from.
    `taylor`: the mean square of a mini-batch's change of loss, which is what Molchanov et al. (2019) expand.
    `fisher`: the mean change of loss, or nothing where it falls; without labels half the mean square of the change of a
    sample's projection."""
    labelled = context.require_data("blocks").task is not None
    by_sample = criterion == "fisher" and not labelled
    samples, size = (FISHER_SAMPLES, 1) if by_sample else (TAYLOR_SAMPLES, TAYLOR_BATCH)
    module, gates = _switched(network, blocks)
    module.to(context.device)
    gates = [module.get_buffer(f"{GATE}_{place}") for place in range(len(gates))]
    changes: list[list[float]] = [[] for _ in gates]
    with torch.no_grad():
        for number, (inputs, labels) in enumerate(batches(module, context, samples, size)):
            whole = float(batch_loss(as_tuple(module(*inputs)), labels, context, number))
            for gate, taken in zip(gates, changes, strict=True):
                gate.zero_()
                taken.append(float(batch_loss(as_tuple(module(*inputs)), labels, context, number)) - whole)
                gate.fill_(1.0)
    values = torch.tensor(changes, dtype=torch.float64).reshape(len(gates), -1)
    if criterion == "fisher" and labelled:
        return [float(value) for value in values.mean(1).clamp_min(0.0)]
    return [float(value) / (2 if by_sample else 1) for value in values.square().mean(1)]


def _operands(node: fx.Node) -> tuple[fx.Node, fx.Node] | None:
    """Of an addition of two tensors as they are."""
    if node.op == "output" or operator_name(node) != "add" or len(node.args) != 2 or node.kwargs.get("alpha", 1) != 1:
        return None
    first, second = node.args
    if not isinstance(first, fx.Node) or not isinstance(second, fx.Node) or first is second:
        return None
    return first, second


def _branch(end: fx.Node, skip: fx.Node, addition: fx.Node) -> set[fx.Node]:
    """The nodes from `skip` to `end`; empty if they have another source, or are used elsewhere."""
    inside: set[fx.Node] = set()
    reached = False
    waiting = [end]
    while waiting:
        node = waiting.pop()
        if node is skip:
            reached = True
        elif node.op == "placeholder":
            return set()
        elif node not in inside:
            inside.add(node)
            waiting += node.all_input_nodes
    closed = all(user in inside or user is addition for node in inside for user in node.users)
    return inside if reached and closed else set()


def _shared_name(layers: list[str], addition: fx.Node) -> str:
    parts = [name.split(".")[:-1] for name in layers]
    alike = []
    for words in zip(*parts, strict=False):
        if len(set(words)) > 1:
            break
        alike.append(words[0])
    return ".".join(alike) or addition.name


def _switched(network: Network, blocks: Collection[Block]) -> tuple[fx.GraphModule, list[Tensor]]:
    """A copy in which every block's branch is multiplied by a number of its own, now one."""
    module = network.copy().module.eval()
    nodes = {node.name: node for node in module.graph.nodes}
    for place, block in enumerate(blocks):
        addition = nodes[block.addition]
        module.register_buffer(f"{GATE}_{place}", torch.ones(()))
        branch: Any = next(node for node in addition.args if isinstance(node, fx.Node) and node.name != block.skip)
        with module.graph.inserting_before(addition):
            gate = module.graph.get_attr(f"{GATE}_{place}")
            passed = module.graph.call_function(torch.mul, (branch, gate))
        addition.args = tuple(passed if node is branch else node for node in addition.args)
    module.recompile()
    return module, [module.get_buffer(f"{GATE}_{place}") for place in range(len(blocks))]


def _silenced(network: Network, blocks: Collection[Block]) -> Network:
    module, gates = _switched(network, blocks)
    for gate in gates:
        gate.zero_()
    return network.replaced(module=module)


def _forget(module: fx.GraphModule, names: Collection[str]) -> None:
    """Removes the parameters and buffers that no node reads any more."""
    used = {str(node.target) for node in module.graph.nodes if node.op == "get_attr"}
    for name in set(names) - used:
        owner, _, attribute = name.rpartition(".")
        delattr(module.get_submodule(owner), attribute)
