"""`quantize.mixed`: what it measures, that the budget holds, and what it leaves for the steps after it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from compression.encodings import Grid, Mask
from compression.errors import SpecError
from compression.methods.quantize.mixed import QuantizeMixed, apply
from compression.network import Network
from compression.quantization.mixed import chosen_bits
from compression.quantization.sensitivity import Judge, grid_for, sensitivities
from tests.engine.nets import Chain, network_of
from tests.engine.quantization.test_codebook import WEIGHTS, run
from tests.engine.training.test_loop import context_for, state

COUNTS = {"conv1.weight": 72, "conv2.weight": 864, "hidden.weight": 960, "head.weight": 100}
TOTAL, STEPS = sum(COUNTS.values()), 8 + 12 + 20 + 5


def chain() -> Network:
    return network_of(Chain(), 1, 8, 8)


def grids(network: Network) -> dict[str, Grid]:
    found = {name: encoding for name, encoding in network.encodings.items() if isinstance(encoding, Grid)}
    assert found.keys() == network.encodings.keys()
    return found


def test_a_sensitivity_is_the_rise_of_the_divergence(tmp_path: Path) -> None:
    """Against Σ p ln(p / q) in numpy, of the network with that one weight rounded by hand."""
    network = chain()
    context = context_for(tmp_path, network)
    judge = Judge(64, "original", context)
    table = sensitivities(network, ["hidden.weight", "head.weight"], [2, 5], judge, context)
    chosen = torch.randperm(330, generator=torch.Generator().manual_seed(context.seed))[:64]
    assert context.data is not None
    x = context.data.train.inputs["x"][chosen]
    for name, row in table.items():
        assert row[2] > row[5] > 0
        for bits, found in row.items():
            rounded = chain()
            weight = rounded.module.get_parameter(name)
            with torch.no_grad():
                step = grid_for(weight, bits).step[:, None]
                high = 2 ** (bits - 1) - 1
                weight.copy_((weight / step).round().clamp(-high, high) * step)
                logits = [side.module(x).double().numpy() for side in (network, rounded)]
            p, q = (np.exp(entry) / np.exp(entry).sum(1, keepdims=True) for entry in logits)
            assert found == pytest.approx(float((p * np.log(p / q)).sum(1).mean()), rel=1e-5)
    assert judge.loss(network.module) == pytest.approx(0, abs=1e-12)


def test_against_labels_it_is_the_rise_of_the_cross_entropy(tmp_path: Path) -> None:
    network = chain()
    context = context_for(tmp_path, network)
    assert context.data is not None
    data = context.data.train
    judge = Judge(10_000, "labels", context)
    with torch.no_grad():
        wanted = torch.nn.functional.cross_entropy(network.module(data.inputs["x"]), data.labels)
    assert judge.loss(network.module) == pytest.approx(float(wanted), rel=1e-5)
    with pytest.raises(SpecError) as fault:
        Judge(10, "labels", context_for(tmp_path / "b", network, labelled=False))
    assert fault.value.where == "/against"


@pytest.mark.parametrize(("field", "value"), [("bits", 3.5), ("bytes", 1100), ("ratio", 7.5)])
def test_the_budget_holds_and_is_used(field: str, value: float, tmp_path: Path) -> None:
    network = chain()
    before = state(network)
    result = apply(network, QuantizeMixed.model_validate({field: value}), context_for(tmp_path, network))
    facts = result.facts
    used = sum(COUNTS[name] * bits for name, bits in facts["bits"].items())
    size = (used + 32 * STEPS) / 8
    allowed = {"bits": 3.5 * TOTAL, "bytes": 8 * 1100 - 32 * STEPS, "ratio": 32 * TOTAL / 7.5 - 32 * STEPS}[field]
    assert used <= allowed < used + max(COUNTS.values())
    assert facts["bytes"] == int(np.ceil(size))
    assert facts["average_bits"] == pytest.approx(used / TOTAL, abs=1e-4)
    for name, grid in grids(result.network).items():
        high = 2 ** (facts["bits"][name] - 1) - 1
        assert (grid.low, grid.high) == (-high, high)
        weight = result.network.module.get_parameter(name).detach()
        levels = weight / grid.step.reshape(-1, *[1] * (weight.dim() - 1))
        assert torch.allclose(levels, levels.round(), atol=1e-5)
        assert float(levels.abs().max()) <= high + 1e-3
    assert facts["measured_loss_increase"] < facts["uniform_loss_increase"]
    chosen = chosen_bits({k: {int(b): c for b, c in r.items()} for k, r in facts["sensitivity"].items()}, COUNTS, used)
    assert chosen == facts["bits"]
    assert all(torch.equal(tensor, before[name]) for name, tensor in state(network).items())


def test_a_budget_below_the_fewest_bits_is_refused_with_the_least_possible(tmp_path: Path) -> None:
    network = chain()
    least = int(np.ceil((2 * TOTAL + 32 * STEPS) / 8))
    cases: list[tuple[dict[str, Any], str]] = [
        ({"bytes": least - 1}, f"{least} bytes"),
        ({"ratio": 15}, f"a ratio of {np.floor(100 * 4 * TOTAL / least) / 100:.2f}"),
        ({"bits": 2.5, "minimum_bits": 3}, "3 bits"),
    ]
    for fields, possible in cases:
        with pytest.raises(SpecError) as fault:
            apply(network, QuantizeMixed.model_validate(fields), context_for(tmp_path, network))
        assert possible in fault.value.message
        assert fault.value.where == f"/{next(iter(fields))}"
    fits = apply(network, QuantizeMixed(bytes=least), context_for(tmp_path, network))
    assert set(fits.facts["bits"].values()) == {2}


def test_one_budget_and_bits_in_order() -> None:
    for fields in ({}, {"bits": 3, "ratio": 8}, {"bits": 4, "minimum_bits": 6, "maximum_bits": 5}):
        with pytest.raises(ValidationError):
            QuantizeMixed.model_validate(fields)


def test_steps_and_weights_are_trained(tmp_path: Path) -> None:
    """The outputs come nearer to the original's, the bits stay, and the steps are no longer those of the rounding."""
    network = chain()
    training = {"epochs": 6, "optimizer": "adamw", "learning_rate": 0.003}
    spec = QuantizeMixed.model_validate({"bits": 2.5, "finetune": training, "layers": {"exclude": ["conv1"]}})
    result = apply(network, spec, context_for(tmp_path, network, labelled=False))
    history = result.facts["training"]["history"]
    assert max(entry["sqnr_db"] for entry in history) > history[0]["sqnr_db"] + 1
    found = grids(result.network)
    assert set(found) == set(WEIGHTS) - {"conv1.weight"}
    for name, grid in found.items():
        width = result.facts["bits"][name]
        assert grid.high == 2 ** (width - 1) - 1
        assert not torch.equal(grid.step, grid_for(network.module.get_parameter(name).detach(), width).step)


def test_in_a_pipeline(tmp_path: Path) -> None:
    """After a mask, whose zeros stay without training; before a finetuning and a coded file."""
    outcome = run(
        [
            {"method": "prune.weights", "sparsity": 0.6, "rounds": 1, "finetune": {"epochs": 0.5}},
            {"method": "quantize.mixed", "bits": 3},
        ],
        tmp_path,
    )
    zeros = sum(int((outcome.network.module.get_parameter(name) == 0).sum()) for name in WEIGHTS)
    assert zeros >= round(0.6 * TOTAL)
    assert not any(isinstance(encoding, Mask) for encoding in outcome.network.encodings.values())
    (tmp_path / "b").mkdir()
    outcome = run(
        [
            {"method": "quantize.mixed", "ratio": 6},
            {"method": "finetune", "training": {"epochs": 2, "optimizer": "adamw", "learning_rate": 0.01}},
            {"method": "encode"},
        ],
        tmp_path / "b",
    )
    assert outcome.steps[1]["facts"]["best_epoch"] > 0
    found = grids(outcome.network)
    assert {name: grid.high for name, grid in found.items()} == {
        name: 2 ** (bits - 1) - 1 for name, bits in outcome.steps[0]["facts"]["bits"].items()
    }
