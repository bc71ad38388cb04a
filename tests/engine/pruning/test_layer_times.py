"""The table of layer times: that its graphs compute the layers, which widths it has, and how it is read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import numpy_helper
from onnx.onnx_ml_pb2 import ModelProto
from torch import Tensor, nn

from compression.measure.runtime import open_session
from compression.pruning.channels import map_channels
from compression.pruning.layer_graph import layer_calls, layer_graph
from compression.pruning.layer_times import Grid, LayerTimes, measure_layers
from tests.engine.nets import Depthwise, network_of

LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "3×3": (nn.Conv2d(4, 6, 3, stride=2, padding=1), (4, 9, 7)),
    "dilated, uneven": (nn.Conv2d(4, 6, (3, 5), padding=(2, 1), dilation=(2, 1)), (4, 9, 7)),
    "same": (nn.Conv2d(4, 6, (3, 5), padding="same"), (4, 9, 7)),
    "groups": (nn.Conv2d(4, 6, 3, groups=2), (4, 9, 7)),
    "depthwise": (nn.Conv2d(4, 8, 3, groups=4), (4, 9, 7)),
    "one axis": (nn.Conv1d(4, 6, 3, padding=1), (4, 9)),
    "transposed": (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1), (4, 5, 5)),
    "linear": (nn.Linear(4, 6), (4,)),
    "linear over places": (nn.Linear(4, 6), (5, 4)),
}


class Alone(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


@pytest.mark.parametrize("name", LAYERS)
def test_a_graph_computes_what_the_layer_does(name: str) -> None:
    """With the weights that are in the file: relu(second + relu(first)), each by torch."""
    layer, shape = LAYERS[name]
    network = network_of(Alone(layer), *shape)
    (call,) = layer_calls(network).values()
    assert call.input_shape(4) == shape
    outputs = layer.weight.shape[1 if isinstance(layer, nn.ConvTranspose2d) else 0]
    file = layer_graph(call, 4, int(outputs), copies=2)
    stored = ModelProto.FromString(file).graph.initializer
    weights = {entry.name: torch.from_numpy(numpy_helper.to_array(entry).copy()) for entry in stored}
    x = network.example(1)[0]
    results = []
    for copy in (0, 1):
        weight = weights[f"w{copy}"]
        with torch.no_grad():
            layer.weight.copy_(weight.T if isinstance(layer, nn.Linear) else weight)
            layer.bias.copy_(weights[f"b{copy}"])
            results.append(layer(x))
    wanted = torch.relu(results[1] + torch.relu(results[0]))
    (found,) = open_session(file).run(None, {"x": x.numpy()})
    np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-4, atol=1e-4)


def test_between_widths_time_is_interpolated() -> None:
    grid = Grid((8, 16), (8, 16, 24), np.array([[1.0, 2.0, 4.0], [3.0, 5.0, 9.0]]))
    assert grid.at(16, 24) == 9.0
    assert grid.at(12, 16) == pytest.approx(3.5)
    assert grid.at(12, 20) == pytest.approx((2 + 4 + 5 + 9) / 4)
    assert grid.at(4, 99) == 4.0  # beyond them as at the nearest


def test_every_layer_is_timed_at_blocks_and_at_its_widths() -> None:
    network = network_of(Depthwise(), 1, 8, 8)
    channels = map_channels(network)
    times = measure_layers(network, channels, 4)
    calls = {call.layer: call for call in layer_calls(network).values()}
    widths = {name: (times.grids[call.key].inputs, times.grids[call.key].outputs) for name, call in calls.items()}
    assert widths["stem"] == ((1,), (4, 8))
    assert widths["depthwise"] == ((8,), (8, 16))  # two outputs for each input: what it has of those follows
    assert widths["grouped"] == ((4, 8, 12, 16), (4, 8, 12))
    assert widths["head"] == ((4, 8, 12), (5,))
    assert all((grid.microseconds >= 0).all() and grid.microseconds.max() > 0 for grid in times.grids.values())
    again = LayerTimes.read(times.as_facts())
    for name, call in calls.items():
        ends = len(channels.layers[name].inputs), len(channels.layers[name].outputs)
        assert again.microseconds(call, *ends) == pytest.approx(times.microseconds(call, *ends), abs=0.01)
