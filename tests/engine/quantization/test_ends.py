"""Which weights read an input or make an output."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, fx, nn

from compression.network import Input, Network, Signature
from compression.quantization.ends import end_weights
from compression.zoo.catalog import zoo_network
from tests.engine.nets import Chain, Residual, network_of
from tests.engine.test_encodings import TwoExits


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.norm = nn.Linear(4, 6), nn.Linear(3, 6), nn.LayerNorm(6)
        self.mix, self.head = nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.relu(self.head(self.norm(self.mix(torch.relu(self.left(a) + self.right(b))))))


class Skipping(nn.Module):
    """The input itself is added behind each layer: the first one is the one that comes first."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.one(x)
        x = x + self.two(x)
        return x + self.three(x)


def traced(module: nn.Module, **inputs: tuple[int, ...]) -> Network:
    signature = Signature(tuple(Input(name, shape) for name, shape in inputs.items()))
    return Network(fx.symbolic_trace(module.eval()), signature)


@pytest.mark.parametrize(
    ("network", "ends"),
    [
        (network_of(Chain(), 1, 8, 8), {"conv1", "head"}),
        (network_of(Residual(), 1, 8, 8), {"stem", "head"}),
        (traced(TwoInputs(), a=(4,), b=(3,)), {"left", "right", "head"}),
        (traced(Skipping(), x=(4,)), {"one", "three"}),
        (traced(TwoExits(), x=(49,)), {"first", "early", "late"}),
        (traced(nn.Sequential(nn.ReLU()), x=(4,)), set()),
        (zoo_network("resnet20", {}, seed=0), {"conv1", "fc"}),
    ],
    ids=["chain", "residual", "two inputs", "skips", "exits", "nothing", "resnet20"],
)
def test_ends_by_hand(network: Network, ends: set[str]) -> None:
    assert end_weights(network) == {f"{name}.weight" for name in ends}
