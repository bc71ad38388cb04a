"""Whether a dataset's ids (of tokens, of categories) have a row in the embeddings that the network looks them up in."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, fx, nn

from compression.errors import DataError
from compression.network import Network, as_tuple

if TYPE_CHECKING:
    from compression.data import Dataset, Split

SAMPLES = 4096  # looked at together


@dataclass(frozen=True)
class Lookup:
    """An embedding (`name`, `rows` of it) and the node that gives the ids, computed from the inputs `inputs`."""

    name: str
    rows: int
    ids: fx.Node
    inputs: tuple[str, ...]


def check_indices(network: Network, dataset: Dataset) -> None:
    """DataError (`where` = the input): a sample in any split holds an id for which an embedding has no row. Ids that
    the graph computes from its inputs first (an offset, a clamp) are looked at as they arrive."""
    lookups = list(_lookups(network.module))
    if not lookups:
        return
    module = _ids_alone(network.module, lookups)
    for name, split in (("training", dataset.train), ("validation", dataset.validation), ("test", dataset.test)):
        for lookup, (low, high) in zip(lookups, _ranges(module, split), strict=True):
            if low < 0 or high >= lookup.rows:
                wrong = high if high >= lookup.rows else low
                raise DataError(
                    f"the {name} split holds the id {wrong}, and the embedding {lookup.name} has {lookup.rows} rows: "
                    f"ids go from 0 to {lookup.rows - 1}",
                    lookup.inputs[0],
                )


def _lookups(module: fx.GraphModule) -> Iterator[Lookup]:
    for node in module.graph.nodes:
        if node.op == "call_module":
            owner = module.get_submodule(str(node.target))
            if not isinstance(owner, nn.Embedding):
                continue
            name, rows, ids = str(node.target), owner.num_embeddings, node.args[0]
        elif node.target is torch.ops.aten.embedding.default:
            table, ids = node.args[:2]
            if not isinstance(table, fx.Node) or table.op != "get_attr":
                continue
            name, rows = str(table.target), _attribute(module, str(table.target)).shape[0]
        else:
            continue
        inputs = tuple(_inputs(ids)) if isinstance(ids, fx.Node) else ()
        if inputs:
            yield Lookup(name, rows, ids, inputs)


def _attribute(module: nn.Module, path: str) -> Tensor:
    holder, _, name = path.rpartition(".")
    value: Tensor = getattr(module.get_submodule(holder), name)
    return value


def _inputs(node: fx.Node) -> list[str]:
    """The inputs that a node's value depends on, the nearest first."""
    found: dict[str, None] = {}
    seen, waiting = {node}, [node]
    while waiting:
        current = waiting.pop(0)
        if current.op == "placeholder":
            found[str(current.target)] = None
        fresh = [source for source in current.all_input_nodes if source not in seen]
        seen.update(fresh)
        waiting += fresh
    return list(found)


def _ids_alone(module: fx.GraphModule, lookups: list[Lookup]) -> fx.GraphModule:
    """The part of the graph that computes the ids."""
    graph = copy.deepcopy(module.graph)
    by_name = {node.name: node for node in graph.nodes}
    output = next(node for node in graph.nodes if node.op == "output")
    output.args = (tuple(by_name[lookup.ids.name] for lookup in lookups),)
    part = fx.GraphModule(module, graph)
    part.graph.eliminate_dead_code()
    part.recompile()
    return part.eval()


def _ranges(module: fx.GraphModule, split: Split) -> list[tuple[int, int]]:
    """The lowest and the highest id of each lookup."""
    found: list[tuple[int, int]] = []
    with torch.no_grad():
        for start in range(0, len(split), SAMPLES):
            ids = as_tuple(module(*split.tensors(start, start + SAMPLES)))
            here = [(int(value.min()), int(value.max())) for value in ids]
            found = [(min(a, c), max(b, d)) for (a, b), (c, d) in zip(found or here, here, strict=True)]
    return found
