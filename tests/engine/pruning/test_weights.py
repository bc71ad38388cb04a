"""`prune.weights` from its spec: masks through every step, each schedule, comparing, and what a kill leaves."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from compression.encodings import Mask
from compression.errors import SpecError
from compression.events import Reporter
from compression.measure.storage import measure_storage
from compression.methods.prune.weights import PruneWeights, apply
from compression.network import Network
from compression.pruning.weights import masked_shares, weight_names
from compression.training.loop import train
from compression.training.run import Run
from tests.engine.nets import Chain, network_of
from tests.engine.training.test_loop import Killed, KillingReporter, context_for, state

TRAINING = {"epochs": 2, "learning_rate": 0.05, "loss": "labels"}


def chain() -> Network:
    return network_of(Chain(), 1, 8, 8)


def pruned(folder: Path, reporter: Reporter | None = None, network: Network | None = None, **fields: Any) -> Any:
    network = network or chain()
    spec = PruneWeights(**{"finetune": TRAINING, **fields})
    return apply(network, spec, context_for(folder, network, reporter))


def zeros_by_hand(network: Network) -> float:
    values = torch.cat([network.module.get_parameter(name).flatten() for name in weight_names(network)])
    return float((values == 0).double().mean())


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_gradual_keeps_masks_through_every_step_and_momentum(
    optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at after each optimizer step: what was zero stays zero, and what goes grows by the formula."""
    seen: list[dict[str, torch.Tensor]] = []
    step = Run._step

    def watched(run: Run, chosen: torch.Tensor) -> float:
        masks = {name: mask.keep.clone() for name, mask in run._tightened().items()}
        loss = step(run, chosen)
        for name, keep in masks.items():
            assert bool((run.restricted[name].parameter[~keep] == 0).all())
        seen.append(masks)
        return loss

    monkeypatch.setattr(Run, "_step", watched)
    training = {**TRAINING, "epochs": 5, "optimizer": optimizer, "learning_rate": 0.01}
    result = pruned(tmp_path, schedule="gradual", sparsity=0.9, every=3, finetune=training)
    total = len(seen)
    for before, after in itertools.pairwise(seen):
        assert all(not bool((~before[name] & after[name]).any()) for name in before)  # nothing comes back
    shares = [1 - float(torch.cat([keep.flatten() for keep in masks.values()]).double().mean()) for masks in seen]
    end = int(0.75 * total)
    expected = [0.9 - 0.9 * (1 - min(1.0, (t // 3) / (end // 3))) ** 3 for t in range(total)]
    assert shares == pytest.approx(expected, abs=1e-3)
    assert zeros_by_hand(result.network) == pytest.approx(0.9, abs=1e-3)
    assert result.facts["sparsity"] == pytest.approx(0.9, abs=1e-3)
    assert result.facts["training"]["best_epoch"] > 5 * 0.75  # weights from before it was complete don't count
    for name in weight_names(result.network):
        assert isinstance(result.network.encodings[name], Mask)


@pytest.mark.parametrize("saves", [2, 12])
def test_gradual_resumes_to_the_same_bytes(saves: int, tmp_path: Path) -> None:
    fields: dict[str, Any] = {"schedule": "gradual", "sparsity": 0.8, "every": 2}
    whole = pruned(tmp_path / "a", **fields)
    with pytest.raises(Killed):
        pruned(tmp_path / "b", KillingReporter(saves), **fields)
    resumed = pruned(tmp_path / "b", **fields)
    assert resumed.facts == whole.facts
    for name, value in state(whole.network).items():
        assert torch.equal(value, state(resumed.network)[name]), name
    files = {path.name: path.read_bytes() for path in (tmp_path / "a").rglob("network.safetensors")}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "b").rglob("network.safetensors")}


def test_rounds_are_geometric_and_one_shot_is_one(tmp_path: Path) -> None:
    result = pruned(tmp_path / "a", sparsity=0.875, rounds=3)
    assert [entry["sparsity"] for entry in result.facts["rounds"]] == pytest.approx([0.5, 0.75, 0.875], abs=1e-3)
    once = pruned(tmp_path / "b", sparsity=0.875, schedule="one-shot", rounds=3)
    assert [entry["sparsity"] for entry in once.facts["rounds"]] == pytest.approx([0.875], abs=1e-3)
    assert zeros_by_hand(once.network) == pytest.approx(zeros_by_hand(result.network), abs=1e-3)


@pytest.mark.parametrize("schedule", ["one-shot", "iterative", "gradual"])
def test_every_group_of_four_has_two_zeros_whatever_the_schedule(schedule: str, tmp_path: Path) -> None:
    result = pruned(tmp_path, pattern="2:4", schedule=schedule, every=2)
    for name in weight_names(result.network):
        value = result.network.module.get_parameter(name).movedim(1, -1)
        if value.shape[-1] % 4 == 0:
            assert bool(((value.reshape(-1, 4) != 0).sum(1) == 2).all())


def test_a_scan_decides_each_layers_share(tmp_path: Path) -> None:
    result = pruned(tmp_path, scope="sensitivity", sparsity=0.8, rounds=2)
    table = result.facts["sensitivity"]
    shares = masked_shares(result.network, weight_names(result.network))
    assert shares[""] == pytest.approx(0.8, abs=2e-3)
    assert len({entry["sparsity"] for entry in table}) > 1
    for entry in table:
        assert shares[entry["weight"]] == pytest.approx(entry["sparsity"], abs=0.02)
        assert len(entry["curve"]) == 9


def test_comparing_prunes_the_same_network_at_once_for_as_many_epochs(tmp_path: Path) -> None:
    network = chain()
    result = pruned(tmp_path / "a", network=network, sparsity=0.96, rounds=2, compare=True)
    rows = result.facts["at_once"]
    assert [row["epochs"] for row in rows] == [2, 4]
    assert [row["sparsity"] for row in rows] == [entry["sparsity"] for entry in result.facts["rounds"]]
    alone = pruned(
        tmp_path / "b", network=network, sparsity=0.96, schedule="one-shot", finetune={**TRAINING, "epochs": 4}
    )
    spec = PruneWeights(finetune={**TRAINING, "epochs": 4})
    assert spec.finetune is not None
    masked_once = alone.network.replaced(module=network.copy().module)
    masked_once.project()
    _, facts = train(masked_once, spec.finetune, context_for(tmp_path / "c", network), stage="at-once-2")
    best = next(entry for entry in facts["history"] if entry["epoch"] == facts["best_epoch"])
    assert (rows[1]["accuracy"], rows[1]["loss"]) == (best["accuracy"], best["loss"])


@pytest.mark.parametrize(
    "fields",
    [
        {"pattern": "4:4"},
        {"pattern": "2:4", "sparsity": 0.5},
        {"pattern": "2:4", "scope": "sensitivity"},
        {"pattern": "2-4"},
        {"schedule": "gradual", "finetune": None},
        {"compare": True, "rounds": 1},
        {"compare": True, "schedule": "one-shot"},
    ],
)
def test_fields_that_dont_go_together_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PruneWeights(**fields)


def test_no_weights_selected_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as fault:
        pruned(tmp_path, layers={"include": ["norm1"]})
    assert fault.value.where == "/layers"


def test_what_zeros_are_worth_is_measured_and_said(tmp_path: Path) -> None:
    assert measure_storage(chain()) is None
    result = pruned(tmp_path / "a", sparsity=0.95, finetune=None, schedule="one-shot")
    found = measure_storage(result.network)
    assert found is not None
    assert found.zeros == pytest.approx(0.95, abs=1e-3)
    assert found.coded < found.sparse < found.dense
    assert found.bit_masks + found.csr > 0
    claim = found.claim()
    assert (claim.verdict, claim.effect) == ("pays when coded", "none")
    assert f"{found.dense / found.coded:.2f}× smaller entropy-coded" in claim.text
    hardly = pruned(tmp_path / "b", sparsity=0.001, finetune=None, schedule="one-shot")
    none = measure_storage(hardly.network)
    assert none is not None
    assert none.sparse >= 0.99 * none.dense


def test_an_earlier_mask_counts(tmp_path: Path) -> None:
    once = pruned(tmp_path / "a", sparsity=0.5, schedule="one-shot").network
    again = pruned(tmp_path / "b", Reporter(io.StringIO()), network=once, sparsity=0.9, rounds=2)
    assert [entry["sparsity"] for entry in again.facts["rounds"]] == pytest.approx([1 - 0.05**0.5, 0.9], abs=1e-3)
    for name in weight_names(once):
        before, after = once.encodings[name], again.network.encodings[name]
        assert isinstance(before, Mask)
        assert isinstance(after, Mask)
        assert not bool((~before.keep & after.keep).any())
