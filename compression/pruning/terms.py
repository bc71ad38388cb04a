"""What a network's cost is made of, for `solve`: time by the measured table, MACs, or parameters."""

from __future__ import annotations

import math
from collections.abc import Collection
from functools import partial

import numpy as np
from torch import nn

from compression.network import Network
from compression.pruning.channel_map import ChannelMap, Width
from compression.pruning.importance import Scores
from compression.pruning.layer_graph import LayerCall, layer_calls
from compression.pruning.layer_times import LayerTimes
from compression.pruning.plan import Measure
from compression.pruning.solve import Shrinkable, Term

MOST_OPTIONS = 24  # of one width


def time_terms(network: Network, channels: ChannelMap, times: LayerTimes) -> list[Term]:
    """Microseconds of every call of a convolution or linear layer that is followed."""
    found = []
    for node, call in layer_calls(network).items():
        layer = channels.layers.get(call.layer)
        if layer is not None:
            found.append(Term(frozenset({node}), (layer.inputs, layer.outputs), partial(_time, times, call)))
    return found


def count_terms(network: Network, channels: ChannelMap, measure: Measure) -> list[Term]:
    """MACs of every product, or the numbers in every parameter that shrinks."""
    if measure == "macs":
        return [
            Term(
                frozenset({product.node} if product.node else ()),
                product.axes,
                partial(_share, product.macs, product.axes),
            )
            for product in channels.products
        ]
    parameters = dict(network.module.named_parameters(remove_duplicate=False))
    calls: dict[str, set[str]] = {}
    for node in network.module.graph.nodes:
        if node.op == "call_module":
            calls.setdefault(str(node.target), set()).add(node.name)
    return [
        Term(
            frozenset(calls.get(name.rpartition(".")[0], ())),
            tuple(axes.values()),
            partial(_share, parameters[name].numel(), tuple(axes.values())),
        )
        for name, axes in channels.slices.items()
        if isinstance(parameters.get(name), nn.Parameter)
    ]


def _time(times: LayerTimes, call: LayerCall, left: tuple[int, ...]) -> float:
    return times.microseconds(call, *left)


def _share(whole: int, axes: tuple[np.ndarray[tuple[int], np.dtype[np.int64]], ...], left: tuple[int, ...]) -> float:
    return whole * math.prod(rest / len(ids) for rest, ids in zip(left, axes, strict=True))


def _thinned(options: list[int]) -> list[int]:
    if len(options) <= MOST_OPTIONS:
        return options
    return [options[place] for place in np.linspace(0, len(options) - 1, MOST_OPTIONS).round().astype(int).tolist()]


def shrinkable(
    network: Network, channels: ChannelMap, widths: Collection[Width], scores: Scores, block: int
) -> list[Shrinkable]:
    """Widths with what may be left of them: multiples of `block` channels, evenly thinned where they are many."""
    calls: dict[str, set[str]] = {}
    for node in network.module.graph.nodes:
        if node.op == "call_module":
            calls.setdefault(str(node.target), set()).add(node.name)
    found = []
    for width in widths:
        ordered = width.units[np.argsort(scores[width.units], kind="stable")]
        first = channels.producers[width.names[0]]
        each = max(1, int(np.isin(channels.units[first], width.units).any(axis=1).sum()) // len(width.units))
        losses = np.concatenate([[0.0], np.cumsum(scores[ordered])])
        options = [0, *_thinned([k for k in range(1, len(ordered)) if (len(ordered) - k) * each % block == 0])]
        nodes = frozenset().union(*(calls.get(name, set()) for name in width.names))
        found.append(Shrinkable(tuple(ordered.tolist()), tuple(losses.tolist()), tuple(options), nodes))
    return found
