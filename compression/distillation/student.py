"""Who learns: the network as it stands, a named architecture, an uploaded model, or a narrower copy, made afresh."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from compression.errors import MethodError
from compression.measure.cost import cost_of
from compression.network import Network
from compression.pruning.channel_map import ChannelMap, Width
from compression.pruning.channels import map_channels
from compression.pruning.cut import cut
from compression.pruning.plan import CostModel

POSITIONS_STD = 0.02
"""Of tensors without a layer (class token, positions), as transformers draw them (Dosovitskiy et al. 2021)."""
NARROWED = frozenset({"channels", "neurons", "heads", "width"})


def adopted(student: Network, network: Network) -> Network:
    """The student under the names of `network`'s inputs and outputs. MethodError: their shapes or types differ."""
    wanted, has = network.signature, student.signature
    if [(entry.shape, entry.dtype) for entry in has.inputs] != [(entry.shape, entry.dtype) for entry in wanted.inputs]:
        described = ", ".join(f"{entry.name} {entry.dtype} {list(entry.shape)}" for entry in has.inputs)
        other = ", ".join(f"{entry.name} {entry.dtype} {list(entry.shape)}" for entry in wanted.inputs)
        raise MethodError(f"the student takes {described}, the job's model {other}", "student")
    if len(has.outputs) != len(wanted.outputs):
        raise MethodError(
            f"the student has {len(has.outputs)} outputs, the job's model {len(wanted.outputs)}", "student"
        )
    graph, copied = fx.Graph(), {}
    names = iter(entry.name for entry in wanted.inputs)
    for node in student.module.graph.nodes:
        if node.op == "placeholder":
            copied[node] = graph.placeholder(next(names))
        else:
            copied[node] = graph.node_copy(node, copied.__getitem__)
    return student.replaced(module=fx.GraphModule(student.copy().module, graph).eval(), signature=wanted)


def narrower(network: Network, macs_ratio: float, seed: int) -> Network:
    """A copy with every width reduced alike until at most `macs_ratio` of the MACs are left, its weights drawn anew
    from `seed`. MethodError: it can't be made so small."""
    channels = map_channels(network)
    widths = [width for width in channels.widths() if width.parts <= NARROWED]
    before = cost_of(network).macs
    low, high = 0.0, 1.0  # shares of each width: none fits below `low`
    if not widths or _macs(network, channels, widths, low, before) > macs_ratio * before:
        least = _macs(network, channels, widths, low, before) / before
        raise MethodError(f"a copy of every width one would still have {least:.3f} of the MACs", "macs_ratio")
    for _ in range(20):
        middle = (low + high) / 2
        if _macs(network, channels, widths, middle, before) <= macs_ratio * before:
            low = middle
        else:
            high = middle
    small = cut(network, channels, _removed(widths, low), reason={"step": "distill", "narrowed": macs_ratio})
    return fresh(small.replaced(encodings={}), seed)


def _macs(network: Network, channels: ChannelMap, widths: list[Width], share: float, before: int) -> float:
    model = CostModel(network, channels, "macs")
    elsewhere = before - model.total()
    removed = _removed(widths, share)
    if removed:
        model.remove(removed)
    return model.total() + elsewhere


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
