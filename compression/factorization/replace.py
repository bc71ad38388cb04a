"""A layer's place in the graph taken by several, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import fx, nn

from compression.network import Network


def replaced_by_chains(network: Network, chains: Mapping[str, Sequence[nn.Module]]) -> Network:
    """A copy in which each layer NAME is the layers NAME.0, NAME.1, … in turn, wherever it is called."""
    result = network.copy()
    graph = result.module.graph
    for name, leaves in chains.items():
        result.module.set_submodule(name, nn.Sequential(*leaves))
        for node in [entry for entry in graph.nodes if entry.op == "call_module" and entry.target == name]:
            _chain(graph, node, [f"{name}.{number}" for number in range(len(leaves))])
    graph.lint()
    result.module.recompile()
    return result


def _chain(graph: fx.Graph, node: fx.Node, targets: Sequence[str]) -> None:
    with graph.inserting_before(node):
        value = node.args[0]
        for target in targets:
            value = graph.call_module(target, (value,))
    node.replace_all_uses_with(value)  # type: ignore[arg-type]
    graph.erase_node(node)
