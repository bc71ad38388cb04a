"""`prune.weights` and `quantize.codebook`: what they make of weights, alone, together and under distillation."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compression.encodings import Codebook, Grid
from compression.errors import SpecError
from compression.events import Reporter
from compression.intake.weights import save_network
from compression.methods.quantize.codebook import QuantizeCodebook, apply, check
from compression.network import Network
from compression.pipeline import Job, compress, load
from compression.publish import Outcome
from compression.quantization.codebook import clustered, codebook_of
from compression.spec import parse_job
from tests.engine.nets import Chain, network_of
from tests.engine.training.test_loop import context_for

WEIGHTS = ["conv1.weight", "conv2.weight", "hidden.weight", "head.weight"]


def chain() -> Network:
    return network_of(Chain(), 1, 8, 8)


def run(steps: list[dict[str, Any]], folder: Path) -> Outcome:
    save_network(chain(), folder / "m.safetensors")
    random = np.random.default_rng(0)
    y = np.arange(200) % 5
    x = random.normal(size=(5, 1, 8, 8))[y] + random.normal(size=(200, 1, 8, 8))
    np.savez(folder / "d.npz", x=x.astype(np.float32), y=y)
    spec = parse_job({"steps": steps})
    job = Job(spec=spec, model=folder / "m.safetensors", data=folder / "d.npz", out=folder)
    reporter = Reporter(io.StringIO())
    return compress(job, load(job, reporter), reporter)


def test_each_group_of_rows_has_values_of_its_own_and_zeros_none() -> None:
    value = torch.randn(10, 7, generator=torch.Generator().manual_seed(0))
    zeros = value < -0.8
    codebook = codebook_of(value, zeros, 4, 4)
    assert codebook.rows is not None
    assert codebook.rows.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
    near = codebook.value(codebook.free(value))
    assert torch.equal(near == 0, zeros)
    for group in range(3):
        rows = near[codebook.rows == group]
        assert len(rows[rows != 0].unique()) == 4


def test_bits_go_by_the_kind_of_layer(tmp_path: Path) -> None:
    network = chain()
    spec = QuantizeCodebook(convolution_bits=4, linear_bits=2, finetune=None)
    result = apply(network, spec, context_for(tmp_path, network))
    values = {name: len(result.network.module.get_parameter(name).detach().unique()) for name in WEIGHTS}
    assert values["conv2.weight"] == 16
    assert values["hidden.weight"] == values["head.weight"] == 4
    assert result.facts["parameters"]["conv2.weight"]["values"] == 16
    assert check(network).applicable


def test_layers_are_chosen_and_a_choice_without_weights_is_refused(tmp_path: Path) -> None:
    network = chain()
    spec = QuantizeCodebook.model_validate({"layers": {"exclude": ["conv*"]}, "finetune": None})
    result = apply(network, spec, context_for(tmp_path, network))
    assert set(result.network.encodings) == {"hidden.weight", "head.weight"}
    spec = QuantizeCodebook.model_validate({"layers": {"include": ["norm1"]}, "finetune": None})
    with pytest.raises(SpecError) as fault:
        apply(network, spec, context_for(tmp_path, network))
    assert fault.value.where == "/layers"


def test_values_learn(tmp_path: Path) -> None:
    """Training moves the shared values, and the codes stay; the outputs come nearer to the original's."""
    network = chain()
    spec = QuantizeCodebook.model_validate(
        {
            "linear_bits": 2,
            "convolution_bits": 2,
            "finetune": {"epochs": 4, "optimizer": "adamw", "learning_rate": 0.003},
        }
    )
    result = apply(network, spec, context_for(tmp_path, network, labelled=False))
    history = result.facts["training"]["history"]
    assert max(entry["sqnr_db"] for entry in history) > history[0]["sqnr_db"] + 1
    plain, _ = clustered(network, dict.fromkeys(WEIGHTS, 2), None)
    for name in WEIGHTS:
        trained, first = result.network.encodings[name], plain.encodings[name]
        assert isinstance(trained, Codebook)
        assert isinstance(first, Codebook)
        assert torch.equal(trained.codes, first.codes)
        assert not torch.equal(result.network.module.get_parameter(name), plain.module.get_parameter(name))


def test_a_grid_may_be_clustered_and_its_zeros_stay() -> None:
    network = chain().replaced(encodings={"hidden.weight": Grid(torch.tensor(0.05), -7, 7)})
    network.project()
    zeros = network.module.get_parameter("hidden.weight") == 0
    assert bool(zeros.any())
    shared, _ = clustered(network, {"hidden.weight": 2}, None)
    assert torch.equal(shared.module.get_parameter("hidden.weight") == 0, zeros)


def test_pruned_clustered_distilled(tmp_path: Path) -> None:
    """Deep Compression's stages and a distillation after them: zeros and shared values are still there at the end."""
    outcome = run(
        [
            {"method": "prune.weights", "sparsity": 0.7, "rounds": 2, "finetune": {"epochs": 0.5}},
            {"method": "quantize.codebook", "convolution_bits": 4, "linear_bits": 3, "finetune": {"epochs": 0.5}},
            {"method": "distill", "alpha": 0.1, "training": {"epochs": 4, "optimizer": "adamw", "learning_rate": 0.01}},
        ],
        tmp_path,
    )
    network, total, zeros = outcome.network, 0, 0
    for name in WEIGHTS:
        weight, codebook = network.module.get_parameter(name).detach(), network.encodings[name]
        assert isinstance(codebook, Codebook)
        assert torch.equal(weight == 0, codebook.codes < 0)
        assert len(weight[weight != 0].unique()) <= (16 if weight.dim() > 2 else 8)
        total, zeros = total + weight.numel(), zeros + int((weight == 0).sum())
    assert zeros == round(0.7 * total)
    assert outcome.steps[2]["facts"]["training"]["best_epoch"] > 0
    assert [entry["step"] for entry in network.provenance] == ["prune.weights", "quantize.codebook", "distill"]
