"""`quantize.ternary`: where scales begin and what they learn, against formulas in numpy; zeros, ends, files, resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from compression.container.network import encode, read_nwk
from compression.encodings import Codebook, Grid, Mask
from compression.errors import SpecError
from compression.methods.quantize.ternary import QuantizeTernary, apply, check
from compression.network import Network
from compression.quantization.ternary import Measure, Ternary
from tests.engine.quantization.test_codebook import chain, run
from tests.engine.training.test_loop import Killed, KillingReporter, context_for

INNER = ["conv2.weight", "hidden.weight"]
TRAINING = {"epochs": 2, "optimizer": "adamw", "learning_rate": 0.003, "loss": "labels"}
MEASURES: list[tuple[Measure, float]] = [("mean", 0.7), ("max", 0.05), ("max", 0.3)]


def drawn(seed: int = 0) -> Tensor:
    return torch.randn(6, 5, 3, 3, generator=torch.Generator().manual_seed(seed)) * 0.1


def kept() -> Tensor:
    return torch.rand(6, 5, 3, 3, generator=torch.Generator().manual_seed(9)) > 0.5


def begun(value: Tensor, ternary: Ternary) -> NDArray[np.float64]:
    return ternary.value(ternary.free(value)).detach().numpy().astype(np.float64)


@pytest.mark.parametrize(("measure", "share"), MEASURES)
@pytest.mark.parametrize("masked", [False, True])
def test_it_begins_with_the_threshold_and_scale_of_the_papers(measure: Measure, share: float, masked: bool) -> None:
    """Li & Liu 2016, equations 5 and 6, and the threshold of Zhu et al. 2017, equation 9, over what is kept."""
    held = kept() if masked else None
    weights = drawn().numpy().astype(np.float64)
    chosen = weights[kept().numpy()] if masked else weights.ravel()
    delta = share * (np.abs(chosen).mean() if measure == "mean" else np.abs(chosen).max())
    signs = np.sign(weights) * (np.abs(weights) > delta) * (kept().numpy() if masked else 1)
    alpha = np.abs(weights)[signs != 0].mean()
    found = begun(drawn(), Ternary(drawn().shape, held, share, measure))
    np.testing.assert_allclose(found, alpha * signs, rtol=1e-6)
    assert 0 < (signs == 0).mean() < 1


def test_the_scale_is_that_of_the_least_squared_error() -> None:
    """For the signs that Δ gives, against numpy's least squares; and Δ is near the best threshold of all."""
    weights = drawn().numpy().astype(np.float64).ravel()
    found = begun(drawn(), Ternary(drawn().shape, None, 0.7, "mean")).ravel()
    (alpha,), *_ = np.linalg.lstsq(np.sign(found)[:, None], weights, rcond=None)
    assert np.abs(found).max() == pytest.approx(alpha, rel=1e-6)

    def error(delta: float) -> float:
        signs = np.sign(weights) * (np.abs(weights) > delta)
        return float(((weights - signs * np.abs(weights)[signs != 0].mean()) ** 2).sum())

    best = min(error(delta) for delta in np.sort(np.abs(weights))[:-1])
    assert best <= ((weights - found) ** 2).sum() <= 1.03 * best


def test_scales_get_the_sums_of_their_members_gradients_and_weights_get_theirs() -> None:
    """Zhu et al. 2017, equation 7 (with the sign that −Wₙ has), against central differences of an independent formula:
    the loss Σ g · ŵ for fixed signs. Full weights get the gradient as it is, except where zeros stay."""
    gradient = drawn(5).double().numpy()
    ternary = Ternary(drawn().shape, kept(), 0.7, "mean")
    free = ternary.free(drawn())
    free[-2:] = torch.tensor([0.2, 0.07])
    free.requires_grad_()
    ternary.value(free).backward(torch.from_numpy(gradient).float())
    signs = ternary.signs(free).numpy()

    def loss(positive: float, negative: float) -> float:
        return float((gradient * np.where(signs > 0, positive, np.where(signs < 0, -negative, 0))).sum())

    assert free.grad is not None
    step = 1e-3
    by_differences = [
        (loss(0.2 + step, 0.07) - loss(0.2 - step, 0.07)) / (2 * step),
        (loss(0.2, 0.07 + step) - loss(0.2, 0.07 - step)) / (2 * step),
    ]
    np.testing.assert_allclose(free.grad[-2:].numpy(), by_differences, rtol=1e-4)
    np.testing.assert_allclose(free.grad[:-2].numpy().reshape(6, 5, 3, 3), gradient * kept().numpy(), rtol=1e-6)


def test_what_it_settles_to_is_the_same_parameter() -> None:
    for held in (None, kept()):
        ternary = Ternary(drawn().shape, held, 0.7, "mean")
        free = ternary.free(drawn())
        free[-2:] = torch.tensor([0.2, 0.07])
        value, codebook = ternary.value(free), ternary.settled(free)
        assert torch.equal(codebook.value(codebook.free(value)), value)
        assert sorted(value.unique().tolist()) == pytest.approx([-0.07, 0, 0.2])


@pytest.mark.parametrize("value", [torch.zeros(3, 4), torch.ones(3, 4), torch.full((3, 4), -2.0)])
def test_tensors_of_one_value_come_out_as_such(value: Tensor) -> None:
    for held in (None, torch.zeros(3, 4, dtype=torch.bool)):
        ternary = Ternary(value.shape, held, 0.7, "mean")
        found = ternary.value(ternary.free(value))
        assert torch.equal(found, value if held is None else torch.zeros(3, 4))
        codebook = ternary.settled(ternary.free(value))
        assert torch.equal(codebook.value(codebook.free(found)), found)


def test_without_training_it_is_twn_and_the_ends_have_eight_bits(tmp_path: Path) -> None:
    network = chain()
    result = apply(network, QuantizeTernary(training=None), context_for(tmp_path, network))
    facts = result.facts["parameters"]
    for name in INNER:
        before = network.module.get_parameter(name).detach()
        wanted = begun(before, Ternary(before.shape, None, 0.7, "mean"))
        after = result.network.module.get_parameter(name).detach().numpy()
        np.testing.assert_array_equal(after, wanted.astype(np.float32))
        assert isinstance(result.network.encodings[name], Codebook)
        assert facts[name]["positive"] == -facts[name]["negative"] == round(float(wanted.max()), 6)
        assert facts[name]["zeros_percent"] == round(100 * (wanted == 0).mean(), 3)
    for name in ("conv1.weight", "head.weight"):
        grid = result.network.encodings[name]
        assert isinstance(grid, Grid)
        assert (grid.low, grid.high, facts[name]) == (-127, 127, {"bits": 8})
    assert check(network).applicable


@pytest.mark.parametrize(("bits", "levels"), [(None, None), (2, 3), (4, 15)])
def test_the_ends_are_as_wide_as_asked(bits: int | None, levels: int | None, tmp_path: Path) -> None:
    network = chain()
    spec = QuantizeTernary(training=None, first_last_bits=bits)
    result = apply(network, spec, context_for(tmp_path, network))
    for name in ("conv1.weight", "head.weight"):
        value = result.network.module.get_parameter(name).detach()
        if levels is None:
            assert torch.equal(value, network.module.get_parameter(name))
            assert name not in result.network.encodings
        elif levels == 3:
            assert len(value.unique()) == 3
        else:
            assert all(len(row.unique()) <= levels for row in value)
            assert len(value.unique()) > levels


def test_nothing_but_ends_is_refused_with_the_way_out(tmp_path: Path) -> None:
    network = chain()
    spec: dict[str, Any] = {"training": None, "layers": {"include": ["head"]}}
    with pytest.raises(SpecError, match=r"2 makes them like the others") as fault:
        apply(network, QuantizeTernary.model_validate(spec), context_for(tmp_path, network))
    assert fault.value.where == "/first_last_bits"
    ternary = apply(
        network, QuantizeTernary.model_validate(spec | {"first_last_bits": 2}), context_for(tmp_path, network)
    )
    assert set(ternary.network.encodings) == {"head.weight"}
    spec["layers"] = {"include": ["norm1"]}
    with pytest.raises(SpecError, match="weights of its own"):
        apply(network, QuantizeTernary.model_validate(spec), context_for(tmp_path, network))


def test_a_threshold_that_leaves_nothing_is_refused() -> None:
    assert QuantizeTernary(threshold=1.5).threshold == 1.5
    with pytest.raises(ValidationError, match="leaves no weight"):
        QuantizeTernary(threshold=1, threshold_of="max")


def test_scales_and_signs_are_learned(tmp_path: Path) -> None:
    network = chain()
    spec = QuantizeTernary.model_validate({"training": TRAINING | {"epochs": 6, "learning_rate": 0.01}})
    result = apply(network, spec, context_for(tmp_path, network))
    plain = apply(network, QuantizeTernary(training=None), context_for(tmp_path / "b", network)).network
    history = result.facts["training"]["history"]
    assert max(entry["accuracy"] for entry in history) > history[0]["accuracy"] + 0.2
    for name in INNER:
        value = result.network.module.get_parameter(name).detach()
        assert len(value.unique()) == 3
        assert float(value.max()) != -float(value.min())  # two scales
        assert not torch.equal(value.sign(), plain.module.get_parameter(name).sign())


def test_zeros_of_a_mask_stay_and_its_ends_have_shared_values(tmp_path: Path) -> None:
    steps: list[dict[str, Any]] = [
        {"method": "prune.weights", "sparsity": 0.6, "rounds": 1, "finetune": None},
        {"method": "quantize.ternary", "training": TRAINING},
        {"method": "distill", "training": {"epochs": 1}},
        {"method": "encode"},
    ]
    network = run(steps, tmp_path).network
    pruned = run(steps[:1], tmp_path).network
    for name in (*INNER, "conv1.weight", "head.weight"):
        value, mask = network.module.get_parameter(name).detach(), pruned.encodings[name]
        assert isinstance(mask, Mask)
        assert bool((value[~mask.keep] == 0).all())
        assert isinstance(network.encodings[name], Codebook)
        assert len(value.unique()) <= (3 if name in INNER else 256)
    (tmp_path / "a.nwk").write_bytes(encode(network).file)
    again = read_nwk(tmp_path / "a.nwk")
    assert all(torch.equal(again.module.get_parameter(name), network.module.get_parameter(name)) for name in INNER)


def test_shared_values_and_levels_at_the_ends_are_left(tmp_path: Path) -> None:
    network = chain().replaced(encodings={"head.weight": Grid(torch.tensor(0.05), -7, 7)})
    network.project()
    result = apply(network, QuantizeTernary(training=None), context_for(tmp_path, network))
    assert result.facts["parameters"]["head.weight"] == {"left": "its grid"}
    assert torch.equal(result.network.module.get_parameter("head.weight"), network.module.get_parameter("head.weight"))


def test_a_killed_run_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    network, spec = chain(), QuantizeTernary.model_validate({"training": TRAINING})
    whole = apply(network, spec, context_for(tmp_path / "whole", network))
    with pytest.raises(Killed):
        apply(network, spec, context_for(tmp_path / "cut", network, KillingReporter(4)))
    resumed = apply(network, spec, context_for(tmp_path / "cut", network))
    assert same(whole.network, resumed.network)
    assert resumed.facts == whole.facts


def same(one: Network, other: Network) -> bool:
    state, others = one.module.state_dict(), other.module.state_dict()
    return all(torch.equal(state[name], others[name]) for name in state) and encode(one).file == encode(other).file
