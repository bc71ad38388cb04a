"""A measured table: how long each layer of a network takes in ONNX Runtime, by how wide it is.

Runtimes work in blocks of channels, and leave their fast path where a width doesn't fit: time follows neither MACs nor
parameters. So every layer is built as a small `.onnx` graph at several widths, and timed on one thread at batch 1.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compression.measure.runtime import open_session
from compression.network import Network
from compression.pruning.channel_map import ChannelMap
from compression.pruning.layer_graph import LayerCall, layer_calls, layer_graph
from compression.pruning.numbers import Ids

MOST_POINTS = 8  # widths along one axis; between them time is interpolated
COPIES = 3
PASSES = 3  # each with fresh sessions: where buffers happen to lie makes a session faster or slower
TURNS = 9
SHORTEST = 150e-6  # seconds that one reading of the clock takes at least

Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class Grid:
    """Microseconds of one run, inputs × outputs, at ascending numbers of input and output channels."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    microseconds: NDArray[np.float64]

    def at(self, inputs: int, outputs: int) -> float:
        """Between the measured widths bilinear; beyond them as at the nearest."""
        return float(_along(self.outputs, outputs) @ (_along(self.inputs, inputs) @ self.microseconds))


@dataclass(frozen=True)
class LayerTimes:
    """By layer call, whatever its width. `as_facts` and `read` are its JSON form."""

    grids: Mapping[str, Grid] = field(default_factory=dict)

    def microseconds(self, call: LayerCall, inputs: int, outputs: int) -> float:
        return self.grids[call.key].at(inputs, outputs)

    def as_facts(self) -> list[dict[str, Any]]:
        return [
            {
                "layer": key,
                "inputs": list(grid.inputs),
                "outputs": list(grid.outputs),
                "microseconds": grid.microseconds.round(2).tolist(),
            }
            for key, grid in self.grids.items()
        ]

    @staticmethod
    def read(facts: Sequence[Mapping[str, Any]]) -> LayerTimes:
        return LayerTimes(
            {
                entry["layer"]: Grid(
                    tuple(entry["inputs"]), tuple(entry["outputs"]), np.array(entry["microseconds"], dtype=np.float64)
                )
                for entry in facts
            }
        )


def measure_layers(network: Network, channels: ChannelMap, block: int, tell: Tell = lambda _, __: None) -> LayerTimes:
    """Times every convolution and linear layer at the multiples of `block` up to its widths, and at its widths.

    An entry is the median over PASSES of the median over TURNS. What is timed is one run's difference between a graph
    with COPIES of the layer and one with a single copy, taken in turn, so that neither the call of the runtime nor
    the change of its memory layout counts. Layers alike but for their widths share a grid.
    """
    wanted = _wanted(network, channels, block)
    points = [(key, i, o) for key, (_, ins, outs) in wanted.items() for i in ins for o in outs]
    readings: dict[tuple[str, int, int], list[float]] = {point: [] for point in points}
    for turn in range(PASSES):
        for place, (key, inputs, outputs) in enumerate(points):
            readings[key, inputs, outputs].append(layer_seconds(wanted[key][0], inputs, outputs))
            tell(turn * len(points) + place + 1, PASSES * len(points))
    grids = {}
    for key, (_, ins, outs) in wanted.items():
        seconds = np.array([[np.median(readings[key, i, o]) for o in outs] for i in ins])
        grids[key] = Grid(ins, outs, 1e6 * np.maximum(seconds, 0.0))
    return LayerTimes(grids)


def _wanted(
    network: Network, channels: ChannelMap, block: int
) -> dict[str, tuple[LayerCall, tuple[int, ...], tuple[int, ...]]]:
    """By call: the input and the output widths to measure. A depthwise convolution's inputs follow from its outputs."""
    found: dict[str, tuple[LayerCall, set[int], set[int]]] = {}
    for call in layer_calls(network).values():
        layer = channels.layers.get(call.layer)
        if layer is None:  # it isn't followed, and stays as it is
            continue
        _, ins, outs = found.setdefault(call.key, (call, set(), set()))
        if call.depthwise:
            ins |= {len(layer.inputs)} if not ins else set()
            outs |= {call.multiplier * width for width in _points(channels, layer.inputs, block)}
        else:
            step = math.lcm(block, layer.groups)
            ins |= _points(channels, layer.inputs, step)
            outs |= _points(channels, layer.outputs, step)
    return {key: (call, tuple(sorted(ins)), tuple(sorted(outs))) for key, (call, ins, outs) in found.items()}


def _points(channels: ChannelMap, ids: Ids, step: int) -> set[int]:
    """Multiples of `step`, thinned evenly where they are many, and the full width."""
    if not channels.open_units(ids):
        return {len(ids)}
    multiples = np.arange(step, len(ids) + 1, step)
    if len(multiples) > MOST_POINTS:
        multiples = multiples[np.linspace(0, len(multiples) - 1, MOST_POINTS).round().astype(int)]
    return {*multiples.tolist(), len(ids)}


def layer_seconds(call: LayerCall, inputs: int, outputs: int) -> float:
    """Seconds of one run of the layer: the median over TURNS."""
    inputs = outputs // call.multiplier if call.depthwise else inputs
    sessions = [open_session(layer_graph(call, inputs, outputs, copies)) for copies in (1, COPIES)]
    feed = {"x": np.random.default_rng(0).standard_normal((1, *call.input_shape(inputs))).astype(np.float32)}

    def seconds(which: int, runs: int) -> float:
        start = time.perf_counter()
        for _ in range(runs):
            sessions[which].run(None, feed)
        return (time.perf_counter() - start) / runs

    runs = [max(1, math.ceil(SHORTEST / min(seconds(which, 2), seconds(which, 2)))) for which in (0, 1)]
    taken = []
    for turn in range(TURNS):
        each = {which: seconds(which, runs[which]) for which in ((0, 1) if turn % 2 else (1, 0))}
        taken.append((each[1] - each[0]) / (COPIES - 1))
    return float(np.median(taken))


def _along(points: Sequence[int], width: int) -> NDArray[np.float64]:
    """The weight of each measured point in the value at `width`."""
    weights = [np.interp(width, points, row) for row in np.eye(len(points))]
    return np.array(weights, dtype=np.float64)
