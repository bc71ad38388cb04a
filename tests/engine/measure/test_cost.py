import torch
from torch import Tensor, fx, nn
from torch.utils.flop_counter import FlopCounterMode

from compression.measure.cost import cost_of
from compression.network import Input, Network, Signature, Variant
from compression.zoo.catalog import zoo_network
from tests.engine import nets


def test_by_hand():
    cost = cost_of(nets.network_of(nets.Chain(), 1, 8, 8))
    layers = {layer.name: layer for layer in cost.layers}
    assert layers["conv1"].macs == 8 * 1 * 9 * 64
    assert layers["conv2"].macs == 12 * 8 * 9 * 64
    assert layers["hidden"].macs == 48 * 20
    assert layers["conv1"].parameters == 80
    assert layers["conv2"].weight_shape == [12, 8, 3, 3]
    assert layers["conv2"].output_shape == [1, 12, 8, 8]
    assert layers["norm2"].macs == 0
    assert cost.macs == sum(layer.macs for layer in cost.layers)
    assert cost.parameters == sum(layer.parameters for layer in cost.layers)
    assert [layer.name for layer in cost.layers] == ["conv1", "norm1", "conv2", "norm2", "hidden", "head"]


def test_total_is_the_flop_counters():
    for build in (nets.Chain, nets.Residual, nets.Concat, nets.Depthwise):
        network = nets.network_of(build(), 1, 8, 8)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network.module(*network.example(1))
        assert cost_of(network).macs == counter.get_total_flops() // 2 > 0
        assert cost_of(network).parameters == sum(p.numel() for p in network.module.parameters())


def test_zeros_and_bytes():
    network = nets.network_of(nets.Residual(), 1, 8, 8)
    with torch.no_grad():
        network.module.get_submodule("inner").weight[0] = 0
    cost = cost_of(network)
    assert cost.parameters - cost.nonzero == 72
    buffers = sum(value.numel() * value.element_size() for value in network.module.buffers())
    assert cost.bytes == 4 * cost.parameters + buffers


def test_known_figure_of_resnet20():
    # He et al. 2016 with projections, on 28 × 28 × 1. Each stage has six convolutions of equal cost:
    # twice the channels, half the size. The first of stages two and three has half the input channels.
    cost = cost_of(zoo_network("resnet20", {"in_channels": 1, "height": 28, "width": 28}, seed=0))
    stem, one, projection, head = 9 * 16 * 28 * 28, 9 * 16 * 16 * 28 * 28, 16 * 32 * 14 * 14, 640
    assert cost.macs == stem + 6 * one + 2 * (5 * one + one // 2) + 2 * projection + head == 31_021_952
    assert [layer.type for layer in cost.layers].count("Conv2d") == 21


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(16, 16, bias=False)
        self.position = nn.Parameter(torch.zeros(9, 16))

    def forward(self, x: Tensor) -> Tensor:
        x = self.project(x + self.position)
        return nn.functional.scaled_dot_product_attention(x, x, x)


def test_attention_and_a_lone_parameter():
    network = Network(fx.symbolic_trace(Attention().eval()), Signature((Input("x", (9, 16)),)))
    layers = {layer.type: layer for layer in cost_of(network).layers}
    assert layers["scaled_dot_product_attention"].macs == 2 * 9 * 9 * 16
    assert layers["parameter"].parameters == 9 * 16
    assert layers["Linear"].macs == 9 * 16 * 16


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x))


def test_a_layer_called_twice():
    (layer,) = cost_of(Network(fx.symbolic_trace(Shared().eval()), Signature((Input("x", (4,)),)))).layers
    assert (layer.parameters, layer.macs) == (20, 32)


class TwoExits(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.early, self.late = nn.Linear(4, 4), nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.first(x)
        return self.early(x), self.late(x)


def test_a_variant_costs_what_it_needs():
    variants = {"full": Variant((0, 1)), "early": Variant((0,))}
    signature = Signature((Input("x", (4,)),), ("early", "late"))
    network = Network(fx.symbolic_trace(TwoExits().eval()), signature, variants=variants)
    assert cost_of(network).parameters == 40
    assert cost_of(network, "early").parameters == 30
    assert cost_of(network, "early").macs == 24
