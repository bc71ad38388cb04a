"""The weights at a network's ends, which bear few bits worst: what reads an input, and what makes an output."""

from __future__ import annotations

from collections.abc import Iterable

from torch import fx, nn

from compression.network import Network


def end_weights(network: Network) -> set[str]:
    """Names of the weights (two axes or more) of, for each input, the first layer that it reaches with no other layer
    between, and for each output the last one that reaches it so; first and last in the graph's order. Of several exits
    each has its own."""
    modules = dict(network.module.named_modules())
    names = {id(value): name for name, value in network.module.named_parameters()}
    nodes = list(network.module.graph.nodes)
    owners = {node: weights for node in nodes if (weights := _weights(node, modules, names))}
    place = {node: index for index, node in enumerate(nodes)}
    found: set[str] = set()
    for node in nodes:
        if node.op == "placeholder":
            reached = _reached(node.users, owners, forward=True)
            found |= owners[min(reached, key=place.__getitem__)] if reached else set()
        elif node.op == "output":
            for output in node.all_input_nodes:
                reached = _reached([output], owners, forward=False)
                found |= owners[max(reached, key=place.__getitem__)] if reached else set()
    return found


def _weights(node: fx.Node, modules: dict[str, nn.Module], names: dict[int, str]) -> set[str]:
    if node.op != "call_module":
        return set()
    own = modules[str(node.target)].parameters(recurse=False)
    return {names[id(value)] for value in own if value.dim() > 1 and value.is_floating_point()}


def _reached(start: Iterable[fx.Node], owners: dict[fx.Node, set[str]], *, forward: bool) -> set[fx.Node]:
    """Nodes with weights that are met first."""
    waiting, seen, met = list(start), set[fx.Node](), set[fx.Node]()
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if node in owners:
            met.add(node)
        else:
            waiting += node.users if forward else node.all_input_nodes
    return met
