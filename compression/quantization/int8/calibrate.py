"""What activations are, measured a batch at a time: their histograms, and the mean of each input channel of a layer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from compression.measure.runtime import open_session, predict_in, static_batch
from compression.quantization.int8.graph import Graph
from compression.quantization.int8.histogram import Histogram

BATCH = 32
NUMBERS = 1 << 20
"""Of the inputs of a batch, at most: all activations of one are in memory at once."""
Inputs = Mapping[str, NDArray[Any]]


@dataclass
class Activations:
    """`histograms` by tensor; `means` by layer: float64, one for each input channel (features, of a product)."""

    histograms: dict[str, Histogram] = field(default_factory=dict)
    means: dict[str, NDArray[np.float64]] = field(default_factory=dict)


def activations(
    graph: Graph, tensors: Collection[str], samples: Inputs, progress: Callable[[float], None] = lambda _: None
) -> Activations:
    """Of the tensors named, and of what every layer reads, over all samples."""
    read = {name: layer.node.input[0] for name, layer in graph.layers.items() if layer.node.input[0] in graph.floats}
    wanted = list(dict.fromkeys([*tensors, *read.values()]))
    inside = [name for name in wanted if name not in samples]
    session = open_session(_showing(graph.model, inside).SerializeToString())
    shown = [entry.name for entry in session.get_outputs()]
    found = Activations({name: Histogram() for name in wanted})
    count = len(next(iter(samples.values())))
    each = sum(value[0].size for value in samples.values())
    batch = static_batch(session) or max(1, min(BATCH, NUMBERS // max(1, each)))
    sums: dict[str, NDArray[np.float64]] = {}
    for start in range(0, count, batch):
        chunk = {name: value[start : start + batch] for name, value in samples.items()}
        values = {**chunk, **dict(zip(shown, predict_in(session, chunk, batch), strict=True))}
        for name in wanted:
            found.histograms[name].add(values[name])
        for layer, name in read.items():
            here = _channel_means(values[name], graph.layers[layer].operator) * len(next(iter(chunk.values())))
            sums[layer] = sums.get(layer, 0) + here
        progress(min(1.0, (start + batch) / count))
    found.means = {layer: total / count for layer, total in sums.items()}
    return found


def _showing(model: ModelProto, tensors: Collection[str]) -> ModelProto:
    """A copy that gives these tensors too."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    present = {entry.name for entry in model.graph.output}
    shown.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in tensors if name not in present
    )
    return shown


def _channel_means(value: NDArray[Any], operator: str) -> NDArray[np.float64]:
    kept = 1 if operator == "Conv" else value.ndim - 1
    others = tuple(axis for axis in range(value.ndim) if axis != kept)
    means: NDArray[np.float64] = value.mean(others, dtype=np.float64)
    return means
