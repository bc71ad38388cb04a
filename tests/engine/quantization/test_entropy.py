"""`quantize.entropy`: it gets smaller, meets its targets, resumes to the same bytes, and files keep what it made."""

from __future__ import annotations

import json
import math
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from compression.container.network import encode, read_nwk
from compression.encodings import Grid, Mask
from compression.errors import SpecError
from compression.measure.cost import cost_of
from compression.methods.quantize.entropy import QuantizeEntropy, apply, check
from compression.network import Network
from compression.quantization.entropy import file_bytes, on_grid
from compression.quantization.importance import fisher
from compression.quantization.learned_grid import LearnedGrid
from compression.quantization.targets import FIRST_RATIO, Round, allowed_accuracy, byte_limit, chosen, next_start
from compression.training.loop import train
from compression.training.spec import Training
from tests.engine.nets import Chain, network_of
from tests.engine.test_cli import artifacts, events_of, job, run_command
from tests.engine.training.test_loop import Killed, KillingReporter, context_for, state

__all__ = ["job"]  # a fixture
TRAINING = {"epochs": 2, "optimizer": "adamw", "learning_rate": 0.003}


def chain() -> Network:
    return network_of(Chain(), 1, 8, 8)


def entropy(**fields: Any) -> QuantizeEntropy:
    return QuantizeEntropy.model_validate({"training": TRAINING, **fields})


def test_a_larger_weight_of_the_rate_makes_a_smaller_file_that_comes_back(tmp_path: Path) -> None:
    network, sizes = chain(), []
    for weight in (0.01, 10.0):
        spec = entropy(rate_weight=weight, training={**TRAINING, "epochs": 4, "batch_size": 16, "learning_rate": 0.01})
        result = apply(network, spec, context_for(tmp_path / str(weight), network))
        sizes.append(result.facts["file_bytes"])
        assert sizes[-1] == result.facts["rounds"][-1]["file_bytes"]
        for name, encoding in result.network.encodings.items():
            value = result.network.module.get_parameter(name).detach()
            assert isinstance(encoding, Grid)
            levels = (value / encoding.step).round()
            assert torch.equal(levels * encoding.step, value)
            assert float(levels.abs().max()) <= 7
        assert {name for name in result.network.encodings if name.startswith("norm")} == set()
        path = tmp_path / f"{weight}.nwk"
        path.write_bytes(encode(result.network).file)
        assert all(torch.equal(value, state(read_nwk(path))[name]) for name, value in state(result.network).items())
    assert sizes[1] < 0.7 * sizes[0]


def test_steps_are_learned_for_each_channel(tmp_path: Path) -> None:
    network = chain()
    spec = entropy(rate_weight=0.1, per_channel=True, layers={"include": ["conv2"]})
    result = apply(network, spec, context_for(tmp_path, network))
    assert set(result.network.encodings) == {"conv2.weight"}
    grid = result.network.encodings["conv2.weight"]
    assert isinstance(grid, Grid)
    assert grid.step.shape == (12,)


@pytest.mark.parametrize("saves", [1, 7])
def test_a_killed_run_with_learned_steps_resumes_to_the_same_bytes(tmp_path: Path, saves: int) -> None:
    network, spec = chain(), Training(epochs=2, optimizer="adamw", learning_rate=0.003)

    def run(folder: str, reporter: KillingReporter | None = None) -> Network:
        shape = network.module.get_parameter("conv2.weight").shape
        learned = {"conv2.weight": LearnedGrid(torch.full((12,), 0.05), 3, shape)}
        context = context_for(tmp_path / folder, network, reporter)
        return train(network, spec, context, stage="s", keep="last", learned=learned)[0]

    undisturbed = run("a")
    with pytest.raises(Killed):
        run("b", KillingReporter(saves))
    run("b")
    files = {path.name: path.read_bytes() for path in (tmp_path / "a").rglob("network.safetensors")}
    assert files
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "b").rglob("network.safetensors")}
    grid = undisturbed.encodings["conv2.weight"]
    assert isinstance(grid, Grid)
    assert not torch.equal(grid.step, torch.full((12,), 0.05))


def test_killed_on_the_command_line_it_delivers_the_same_files(job: Path) -> None:
    step = {"method": "quantize.entropy", "ratio": 1.02, "rdoq": {"samples": 16}, "training": {**TRAINING}}
    step |= {"layers": {"include": ["*3"]}}  # of few weights: each file that is written on the way takes its time
    (job / "spec.json").write_text(json.dumps({"steps": [step, {"method": "encode"}], "exports": ["onnx"]}))
    subprocess.run(run_command(job, "a"), capture_output=True, text=True, check=True)
    with subprocess.Popen(run_command(job, "b"), stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        for line in killed.stdout:
            if json.loads(line)["event"] == "checkpoint":
                killed.send_signal(signal.SIGKILL)
                break
    assert not artifacts(job / "b")
    resumed = subprocess.run(run_command(job, "b"), capture_output=True, text=True, check=True)
    assert events_of(resumed.stdout)[-1]["event"] == "done"
    assert artifacts(job / "b") == artifacts(job / "a")
    assert set(artifacts(job / "a")) == {"model.onnx", "model.nwk"}


def made(network: Network, size: int, accuracy: float) -> Round:
    return Round(size, network, size, {"accuracy": accuracy, "score": accuracy, "loss": 1 - accuracy, "epoch": 1})


def test_a_target_of_accuracy_halves_the_bytes_and_then_the_gap() -> None:
    given, networks = chain(), [chain() for _ in range(4)]
    rounds = [made(networks[0], 2000, 0.95)]
    assert next_start(given, rounds, 0.9) == (networks[0], 1000)
    rounds.append(made(networks[1], 990, 0.85))
    assert next_start(given, rounds, 0.9) == (networks[0], round(math.sqrt(2000 * 990)))
    rounds.append(made(networks[2], 1400, 0.92))
    assert next_start(given, rounds, 0.9) == (networks[2], round(math.sqrt(1400 * 990)))
    assert chosen(rounds, 0.9).network is networks[2]
    rounds.append(made(networks[3], 1600, 0.89))  # worse than a smaller one, by chance
    assert next_start(given, rounds, 0.9) == (networks[2], round(math.sqrt(1400 * 990)))
    assert chosen(rounds[1:2], 0.9).network is networks[1]
    assert next_start(given, rounds[1:2], 0.9) == (given, 1980)


def test_a_target_of_bytes_is_met_nearly(tmp_path: Path) -> None:
    network = chain()
    training = {**TRAINING, "epochs": 6, "batch_size": 16, "learning_rate": 0.01}
    result = apply(network, entropy(bytes=1000, training=training), context_for(tmp_path, network))
    assert file_bytes(on_grid(network, list(result.facts["parameters"]), entropy(bytes=1000))) > 1300
    assert result.facts["target_bytes"] == 1000
    assert result.facts["target_met"]
    assert 900 <= result.facts["file_bytes"] <= 1000


def test_a_killed_run_that_aims_at_bytes_resumes_to_the_same(tmp_path: Path) -> None:
    network, spec = chain(), entropy(bytes=1000)

    def run(folder: str, reporter: KillingReporter | None = None) -> Network:
        return apply(network, spec, context_for(tmp_path / folder, network, reporter)).network

    undisturbed = encode(run("undisturbed")).file
    for saves in (3, 8):
        with pytest.raises(Killed):
            run(str(saves), KillingReporter(saves))
        assert encode(run(str(saves))).file == undisturbed


@pytest.mark.parametrize("target", [{"rate_weight": 0.01}, {"accuracy_drop": 100.0, "rounds": 2}])
def test_zeros_of_a_mask_stay(tmp_path: Path, target: dict[str, Any]) -> None:
    network = chain()
    weight = network.module.get_parameter("conv2.weight").detach()
    masked = network.replaced(encodings={"conv2.weight": Mask(weight.abs() > weight.abs().median())}).copy()
    masked.project()
    spec = entropy(**target, training={**TRAINING, "learning_rate": 0.03})
    result = apply(masked, spec, context_for(tmp_path, masked)).network
    after = result.module.get_parameter("conv2.weight").detach()
    zero = masked.module.get_parameter("conv2.weight").detach() == 0
    assert int(zero.sum()) >= weight.numel() // 2
    assert bool((after[zero] == 0).all())
    assert bool((after[~zero] != 0).any())


def test_a_grid_of_other_levels_gets_a_step_of_its_own(tmp_path: Path) -> None:
    """With the step of 127 levels, 7 would reach an eighteenth of the largest weight."""
    network = chain()
    fine = on_grid(network, ["conv2.weight"], QuantizeEntropy(levels=127, rate_weight=1))
    spec = entropy(rate_weight=1e-6, training={**TRAINING, "learning_rate": 1e-6})
    result = apply(fine, spec, context_for(tmp_path, fine)).network
    largest = [float(side.module.get_parameter("conv2.weight").detach().abs().max()) for side in (network, result)]
    assert largest[1] > 0.5 * largest[0]


def test_a_ratio_that_leaves_less_than_a_byte_is_aimed_at_all_the_same(tmp_path: Path) -> None:
    network = chain()
    spec = entropy(ratio=100_000, training={**TRAINING, "epochs": 0.2})
    assert byte_limit(spec, context_for(tmp_path, network)) == 1
    facts = apply(network, spec, context_for(tmp_path, network)).facts
    assert (facts["target_bytes"], facts["target_met"]) == (1, False)


def test_rounding_and_rdoq_without_training(tmp_path: Path) -> None:
    network, sizes = chain(), []
    for price in (1e-9, 1e-3, 1e-1):
        spec = QuantizeEntropy.model_validate({"training": None, "rdoq": {"bit_price": price, "samples": 50}})
        result = apply(network, spec, context_for(tmp_path / str(price), network))
        sizes.append(result.facts["file_bytes_after_rdoq"])
        assert sizes[-1] == file_bytes(result.network)
    assert sizes[0] > sizes[1] > sizes[2]


def test_importance_is_the_diagonal_of_the_fisher_information(tmp_path: Path) -> None:
    """Of one linear layer and classes: F of W_ij is the mean over samples of x_j² p_i (1 − p_i)."""

    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(64, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(torch.flatten(x, 1))

    network = network_of(Linear(), 1, 8, 8)
    context = context_for(tmp_path, network)
    assert context.data is not None
    found = fisher(network, ["head.weight"], 330, context)["head.weight"]
    x = context.data.train.inputs["x"].flatten(1)
    p = network.module(x.reshape(-1, 1, 8, 8)).softmax(1).detach()
    wanted = (p * (1 - p)).T @ x.square() / len(x)
    assert float((found - wanted).norm() / wanted.norm()) < 0.2
    unlabelled = fisher(network, ["head.weight"], 330, context_for(tmp_path / "u", network, labelled=False))
    gauss_newton = x.square().mean(0).expand(5, -1)
    assert float((unlabelled["head.weight"] - gauss_newton).norm() / gauss_newton.norm()) < 0.25


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"rate_weight": 1, "bytes": 1000},
        {"training": None},
        {"training": None, "rdoq": {}, "ratio": 10},
        {"levels": 0, "ratio": 10},
        {"ratio": 10, "rounds": 2},
        {"ratio": 10, "mixup": 1, "training": {"loss": "both"}},
    ],
)
def test_a_spec_needs_one_target(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"give one|goes with|needs rdoq|rounds are for|greater than|no label"):
        QuantizeEntropy.model_validate(fields)


@pytest.mark.parametrize("target", [{"bytes": 1000}, {"ratio": 10}, {"rate_weight": 1}, {"accuracy_drop": 1}])
def test_a_spec_with_its_defaults_spelt_out_is_a_spec(target: dict[str, Any]) -> None:
    """As a job is stored, and run."""
    spec = entropy(**target)
    assert QuantizeEntropy.model_validate(spec.model_dump(mode="json")) == spec


def test_samples_may_be_altered_and_then_the_teacher_is_asked_anew(tmp_path: Path) -> None:
    network = chain()
    files = []
    for index, fields in enumerate(({}, {"mixup": 1.0}, {"shift": 1, "noise": 0.1})):
        spec = entropy(rate_weight=1.0, layers={"include": ["hidden"]}, **fields)
        result = apply(network, spec, context_for(tmp_path / str(index), network))
        files.append(state(result.network)["hidden.weight"])
    assert not torch.equal(files[0], files[1])
    assert not torch.equal(files[0], files[2])
    with pytest.raises(SpecError) as fault:
        apply(network, entropy(rate_weight=1.0, shift=8), context_for(tmp_path / "far", network))
    assert fault.value.where == "/shift"


def test_no_more_accuracy_is_lost_than_allowed(tmp_path: Path) -> None:
    network, _ = train(
        chain(), Training(epochs=8, learning_rate=0.05, loss="labels"), context_for(tmp_path / "a", chain()), stage="a"
    )
    spec = entropy(accuracy_drop=2.0, rounds=3)
    result = apply(network, spec, context_for(tmp_path / "b", network))
    rounds = result.facts["rounds"]
    before = allowed_accuracy(network, spec, context_for(tmp_path / "c", network))
    within = [entry["file_bytes"] for entry in rounds if entry["validation_accuracy"] >= before]
    assert within
    assert result.facts["file_bytes"] == min(within)
    assert rounds[0]["target_bytes"] == round(cost_of(network).bytes / FIRST_RATIO)


def test_an_accuracy_needs_labels(tmp_path: Path) -> None:
    network = chain()
    assert check(network).applicable
    with pytest.raises(SpecError) as fault:
        apply(network, entropy(accuracy_drop=1.0), context_for(tmp_path, network, labelled=False))
    assert fault.value.where == "/accuracy_drop"
