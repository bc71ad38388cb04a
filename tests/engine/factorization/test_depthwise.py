"""`factorize.depthwise` against formulas, and against the layers that it makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compression.errors import SpecError
from compression.factorization.depthwise import (
    best_filters,
    best_points,
    depthwise_leaves,
    joined,
    replaceable,
    separable_of,
    truncated,
)
from compression.factorization.forms import kernel_of, white
from compression.factorization.moments import Moments, moments_of
from compression.measure.cost import cost_of
from compression.methods.factorize.depthwise import FactorizeDepthwise, apply, check
from tests.engine.factorization.test_lowrank import chain
from tests.engine.nets import network_of
from tests.engine.training.test_loop import context_for


def conv(**more: object) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(5, 8, 3, **more)  # type: ignore[arg-type]


def correlated(leaf: nn.Module) -> Moments:
    weight = kernel_of(leaf).flatten(1)
    generator = torch.Generator().manual_seed(1)
    mix = torch.randn(2 * weight.shape[1:], generator=generator, dtype=torch.float64)
    second = mix @ mix.T / len(mix)
    mean = torch.randn(weight.shape[1], generator=generator, dtype=torch.float64)
    return Moments(mean, second, weight @ second @ weight.T, 1.0)


def lost(leaf: nn.Module, filters: Tensor, points: Tensor, moments: Moments) -> Tensor:
    difference = (kernel_of(leaf) - joined(filters, points)).flatten(1)
    return ((difference @ moments.second) * difference).sum()


@pytest.mark.parametrize("multiplier", [1, 2])
def test_the_start_is_each_input_channels_truncated_svd(multiplier: int) -> None:
    weight = kernel_of(conv()).numpy()
    filters, points = truncated(torch.from_numpy(weight), multiplier)
    near = joined(filters, points).numpy()
    for channel in range(5):
        left, scales, right = np.linalg.svd(weight[:, channel].reshape(8, 9), full_matrices=False)
        wanted = (left[:, :multiplier] * scales[:multiplier]) @ right[:multiplier]
        np.testing.assert_allclose(near[:, channel].reshape(8, 9), wanted, atol=1e-12)


def test_each_side_is_the_best_for_the_other() -> None:
    """The derivative of the error by that side is zero."""
    leaf = conv()
    moments, weight = correlated(leaf), kernel_of(leaf)
    assert moments.second is not None
    filters, points = truncated(weight, 2)
    scale = float(lost(leaf, filters, points, moments))
    points = best_points(weight, filters, moments.second).requires_grad_(True)
    lost(leaf, filters, points, moments).backward()
    assert float(points.grad.norm()) < 1e-4 * scale  # type: ignore[union-attr]
    filters = best_filters(weight, filters, points.detach(), moments.second).requires_grad_(True)
    lost(leaf, filters, points.detach(), moments).backward()
    assert float(filters.grad.norm()) < 1e-4 * scale  # type: ignore[union-attr]


def test_alternating_least_squares_loses_less_than_the_start() -> None:
    leaf = conv()
    moments = correlated(leaf)
    made = separable_of(leaf, 1, moments)
    start = float(lost(leaf, *truncated(kernel_of(leaf), 1), moments))
    found = float(lost(leaf, made.filters, made.points, moments))
    assert found < 0.98 * start
    assert made.error == pytest.approx((found / float(moments.outputs.diagonal().sum())) ** 0.5)


@pytest.mark.parametrize("between", ["nothing", "norm"])
@pytest.mark.parametrize("more", [{"padding": 1, "stride": 2}, {"dilation": 2, "bias": False}])
def test_the_layers_compute_the_joined_kernel(between: str, more: dict[str, object]) -> None:
    leaf = conv(**more)
    moments = correlated(leaf)
    made = separable_of(leaf, 2, moments)
    layers = depthwise_leaves(leaf, made, between, moments)
    assert len(layers) == (2 if between == "nothing" else 3)
    value = torch.randn(2, 5, 9, 9)
    settings = {"stride": leaf.stride, "padding": leaf.padding, "dilation": leaf.dilation}
    with torch.no_grad():
        found = nn.Sequential(*layers)(value)
        wanted = torch.conv2d(value, joined(made.filters, made.points).float(), made.bias.float(), **settings)  # type: ignore[arg-type, union-attr]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_as_many_filters_as_places_lose_nothing() -> None:
    leaf = conv(padding=1)
    made = separable_of(leaf, 8, white(leaf))  # each matrix is 8 × 9
    torch.testing.assert_close(joined(made.filters, made.points), kernel_of(leaf))


def test_counts_are_theory_where_norm_and_bias_stand_apart(tmp_path: Path) -> None:
    network = chain()
    spec = FactorizeDepthwise(multiplier=2, between="norm", finetune=None)
    result = apply(network, spec, context_for(tmp_path, network))
    told = result.facts["layers"]["conv2"]  # 8 to 12 channels, 3 × 3, without a bias
    assert told["theory"] == pytest.approx(2 * (1 / 12 + 1 / 9), abs=1e-6)
    assert told["weights"][1] / told["weights"][0] == pytest.approx(2 * (1 / 12 + 1 / 9))
    assert told["macs"][1] / told["macs"][0] == pytest.approx(2 * (1 / 12 + 1 / 9))
    assert told["bias_and_norm"] == [0, 2 * 16 + 12]
    before, after = cost_of(network), cost_of(result.network)
    assert before.macs - after.macs == told["macs"][0] - told["macs"][1]
    assert result.facts["left_alone"] == {"conv1": "it has one input channel, which leaves nothing to separate"}
    assert result.facts["output_error"] > 0


def test_the_error_told_is_the_layers_on_the_data(tmp_path: Path) -> None:
    network = chain()
    context = context_for(tmp_path, network)
    result = apply(network, FactorizeDepthwise(finetune=None, samples=10_000), context)
    outputs = {}
    for module, target in ((network.copy().module, "conv2"), (result.network.copy().module, "conv2.1")):
        module.get_submodule(target).register_forward_hook(
            lambda _m, _i, value, target=target: outputs.__setitem__(target, value)
        )
        assert context.data is not None
        with torch.no_grad():
            module(*context.data.train.inputs.values())
    before, after = (outputs[name].transpose(0, 1).flatten(1).double() for name in ("conv2", "conv2.1"))
    deviation = (before - before.mean(1, keepdim=True)).square().sum()
    wanted = float(((before - after).square().sum() / deviation).sqrt())
    assert result.facts["layers"]["conv2"]["error"] == pytest.approx(wanted, rel=1e-3)


def test_it_trains_back(tmp_path: Path) -> None:
    network = chain()
    spec = FactorizeDepthwise.model_validate({"between": "norm_relu", "finetune": {"epochs": 1}})
    result = apply(network, spec, context_for(tmp_path, network))
    kinds = [type(leaf).__name__ for name, leaf in result.network.module.named_modules() if name.startswith("conv2.")]
    assert kinds == ["Conv2d", "BatchNorm2d", "ReLU", "Conv2d"]
    assert result.facts["training"]["loss"] == "both"


def test_what_cannot_be_separated_is_named() -> None:
    network = network_of(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 6, 1), nn.Conv2d(6, 6, 3, groups=2)), 1, 9, 9)
    verdict = check(network)
    assert not verdict.applicable
    assert [detail.partition(": ")[2] for detail in verdict.details] == [
        "it is a grouped convolution",
        "it has one input channel, which leaves nothing to separate",
        "it is pointwise already",
    ]
    assert replaceable(network)[0] == {}


def test_a_selector_without_convolutions_is_refused(tmp_path: Path) -> None:
    network = chain()
    spec = FactorizeDepthwise.model_validate({"layers": {"include": ["head"]}})
    with pytest.raises(SpecError, match="none of the selected layers"):
        apply(network, spec, context_for(tmp_path, network))


def test_moments_are_kept_for_a_norm(tmp_path: Path) -> None:
    """What goes into the norm has the mean and the variance that it was given."""
    network = chain()
    context = context_for(tmp_path, network)
    moments = moments_of(network, ["conv2"], 10_000, context)
    spec = FactorizeDepthwise(between="norm", finetune=None, samples=10_000)
    module = apply(network, spec, context).network.copy().module
    seen: list[Tensor] = []
    norm = module.get_submodule("conv2.1")
    norm.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    assert context.data is not None
    with torch.no_grad():
        module(*context.data.train.inputs.values())
    flat = seen[0].transpose(0, 1).flatten(1).double()
    torch.testing.assert_close(norm.running_mean.double(), flat.mean(1), rtol=1e-3, atol=1e-4)  # type: ignore[union-attr, operator]
    torch.testing.assert_close(norm.running_var.double(), flat.var(1, correction=0), rtol=1e-3, atol=1e-4)  # type: ignore[union-attr, operator]
    assert moments["conv2"].second is not None
