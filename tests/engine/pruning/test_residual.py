"""Whole residual blocks: which there are, that the rest computes what it did, and what they are worth."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from compression.encodings import Mask
from compression.pruning.residual import block_losses, bypass, residual_blocks
from tests.engine.nets import Residual, network_of
from tests.engine.pruning.test_importance import context_for


class PreNorm(nn.Module):
    """Two blocks one behind the other, without anything between them, and one whose branch is read elsewhere too."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(6, 8), nn.Linear(8, 5)
        self.norm1, self.mlp1 = nn.LayerNorm(8), nn.Linear(8, 8)
        self.norm2, self.mlp2 = nn.LayerNorm(8), nn.Linear(8, 8)
        self.used_twice = nn.Linear(8, 8)
        self.scale = nn.Parameter(torch.full((8,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + torch.relu(self.mlp1(self.norm1(x)))
        x = x + self.scale * torch.relu(self.mlp2(self.norm2(x)))
        y = self.used_twice(x)
        return self.head((x + y) * y)


def test_a_block_is_an_addition_to_a_value_that_passes() -> None:
    network = network_of(PreNorm(), 6)
    found = residual_blocks(network)
    assert len(found) == 2
    layers = [{str(n.target) for n in network.module.graph.nodes if n.name in b.nodes} for b in found]
    assert {"norm1", "mlp1"} <= layers[0]
    assert {"norm2", "mlp2", "scale"} <= layers[1]


def test_blocks_one_behind_the_other_are_bypassed() -> None:
    network = network_of(PreNorm(), 6)
    module = PreNorm()
    module.load_state_dict(network.module.state_dict())
    smaller = bypass(network, residual_blocks(network), reason={"step": "x"})
    names = dict(smaller.module.named_parameters())
    assert not [name for name in names if name.startswith(("mlp", "norm", "scale"))]
    assert smaller.provenance[-1] == {"step": "x"}
    x = network.example(3)[0]
    with torch.no_grad():
        stem = module.stem(x)
        y = module.used_twice(stem)
        torch.testing.assert_close(smaller.module(x), module.head((stem + y) * y))


def test_encodings_of_what_is_gone_go_too() -> None:
    network = network_of(Residual(), 1, 8, 8)
    masks = {
        f"{name}.weight": Mask(torch.ones_like(network.layers()[name].weight, dtype=torch.bool))
        for name in ("inner", "stem")
    }
    smaller = bypass(network.replaced(encodings=masks), residual_blocks(network), reason={})
    assert set(smaller.encodings) == {"stem.weight"}


@pytest.mark.parametrize("criterion", ["taylor", "fisher"])
def test_a_blocks_loss_is_what_it_costs_to_leave_it_out(criterion: str, tmp_path: Path) -> None:
    network = network_of(Residual(), 1, 8, 8)
    context = context_for(network, tmp_path, samples=64)
    assert context.data is not None
    (found,) = block_losses(network, residual_blocks(network), criterion, context)  # type: ignore[arg-type]
    order = torch.randperm(64, generator=torch.Generator().manual_seed(context.seed))
    x, labels = context.data.train.inputs["x"][order], context.data.train.labels
    assert labels is not None
    without = copy.deepcopy(network.module)
    with torch.no_grad():  # by hand: the branch's last layer gives nothing
        without.get_submodule("outer").weight.zero_()
        without.get_submodule("outer").bias.zero_()
        changes = [
            nn.functional.cross_entropy(without(part), y) - nn.functional.cross_entropy(network.module(part), y)
            for part, y in zip(x.split(32), labels[order].split(32), strict=True)
        ]
    values = torch.stack(changes).double()
    expected = values.square().mean() if criterion == "taylor" else values.mean().clamp_min(0)
    assert found == pytest.approx(float(expected), rel=1e-3)
