"""Who learns: the network as it stands, a named architecture, an uploaded model, or a narrower copy, made afresh."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn

from compression.errors import MethodError
from compression.measure.cost import cost_of
from compression.network import Network
from compression.pruning.channel_map import ChannelMap, Width
from compression.pruning.channels import map_channels
from compression.pruning.cut import cut

POSITIONS_STD = 0.02
"""Of tensors without a layer (class token, positions), as transformers draw them (Dosovitskiy et al. 2021)."""
NARROWED = frozenset({"channels", "neurons", "heads", "width"})


def input_order(names: Sequence[str], given: Sequence[str]) -> list[int]:
    """For each of a network's inputs its place among as many `given`: by name where all names are known, else in
    order."""
    return [given.index(name) for name in names] if set(names) == set(given) else list(range(len(given)))


def adopted(student: Network, network: Network) -> Network:
    """The student under the names of `network`'s inputs, outputs and variants. MethodError: its inputs differ in shape
    or type, or it has another number of outputs."""
    wanted, has = network.signature, student.signature
    order = input_order([entry.name for entry in has.inputs], [entry.name for entry in wanted.inputs])
    kinds = [(wanted.inputs[place].shape, wanted.inputs[place].dtype) for place in order]
    if [(entry.shape, entry.dtype) for entry in has.inputs] != kinds:
        described = ", ".join(f"{entry.name} {entry.dtype} {list(entry.shape)}" for entry in has.inputs)
        other = ", ".join(f"{entry.name} {entry.dtype} {list(entry.shape)}" for entry in wanted.inputs)
        raise MethodError(f"the student takes {described}, the job's model {other}", "student")
    if len(has.outputs) != len(wanted.outputs):
        raise MethodError(
            f"the student has {len(has.outputs)} outputs, the job's model {len(wanted.outputs)}", "student"
        )
    graph, copied = fx.Graph(), {}
    given = [graph.placeholder(entry.name) for entry in wanted.inputs]
    places = iter(order)
    for node in student.module.graph.nodes:
        if node.op == "placeholder":
            copied[node] = given[next(places)]
        else:
            copied[node] = graph.node_copy(node, copied.__getitem__)
    module = fx.GraphModule(student.copy().module, graph).eval()
    return student.replaced(module=module, signature=wanted, variants=network.variants)


def narrower(network: Network, macs_ratio: float, seed: int) -> Network:
    """A copy with every width reduced alike until at most `macs_ratio` of the MACs are left, its weights drawn anew
    from `seed`. MethodError: it can't be made so small."""
    channels = map_channels(network)
    widths = [width for width in channels.widths() if width.parts <= NARROWED]
    before = cost_of(network).macs
    elsewhere = before - _macs(channels, [])

    def left(share: float) -> float:
        return _macs(channels, _removed(widths, share)) + elsewhere

    if left(0.0) > macs_ratio * before:
        raise MethodError(
            f"a copy of every width one would still have {left(0.0) / before:.3f} of the MACs", "macs_ratio"
        )
    low, high = 0.0, 1.0  # shares of each width: the first fits, the second doesn't
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if left(middle) <= macs_ratio * before else (low, middle)
    small = cut(network, channels, _removed(widths, low), reason={"step": "distill", "narrowed": macs_ratio})
    return fresh(small.replaced(encodings={}), seed)


def _macs(channels: ChannelMap, removed: list[int]) -> float:
    """Of all products of channels: each in proportion to what is left of its axes."""
    kept = channels.kept(removed)
    return sum(
        math.prod((float(kept[ids].mean()) for ids in product.axes), start=float(product.macs))
        for product in channels.products
    )


def _removed(widths: list[Width], share: float) -> list[int]:
    """All but the first `share` of each width's units; one is always left."""
    return [int(unit) for width in widths for unit in width.units[max(1, round(share * len(width.units))) :]]


def fresh(network: Network, seed: int) -> Network:
    """A copy whose weights are drawn as each layer's own class draws them."""
    network = network.copy()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        drawn: set[int] = set()
        for part in network.module.modules():
            reset: Any = getattr(part, "reset_parameters", None)
            if callable(reset):
                reset()
                drawn |= {id(value) for value in part.parameters(recurse=False)}
        for value in network.module.parameters():
            if id(value) not in drawn:
                nn.init.normal_(value, std=POSITIONS_STD)
    return network
