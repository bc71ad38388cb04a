"""A step with measured time as its target: what it decides by is kept, told, and used again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from compression.errors import MethodError
from compression.methods.prune.structured import PruneStructured, apply
from compression.network import Network
from compression.pruning import latency_target
from compression.pruning.channels import map_channels
from compression.pruning.latency_target import TimeTarget
from compression.pruning.limits import Limits, floors_of
from tests.engine.nets import network_of
from tests.engine.pruning.test_importance import context_for


class Wide(nn.Module):
    """Enough work for widths to show in time, and one block."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 32, 3, padding=1)
        self.inner, self.outer = nn.Conv2d(32, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1)
        self.relu, self.pool = nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.stem(x))
        x = self.relu(x + self.outer(self.relu(self.inner(x))))
        return self.head(torch.flatten(self.pool(x), 1))


@pytest.fixture(scope="module")
def wide() -> Network:
    return network_of(Wide(), 1, 12, 12)


def test_widths_follow_the_measured_table_and_a_resumed_step_decides_alike(
    wide: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency_target, "SECONDS", 0.2)  # nothing here depends on how exact the times are
    monkeypatch.setattr(latency_target, "ATTEMPTS", 2)
    spec = PruneStructured(latency_ratio=0.4, rounds=1, finetune=None, importance="magnitude")
    context = context_for(wide, tmp_path)
    first = apply(wide, spec, context)
    (done,) = first.facts["rounds"]
    profile = first.facts["device_profile"]
    assert {width for _, width in first.facts["widths"].values()} <= {5, *range(8, 33, 8)}
    assert first.facts["widths"]["stem"][1] < 32 or first.facts["widths"]["inner"][1] < 32
    assert done["latency"]["predicted"] < 1
    assert done["latency"] in done["attempts"]
    assert done["latency"]["measured_low"] <= done["latency"]["measured"] <= done["latency"]["measured_high"]
    assert profile["device"]["cpu"]
    grids = {entry["layer"]: entry for entry in profile["table"]}
    (same,) = (entry for name, entry in grids.items() if name.startswith("Conv 12×12") and len(entry["inputs"]) > 1)
    assert same["inputs"] == [1, *range(8, 33, 8)]  # the stem and the block's layers are alike but for their widths
    # As if the worker had died after the cut was decided, and then before: both go on from the same table.
    cuts = list(tmp_path.glob("*round-1-cut*"))
    assert len(cuts) == 1
    assert apply(wide, spec, context).facts == first.facts
    facts = json.loads((tmp_path / "0-test-layer-times" / "facts.json").read_text())
    assert facts == profile
    shutil.rmtree(cuts[0])
    again = apply(wide, spec, context)
    assert again.facts["device_profile"] == profile
    assert again.facts["rounds"][0]["attempts"][0]["predicted"] == done["attempts"][0]["predicted"]

    # Where a network turns out slower than any cut could mend, the last cut is what the table alone asks for.
    channels = map_channels(wide)
    limits = Limits("magnitude", frozenset(wide.layers()), frozenset({"channels"}), floors_of(channels, 0.9), 1, False)
    _, told = TimeTarget(wide, limits, context).cut(wide, 0.4, {"measured_over_predicted": 1000.0}, last=True)
    assert told["attempts"][0]["predicted"] == done["attempts"][0]["predicted"]

    beyond = spec.model_copy(update={"latency_ratio": 0.001, "rounds": 2})
    with pytest.raises(MethodError, match="microseconds are left"):  # before anything is cut
        apply(wide, beyond, context)
    assert len(list(tmp_path.glob("*cut*"))) == 1


@pytest.mark.parametrize("target", ["macs_ratio", "parameters_ratio"])
def test_blocks_go_where_they_cost_least(wide: Network, target: str, tmp_path: Path) -> None:
    """The block of this network has a branch that does nothing: it goes first, and the rest stays whole."""
    useless = wide.copy()
    outer = useless.layers()["outer"]
    outer.weight.data.mul_(1e-6)
    outer.bias.data.zero_()
    spec = PruneStructured(**{target: 0.05, "rounds": 1, "finetune": None, "blocks": True})
    found = apply(useless, spec, context_for(useless, tmp_path, samples=64))
    assert found.facts["rounds"][0]["blocks"] == ["add"]
    assert found.facts["widths"] == {"stem": [32, 32], "inner": [32, 0], "outer": [32, 0], "head": [5, 5]}


def test_the_spec_has_one_target_and_blocks_have_a_loss() -> None:
    with pytest.raises(ValidationError, match="give one of latency_ratio"):
        PruneStructured(latency_ratio=0.5, macs_ratio=0.5)
    with pytest.raises(ValidationError, match="give one of latency_ratio"):
        PruneStructured()
    with pytest.raises(ValidationError, match="importance has to be taylor or fisher"):
        PruneStructured(macs_ratio=0.5, blocks=True, importance="magnitude")


def test_sensitivity_and_sparsity_training_are_told(wide: Network, tmp_path: Path) -> None:
    spec = PruneStructured(
        macs_ratio=0.5,
        rounds=1,
        finetune=None,
        importance="fisher",
        sensitivity=True,
        sparsity_training={"epochs": 1, "strength": 0.01},  # type: ignore[arg-type]
    )
    facts = apply(wide, spec, context_for(wide, tmp_path)).facts
    curves = {tuple(entry["layers"]): entry for entry in facts["sensitivity"]}
    assert set(curves) == {("stem", "outer"), ("inner",)}
    assert [share for share, _ in curves["inner",]["curve"]] == [0.0, 0.25, 0.5, 0.75, 0.9]
    stem = facts["widths"]["stem"]
    assert curves["stem", "outer"]["removed"] == pytest.approx(1 - stem[1] / stem[0])
    assert len(facts["sparsity_training"]["history"]) == 2
