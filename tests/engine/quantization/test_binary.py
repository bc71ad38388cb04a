"""`quantize.binary`: signs and scales against numpy, what they learn, zeros, files, resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compression.container.network import encode, read_nwk
from compression.encodings import Codebook, Mask
from compression.export.writers import export_network
from compression.methods.quantize.binary import QuantizeBinary, apply, check
from compression.quantization.binary import Binary
from compression.quantization.codebook import codebook_of
from compression.zoo.catalog import zoo_network
from tests.engine.quantization.test_codebook import chain, run
from tests.engine.quantization.test_ternary import INNER, TRAINING, drawn, kept, same
from tests.engine.training.test_loop import Killed, KillingReporter, context_for


@pytest.mark.parametrize("masked", [False, True])
def test_it_begins_with_the_signs_and_scales_of_the_least_squared_error(masked: bool) -> None:
    """Rastegari et al. 2016, equation 6; each α against numpy's least squares, each sign against its flip."""
    mask = kept() if masked else torch.ones(6, 5, 3, 3, dtype=torch.bool)
    binary = Binary(drawn().shape, kept() if masked else None)
    found = binary.value(binary.free(drawn())).numpy().reshape(6, -1).astype(np.float64)
    rows = zip(found, drawn().numpy().reshape(6, -1).astype(np.float64), mask.numpy().reshape(6, -1), strict=True)
    for value, weights, where in rows:
        np.testing.assert_array_equal(np.sign(value), np.where(weights < 0, -1, 1) * where)
        (alpha,), *_ = np.linalg.lstsq(np.sign(value)[:, None], weights, rcond=None)
        assert np.abs(value).max() == pytest.approx(alpha, rel=1e-6)
        error = ((weights - value) ** 2)[where].sum()
        assert all(((weights - value * flip) ** 2)[where].sum() > error for flip in (1 - 2 * np.eye(len(value)))[where])


def test_scales_get_the_sums_of_signed_gradients_and_weights_get_theirs() -> None:
    """∂L/∂α = Σ sign(w) · ∂L/∂ŵ over a channel, by central differences of Σ g · α · sign(w) in numpy."""
    gradient = drawn(5).double().numpy()
    binary = Binary(drawn().shape, kept())
    free = binary.free(drawn()).requires_grad_()
    binary.value(free).backward(torch.from_numpy(gradient).float())
    signs = np.where(drawn().numpy() < 0, -1, 1) * kept().numpy()
    scales = free.detach()[-6:].double().numpy()

    def loss(changed: np.ndarray[Any, Any]) -> float:
        return float((gradient * signs * changed[:, None, None, None]).sum())

    assert free.grad is not None
    moves = 1e-3 * np.eye(6)
    by_differences = [(loss(scales + move) - loss(scales - move)) / 2e-3 for move in moves]
    np.testing.assert_allclose(free.grad[-6:].numpy(), by_differences, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(free.grad[:-6].numpy().reshape(6, 5, 3, 3), gradient * kept().numpy(), rtol=1e-6)


def test_what_it_settles_to_is_the_same_parameter_and_zero_is_positive() -> None:
    value = drawn()
    value[0, 0, 0] = 0
    value[1] = value[1].abs()
    for held in (None, kept(), torch.zeros(6, 5, 3, 3, dtype=torch.bool)):
        binary = Binary(value.shape, held)
        free = binary.free(value)
        codebook, found = binary.settled(free), binary.value(free)
        assert torch.equal(codebook.value(codebook.free(found)), found)
        if held is None:
            assert bool((found[0, 0, 0] > 0).all())
            assert len(found.unique()) == 2 * 6 - 1


def test_without_training_it_is_bwn(tmp_path: Path) -> None:
    network = chain()
    result = apply(network, QuantizeBinary(training=None), context_for(tmp_path, network))
    for name in INNER:
        before = network.module.get_parameter(name).detach().numpy()
        alpha = np.abs(before).reshape(len(before), -1).mean(1)
        wanted = np.where(before < 0, -1, 1) * alpha.reshape(-1, *[1] * (before.ndim - 1))
        np.testing.assert_allclose(result.network.module.get_parameter(name).detach().numpy(), wanted, rtol=1e-6)
        facts = result.facts["parameters"][name]
        assert (facts["levels"], facts["scales"], facts["zeros_percent"]) == (2, len(before), 0)
        assert facts["mean_scale"] == pytest.approx(alpha.mean(), abs=1e-6)
    assert result.facts["parameters"]["head.weight"] == {"bits": 8}
    one = apply(network, QuantizeBinary(training=None, first_last_bits=1), context_for(tmp_path, network))
    assert all(len(row.unique()) == 2 for row in one.network.module.get_parameter("head.weight").detach())
    assert check(network).applicable


def test_scales_and_signs_are_learned(tmp_path: Path) -> None:
    network = chain()
    spec = QuantizeBinary.model_validate({"training": TRAINING | {"epochs": 6, "learning_rate": 0.01}})
    result = apply(network, spec, context_for(tmp_path, network))
    plain = apply(network, QuantizeBinary(training=None), context_for(tmp_path / "b", network)).network
    history = result.facts["training"]["history"]
    assert max(entry["accuracy"] for entry in history) > history[0]["accuracy"] + 0.2
    for name in INNER:
        value, first = (entry.module.get_parameter(name).detach() for entry in (result.network, plain))
        assert all(len(row.abs().unique()) == 1 for row in value)
        assert not torch.equal(value.sign(), first.sign())
        assert not torch.equal(value.abs(), first.abs())


def test_pruned_weights_stay_zero_and_others_are_binary(tmp_path: Path) -> None:
    steps: list[dict[str, Any]] = [
        {"method": "prune.weights", "sparsity": 0.6, "rounds": 1, "finetune": None},
        {"method": "quantize.binary", "training": TRAINING},
        {"method": "finetune", "training": {"epochs": 1}},
        {"method": "encode"},
    ]
    network, pruned = run(steps, tmp_path).network, run(steps[:1], tmp_path).network
    for name in INNER:
        value, mask = network.module.get_parameter(name).detach(), pruned.encodings[name]
        assert isinstance(mask, Mask)
        assert torch.equal(value != 0, mask.keep)
        assert all(len(row[row != 0].unique()) <= 2 for row in value)


def test_files_take_about_a_bit_a_weight(tmp_path: Path) -> None:
    network = zoo_network("lenet300", {"features": 200}, seed=0)
    binary = apply(network, QuantizeBinary(training=None), context_for(tmp_path, network)).network
    exported = export_network(binary.replaced(provenance=()), ["onnx", "nwk"], tmp_path)
    weights = 300 * 100  # of the layer in the middle; those at the ends have bytes
    ends = 200 * 300 + 100 * 10
    floats = 4 * (300 + 100 + 10)
    onnx_bytes, nwk_bytes = (file.bytes for file in exported)
    assert weights / 8 + ends < onnx_bytes < weights / 8 + ends + floats + 4 * (300 + 3 * 100) + 8000
    assert nwk_bytes < weights / 8 + ends + floats + 4 * (300 + 2 * 100) + 2000
    again = read_nwk(tmp_path / "model.nwk")
    assert same(again, binary.replaced(provenance=()))


def test_a_single_codebook_has_no_numbers(tmp_path: Path) -> None:
    """One output channel, or fewer than a group: its file would be read as one codebook for all."""
    assert Codebook(torch.tensor([[0, 1]]), torch.tensor([0])).rows is None
    assert codebook_of(torch.randn(5, 8), torch.zeros(5, 8, dtype=torch.bool), 4, 10).rows is None
    network = zoo_network("lenet300", {"features": 4, "classes": 2}, seed=0)
    several = Codebook(torch.randint(0, 2, (300, 4)), torch.arange(300)).select(0, torch.tensor([7]))
    assert several.rows is None
    spec = QuantizeBinary(training=None, first_last_bits=1)
    binary = apply(network, spec, context_for(tmp_path, network)).network
    (tmp_path / "a.nwk").write_bytes(encode(binary).file)
    assert same(read_nwk(tmp_path / "a.nwk"), binary)


def test_a_killed_run_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    network, spec = chain(), QuantizeBinary.model_validate({"training": TRAINING})
    whole = apply(network, spec, context_for(tmp_path / "whole", network))
    with pytest.raises(Killed):
        apply(network, spec, context_for(tmp_path / "cut", network, KillingReporter(4)))
    resumed = apply(network, spec, context_for(tmp_path / "cut", network))
    assert same(whole.network, resumed.network)
    assert resumed.facts == whole.facts
