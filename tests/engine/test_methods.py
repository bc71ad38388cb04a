"""Every method on every architecture of the zoo: what `check` says holds in fact, and the outcome is verified."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compression.events import Reporter
from compression.intake.weights import save_network
from compression.integer import known_cost
from compression.measure.cost import cost_of
from compression.network import Network
from compression.pipeline import Job, compress, load
from compression.registry import methods
from compression.spec import parse_job
from compression.zoo.catalog import ARCHITECTURES, zoo_network
from tests.engine.nets import Summed, network_of

SMALL: dict[str, dict[str, Any]] = {
    "lenet300": {"features": 49},
    "lenet5": {},
    "resnet20": {"in_channels": 1, "height": 12, "width": 12, "channels": 8},
    "resnet56": {"in_channels": 1, "height": 8, "width": 8, "channels": 4},
    "vgg-small": {"in_channels": 1, "height": 16, "width": 16, "channels": 8},
    "mobilenet-v1": {"in_channels": 1, "height": 16, "width": 16, "multiplier": 0.25},
    "mobilenet-v2": {"in_channels": 1, "height": 16, "width": 16, "multiplier": 0.25},
    "vit-tiny": {"in_channels": 1, "height": 12, "width": 8, "embedding": 24, "depth": 2, "heads": 3, "hidden": 48},
}
STEPS: dict[str, dict[str, Any]] = {
    "prune.structured": {"macs_ratio": 0.6, "rounds": 2, "finetune": {"epochs": 0.5}},
    "finetune": {"training": {"epochs": 0.5}},
    "encode": {"coder": "range"},
    "factorize.depthwise": {"samples": 32, "finetune": {"epochs": 0.5}},
    "factorize.lowrank": {"macs_ratio": 0.9, "multiple_of": 1, "samples": 32, "finetune": {"epochs": 0.5}},
    "distill": {"training": {"epochs": 0.5}},
    "prune.weights": {"sparsity": 0.8, "rounds": 2, "finetune": {"epochs": 0.5}},
    "prune.lottery": {
        "rounds": 1,
        "sparsity": 0.5,
        "kinds": ["weights"],
        "arms": ["random"],
        "small_rate": None,
        "training": {"epochs": 0.5},
    },
    "quantize.float16": {"dtype": "bfloat16", "finetune": {"epochs": 0.5}},
    "quantize.ternary": {"training": {"epochs": 0.5, "optimizer": "adamw", "learning_rate": 0.001}},
    "quantize.binary": {"training": {"epochs": 0.5, "optimizer": "adamw", "learning_rate": 0.001}},
    "quantize.codebook": {"finetune": {"epochs": 0.5}},
    "quantize.mixed": {"bits": 4, "samples": 16},
    "quantize.int8": {"mode": "static", "samples": 16, "accuracy_budget": 100},
    "quantize.int4": {"samples": 16},
    "quantize.entropy": {
        "rate_weight": 1,
        "rounds": 1,
        "training": {"epochs": 0.5, "optimizer": "adamw", "learning_rate": 0.001},
    },
}
NOT_FOR = {"factorize.depthwise": {"lenet300", "mobilenet-v1", "mobilenet-v2", "vit-tiny"}}
"""Architectures that hold nothing for a method to do."""


def test_the_table_below_is_complete() -> None:
    assert set(SMALL) == set(ARCHITECTURES)
    assert set(STEPS) == set(methods())


def data_for(network: Network, path: Path, samples: int = 80) -> Path:
    random = np.random.default_rng(0)
    shape = network.signature.inputs[0].shape
    np.savez(path, x=random.normal(size=(samples, *shape)).astype(np.float32), y=np.arange(samples) % 10)
    return path


def settle(network: Network) -> Network:
    """Statistics of batch norm that fit the data: random weights alone blow activations up."""
    settled = network.copy()
    settled.module.train()
    with torch.no_grad():
        for seed in range(20):
            settled.module(*network.example(16, seed=seed))
    settled.module.eval()
    return settled


@pytest.mark.parametrize("architecture", SMALL)
@pytest.mark.parametrize("method", STEPS)
def test_method_on_architecture(method: str, architecture: str, tmp_path: Path) -> None:
    network = settle(zoo_network(architecture, SMALL[architecture], seed=0))
    verdict = methods()[method].check(network)
    if architecture in NOT_FOR.get(method, set()):
        assert not verdict.applicable
        return
    assert verdict.applicable, verdict.reason
    save_network(network, tmp_path / "m.safetensors")
    spec = parse_job({"steps": [{"method": method, **STEPS[method]}]})
    job = Job(
        spec=spec,
        model=tmp_path / "m.safetensors",
        data=data_for(network, tmp_path / "d.npz"),
        out=tmp_path,
    )
    reporter = Reporter(io.StringIO())
    outcome = compress(job, load(job, reporter), reporter)
    before, after = cost_of(network), known_cost(outcome.network)
    record = outcome.steps[0]
    assert record["after"]["macs"] == after.macs
    if method == "prune.structured":
        assert 0.4 * before.macs < after.macs <= 0.6 * before.macs
    elif method == "factorize.lowrank":
        assert 0.7 * before.macs < after.macs <= 0.9 * before.macs
    elif method == "factorize.depthwise":
        assert after.macs < before.macs
    else:
        assert after.macs == before.macs


@pytest.mark.parametrize("criterion", ["taylor", "magnitude", "batch_norm"])
def test_every_criterion_runs_without_labels(criterion: str, tmp_path: Path) -> None:
    network = settle(zoo_network("resnet20", SMALL["resnet20"], seed=0))
    save_network(network, tmp_path / "m.safetensors")
    np.savez(tmp_path / "d.npz", x=np.random.default_rng(0).normal(size=(64, 1, 12, 12)).astype(np.float32))
    step = {"method": "prune.structured", "parameters_ratio": 0.7, "rounds": 1, "importance": criterion}
    spec = parse_job({"steps": [step]})
    job = Job(spec=spec, model=tmp_path / "m.safetensors", data=tmp_path / "d.npz", out=tmp_path)
    reporter = Reporter(io.StringIO())
    outcome = compress(job, load(job, reporter), reporter)
    assert cost_of(outcome.network).parameters <= 0.7 * cost_of(network).parameters
    assert outcome.steps[0]["facts"]["rounds"][0]["training"]["loss"] == "teacher"


def test_a_refusing_verdict_names_the_layer_and_the_operator() -> None:
    """All channels reach an operator that isn't followed, or an output."""

    class Stuck(Summed):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(torch.mean(torch.ops.aten.cumsum.default(self.stem(x), 1), [2, 3]))

    network = network_of(Stuck(), 1, 8, 8)
    verdict = methods()["prune.structured"].check(network)
    assert not verdict.applicable
    assert verdict.where == "stem"
    assert "cumsum" in verdict.reason
