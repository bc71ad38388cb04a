"""How much a traced graph takes for one sample, told before any of it is run."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, fx, nn

from compression.errors import IntakeError
from compression.intake.onnx.trace import Trace

MOST_PRODUCTS = 2**35
"""Multiply-accumulates for a sample: some ten seconds of one thread for all runs that the comparison takes."""
MOST_ELEMENTS = 2**29
"""Elements of all values together, for a sample."""
MOST_LIVE = 2**28
"""Elements that have to be held at once at a batch of two: 1 GB of float32."""
_SAME_MEMORY = {torch.reshape, torch.flatten, torch.squeeze, torch.unsqueeze}


def check_work(trace: Trace) -> None:
    """IntakeError (model-unsafe; `where` = the value at which a limit is passed)."""
    nodes = list(trace.graph.nodes)
    last = {source: index for index, node in enumerate(nodes) for source in node.all_input_nodes}
    samples = trace.batches[0]
    products = elements = live = 0.0
    held: dict[int, float] = {}  # by the place of the last use
    for index, node in enumerate(nodes):
        count = (_elements(node) + _scores(node)) / samples
        products += _products(trace, node) / samples
        elements += count
        for what, amount, most in (("multiplications", products, MOST_PRODUCTS), ("numbers", elements, MOST_ELEMENTS)):
            if amount > most:
                raise IntakeError(f"more than {most:,} {what} for one sample", node.name, "model-unsafe")
        if node.target not in _SAME_MEMORY and node.op in {"call_function", "call_module", "placeholder"}:
            live += 2 * count
            held[last.get(node, index)] = held.get(last.get(node, index), 0.0) + 2 * count
        if live > MOST_LIVE:
            raise IntakeError(
                f"more than {MOST_LIVE:,} numbers held at once for two samples", node.name, "model-unsafe"
            )
        live -= held.pop(index, 0.0)


def _elements(node: fx.Node) -> int:
    found = node.meta.get("trials", [None])[0]
    if isinstance(found, Tensor):
        return found.numel()
    return 0  # parts are counted where they are taken out


def _scores(node: fx.Node) -> int:
    """Of a whole attention: ONNX Runtime makes one for every query and key."""
    if node.target is not F.scaled_dot_product_attention:
        return 0
    query, key = (source.meta["trials"][0] for source in node.args[:2])  # type: ignore[union-attr]
    return int(math.prod(query.shape[:-1]) * key.shape[-2])


def _products(trace: Trace, node: fx.Node) -> float:
    found: Any = node.meta.get("trials", [None])[0]
    if node.op == "call_module":
        return _of_leaf(trace.root.get_submodule(str(node.target)), found)
    if node.target in {torch.matmul, torch.ops.aten.einsum.default} and isinstance(found, Tensor):
        sources = [source.meta["trials"][0] for source in node.all_input_nodes]
        longest = max(math.prod(source.shape) for source in sources)
        summed = int(sources[0].shape[-1]) if node.target is torch.matmul else min(longest, 2**20)
        return float(found.numel() * summed)
    if node.target is F.scaled_dot_product_attention:
        return float(_scores(node)) * 2 * int(found.shape[-1])
    return 0.0


def _of_leaf(leaf: nn.Module, found: Any) -> float:
    if isinstance(leaf, nn.Conv1d | nn.Conv2d | nn.Linear):
        return float(found.numel()) * leaf.weight[0].numel()
    if isinstance(leaf, nn.ConvTranspose2d):
        return float(found.numel()) * leaf.weight.numel() / max(leaf.out_channels, 1)
    if isinstance(leaf, nn.LSTM | nn.GRU):
        steps, samples = found[0].shape[:2]
        return float(steps * samples) * float(sum(weight.numel() for weight in leaf.parameters()))
    if isinstance(leaf, nn.MaxPool1d | nn.MaxPool2d | nn.AvgPool1d | nn.AvgPool2d):
        size = leaf.kernel_size
        kernel = size**2 if isinstance(size, int) else math.prod(size)
        return float(found.numel()) * kernel / 4
    return 0.0
