"""What each option of a layer takes in ONNX Runtime: three thin layers can be slower than one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import fx, nn

from compression.context import Context
from compression.factorization.forms import Factors, kernel_shape, leaves
from compression.factorization.options import Option
from compression.network import Input, Network, Signature
from compression.pruning.layer_graph import LayerCall, layer_calls
from compression.pruning.layer_times import layer_seconds

READINGS = 2
Point = tuple[str, int, int]


def option_times(network: Network, options: Mapping[str, Sequence[Option]], context: Context) -> dict[str, list[float]]:
    """Microseconds of each option, all calls of the layer together: the sum of its layers, each timed by itself at
    batch 1 on one thread, the median of READINGS passes over all of them."""
    calls: dict[str, list[LayerCall]] = {}
    for call in layer_calls(network).values():
        calls.setdefault(call.layer, []).append(call)
    needed: dict[str, list[list[tuple[Point, LayerCall]]]] = {
        name: [_needed(network.layers()[name], option, calls[name]) for option in row] for name, row in options.items()
    }
    points = {point: call for rows in needed.values() for row in rows for point, call in row}
    readings: dict[Point, list[float]] = {point: [] for point in points}
    for turn in range(READINGS):
        for place, (point, call) in enumerate(points.items()):
            readings[point].append(layer_seconds(call, point[1], point[2]))
            if place % 50 == 0:
                done = turn * len(points) + place
                context.progress(0.0, f"timing layers, {done} of {READINGS * len(points)}")
    taken = {point: 1e6 * max(0.0, float(np.median(found))) for point, found in readings.items()}
    return {name: [sum(taken[point] for point, _ in row) for row in rows] for name, rows in needed.items()}


def _needed(leaf: nn.Module, option: Option, calls: Sequence[LayerCall]) -> list[tuple[Point, LayerCall]]:
    """The layers to time for an option, once for each call of the layer that it takes the place of."""
    chain = [leaf] if option.form is None else leaves(leaf, _empty(leaf, option))
    width = leaf.in_features if isinstance(leaf, nn.Linear) else leaf.in_channels
    found = []
    for call in calls:
        shape = call.input_shape(int(width))  # type: ignore[arg-type]
        network = Network(fx.symbolic_trace(nn.Sequential(*chain)), Signature((Input("x", shape),)))
        for part, own in zip(layer_calls(network).values(), chain, strict=True):
            inputs, outputs = own.weight.shape[1], own.weight.shape[0]  # type: ignore[index]
            found.append(((part.key, int(inputs), int(outputs)), part))
    return found


def _empty(leaf: nn.Module, option: Option) -> Factors:
    """Factors of the option's shapes."""
    count, channels, height, width = kernel_shape(leaf)
    rank, inner = option.rank, option.inner
    shapes = {
        "channel": [(rank, channels, height, width), (count, rank, 1, 1)],
        "spatial": [(rank, channels, height, 1), (count, rank, 1, width)],
        "tucker2": [(inner, channels, 1, 1), (rank, inner, height, width), (count, rank, 1, 1)],
    }[option.form or "channel"]
    return Factors(tuple(torch.zeros(shape) for shape in shapes), torch.zeros(count))
