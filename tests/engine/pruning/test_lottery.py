"""`prune.lottery` as a job: in a child that is killed between and within rounds, with and without first weights."""

from __future__ import annotations

import json
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from compression.errors import SpecError
from compression.intake.weights import load_network
from compression.methods.prune.lottery import PruneLottery, apply
from compression.pruning.lottery import Experiment
from compression.pruning.weights import weight_names
from compression.registry import StepResult
from tests.engine.nets import Chain, network_of
from tests.engine.test_cli import artifacts, job, run_command
from tests.engine.training.test_loop import context_for

__all__ = ["job"]
TRAINING = {"epochs": 2, "learning_rate": 0.1, "loss": "labels"}


def lottery(folder: Path, models: dict[str, Any] | None = None, **fields: Any) -> StepResult:
    network = network_of(Chain(), 1, 8, 8)
    context = replace(context_for(folder, network), models=models or {})
    spec = PruneLottery(**{"rounds": 2, "sparsity": 0.75, "kinds": ["weights"], "training": TRAINING, **fields})
    return apply(network, spec, context)


def test_a_killed_child_goes_on_at_its_round_and_delivers_the_same(job: Path) -> None:
    step = {"method": "prune.lottery", "rounds": 2, "sparsity": 0.8, "small_rate": None, "arms": ["random", "signs"]}
    step["training"] = {"epochs": 2, "learning_rate": 0.1, "loss": "labels"}
    (job / "spec.json").write_text(json.dumps({"steps": [step], "exports": ["safetensors"]}))
    subprocess.run(run_command(job, "a"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    with subprocess.Popen(
        run_command(job, "b"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as killed:
        assert killed.stdout is not None
        for line in killed.stdout:
            event = json.loads(line)
            assert event["event"] != "done"
            if event["event"] == "checkpoint" and event["path"].endswith("structured-0.1-seed-0-round-1-random"):
                killed.send_signal(signal.SIGKILL)
                break
    resumed = subprocess.run(run_command(job, "b"), capture_output=True, text=True, check=True)
    again = [json.loads(line) for line in resumed.stdout.splitlines()]
    stages = {event["stage"] for event in again if event["event"] == "metric"}
    assert stages == {f"structured-0.1-seed-0-round-2-{arm}" for arm in ("rewind", "random")}
    assert artifacts(job / "b") == artifacts(job / "a")
    facts = [json.loads((job / out / "artifacts/report.json").read_text())["steps"][0]["facts"] for out in ("a", "b")]
    assert facts[0] == facts[1]
    network = load_network(job / "a/artifacts/model.safetensors")
    assert facts[0]["ticket"]["weights_left"] == pytest.approx(0.2, abs=0.03)
    assert network.provenance[-1]["step"] == "prune.lottery"


def test_first_weights_of_another_model_are_what_the_ticket_starts_from(tmp_path: Path) -> None:
    """A rate so small that training leaves the weights where they began."""
    initial = network_of(Chain(), 1, 8, 8, seed=9)
    training = {**TRAINING, "learning_rate": 1e-6, "weight_decay": 0}
    fields = {"initial": "first", "training": training, "small_rate": None, "arms": []}
    found = lottery(tmp_path, {"first": initial}, **fields).network
    for name in weight_names(found):
        value, first = found.module.get_parameter(name), initial.module.get_parameter(name)
        places = value != 0
        assert torch.allclose(value[places], first[places], atol=1e-4)
    other = network_of(Chain(), 1, 8, 8, seed=9)
    other.module.head = torch.nn.Linear(20, 4)
    with pytest.raises(SpecError, match="isn't the job's model before training") as fault:
        lottery(tmp_path / "b", {"first": other}, **fields)
    assert fault.value.where == "/initial"


def test_rewinding_to_a_step_goes_back_to_the_weights_of_that_step(tmp_path: Path) -> None:
    network = network_of(Chain(), 1, 8, 8)
    fields: dict[str, Any] = {"training": TRAINING, "small_rate": None, "kinds": ["weights"]}
    first, early = (
        Experiment(network, PruneLottery(rewind_step=step, **fields), context_for(tmp_path, network), [])
        for step in (0, 7)
    )
    lot = first.lots()[0]
    fresh, rewound = (experiment._initial(lot).module.get_parameter("hidden.weight") for experiment in (first, early))
    assert not torch.equal(fresh, rewound)
    stages = [path.name for path in tmp_path.iterdir()]
    assert stages == [f"0-test-{lot.stage}-early"]
    history = json.loads((tmp_path / stages[0] / "facts.json").read_text())["history"]
    assert history[-1]["epoch"] == pytest.approx(7 / 6, abs=1e-3)  # six batches of 64 in 330 samples


def test_a_size_that_channels_cant_be_cut_to_is_refused_before_any_training(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="channels can't be cut so far") as fault:
        lottery(tmp_path, kinds=["weights", "structured"], sparsity=0.999)
    assert fault.value.where == "/kinds"
    assert list(tmp_path.iterdir()) == []


def test_the_trained_network_teaches_no_ticket_where_there_are_labels(tmp_path: Path) -> None:
    network = network_of(Chain(), 1, 8, 8)
    for labelled, loss in ((True, "labels"), (False, "auto")):
        context = context_for(tmp_path, network, labelled=labelled)
        experiment = Experiment(network, PruneLottery(), context, [])
        assert experiment._training(experiment.lots()[0], 1.0).loss == loss


def test_every_arm_is_trained_as_long_as_it_should_be(tmp_path: Path) -> None:
    arms = ["finetune", "signs", "random_signs", "random", "scratch_b"]
    training = {**TRAINING, "epochs": 1}
    fields: dict[str, Any] = {"kinds": ["weights", "structured"], "training": training, "budget": 1.5, "seeds": 2}
    facts = lottery(tmp_path, arms=arms, small_rate=0.01, rounds=1, **fields).facts
    cells = {(cell["kind"], cell["rate"]): cell for cell in facts["lottery"]}
    assert len(cells) == 4
    lines = cells["weights", "large"]["over_iterations"]
    assert set(lines) == {"dense", "rewind", *arms}
    assert {arm: line[-1][0] for arm, line in lines.items()} == dict.fromkeys(lines, 6) | {"scratch_b": 9}
    assert set(cells["structured", "small"]["over_iterations"]) == {
        "dense",
        "rewind",
        "finetune",
        "random",
        "scratch_b",
    }
    left = [entry["weights_left"] for entry in cells["weights", "small"]["rounds"]]
    assert left == pytest.approx([1, 0.25], abs=2e-3)
    assert facts["ticket"]["score"] == max(cell["rounds"][-1]["arms"]["rewind"]["score"][2] for cell in cells.values())
    json.dumps(facts, allow_nan=False)  # as the report takes them
