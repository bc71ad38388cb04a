"""Each form against an independent reference: a formula, a brute-force optimum, or the convolution itself."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from compression.factorization.forms import Factors, composed, factorised, kernel_of, leaves, squared_error, white
from compression.factorization.moments import Moments


def _conv(kernel: int | tuple[int, int] = 3, **more: object) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(6, 10, kernel, **more)  # type: ignore[arg-type]


def _moments(leaf: nn.Module, seed: int = 1) -> Moments:
    """Of patches that are correlated and have a mean."""
    weight = kernel_of(leaf).flatten(1)
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(2 * weight.shape[1:], generator=generator, dtype=torch.float64)
    second = mix @ mix.T / len(mix)
    mean = torch.randn(weight.shape[1], generator=generator, dtype=torch.float64)
    return Moments(mean, second, weight @ second @ weight.T, 1.0)


def _run(made: list[nn.Module], value: Tensor) -> Tensor:
    for leaf in made:
        value = leaf(value)
    return value


@pytest.mark.parametrize(
    ("kernel", "more"),
    [
        (3, {"padding": 1}),
        (3, {"padding": (0, 2), "stride": (2, 1)}),
        ((3, 5), {"padding": "same", "bias": False}),
        (3, {"dilation": (1, 2), "stride": 2, "padding": 2}),
        ((1, 3), {"stride": 2, "padding": (0, 1)}),
    ],
)
@pytest.mark.parametrize("form", ["channel", "spatial", "tucker2"])
def test_at_full_rank_the_layers_compute_what_the_layer_did(form: str, kernel: object, more: dict[str, object]) -> None:
    leaf = _conv(kernel, **more)  # type: ignore[arg-type]
    weight = kernel_of(leaf)
    full = min(10, weight[0].numel()) if form != "spatial" else min(10 * weight.shape[3], 6 * weight.shape[2])
    made = leaves(leaf, factorised(leaf, form, full, 6, white(leaf)))  # type: ignore[arg-type]
    value = torch.randn(2, 6, 11, 13)
    with torch.no_grad():
        torch.testing.assert_close(_run(made, value), leaf(value), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["channel", "spatial", "tucker2"])
def test_the_layers_compute_the_kernel_that_their_error_was_taken_from(form: str) -> None:
    leaf = _conv(3, padding=1, stride=2)
    factors = factorised(leaf, form, 4, 3, _moments(leaf))  # type: ignore[arg-type]
    value = torch.randn(2, 6, 9, 9)
    wanted = F.conv2d(value, composed(factors.kernels).float(), factors.bias.float(), stride=2, padding=1)  # type: ignore[union-attr]
    with torch.no_grad():
        torch.testing.assert_close(_run(leaves(leaf, factors), value), wanted, rtol=1e-4, atol=1e-5)


def test_a_linear_layer_on_white_inputs_is_the_truncated_svd() -> None:
    torch.manual_seed(0)
    leaf = nn.Linear(12, 7)
    first, last = factorised(leaf, "channel", 3, 0, white(leaf)).kernels
    left, scales, right = torch.linalg.svd(leaf.weight.detach().double(), full_matrices=False)
    wanted = left[:, :3] * scales[:3] @ right[:3]
    torch.testing.assert_close((last.flatten(1) @ first.flatten(1)), wanted)


def test_a_linear_layer_on_data_has_the_least_error_of_its_rank() -> None:
    """Whitened by hand: the best rank-r W′ for ‖(W − W′) L‖, G = L Lᵀ, is the truncated SVD of W L times L⁻¹."""
    torch.manual_seed(0)
    leaf = nn.Linear(12, 7)
    moments = _moments(leaf)
    kernels = factorised(leaf, "channel", 3, 0, moments).kernels
    root = torch.linalg.cholesky(moments.second)  # type: ignore[arg-type]
    left, scales, right = torch.linalg.svd(leaf.weight.detach().double() @ root, full_matrices=False)
    wanted = left[:, :3] * scales[:3] @ right[:3] @ torch.linalg.inv(root)
    torch.testing.assert_close(composed(kernels)[..., 0, 0], wanted)
    assert squared_error(kernel_of(leaf), kernels, moments) == pytest.approx(float(scales[3:].square().sum()))


def test_spatial_without_data_is_the_truncated_svd_of_rows_against_columns() -> None:
    """Jaderberg et al. 2014: what is lost is what the singular values left out come to."""
    leaf = _conv(3)
    weight = kernel_of(leaf)
    lost = weight - composed(factorised(leaf, "spatial", 5, 0, white(leaf)).kernels)
    scales = torch.linalg.svdvals(weight.permute(1, 2, 0, 3).reshape(18, 30))
    assert float(lost.norm()) == pytest.approx(float(scales[5:].norm()))


@pytest.mark.parametrize("form", ["spatial", "tucker2"])
def test_no_other_last_factor_loses_less_on_the_data(form: str) -> None:
    """The derivative of the error by the last free factor is zero."""
    leaf = _conv(3)
    moments, weight = _moments(leaf), kernel_of(leaf)
    kernels = list(factorised(leaf, form, 4, 3, moments).kernels)  # type: ignore[arg-type]
    last = kernels[-1].clone().requires_grad_(True)
    lost = (weight - composed((*kernels[:-1], last))).flatten(1)
    ((lost @ moments.second) * lost).sum().backward()
    scale = float((weight.flatten(1) @ moments.second).norm())  # type: ignore[operator]
    assert float(last.grad.norm()) < 1e-7 * scale  # type: ignore[union-attr]


def test_tucker2_without_data_is_at_a_stationary_point_and_no_worse_than_its_start() -> None:
    """Higher-order orthogonal iteration against the truncated higher-order SVD that it starts from, and against a
    descent on the two factors by autograd."""
    torch.manual_seed(0)
    leaf = _conv(3)
    weight = kernel_of(leaf)
    lost = float((weight - composed(factorised(leaf, "tucker2", 5, 3, white(leaf)).kernels)).square().sum())
    outputs = torch.linalg.svd(weight.flatten(1), full_matrices=False)[0][:, :5]
    inputs = torch.linalg.svd(weight.transpose(0, 1).flatten(1), full_matrices=False)[0][:, :3]
    start = float((weight - _projected(weight, outputs, inputs)).square().sum())
    assert lost <= start + 1e-12
    free = [part.contiguous().clone().requires_grad_(True) for part in (outputs, inputs)]
    optimizer = torch.optim.LBFGS(free, max_iter=300, tolerance_grad=1e-12, tolerance_change=1e-14)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (weight - _projected(weight, *(torch.linalg.qr(part)[0] for part in free))).square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[arg-type]
    assert lost == pytest.approx(closure().item(), rel=1e-3)


def _projected(weight: Tensor, outputs: Tensor, inputs: Tensor) -> Tensor:
    return torch.einsum("oihw,op,ij->pjhw", weight, outputs @ outputs.T, inputs @ inputs.T)


def test_the_bias_keeps_the_mean_of_the_outputs() -> None:
    leaf = _conv(3)
    moments = _moments(leaf)
    factors = factorised(leaf, "channel", 3, 0, moments)
    before = kernel_of(leaf).flatten(1) @ moments.mean + leaf.bias.detach().double()  # type: ignore[union-attr]
    after = composed(factors.kernels).flatten(1) @ moments.mean + factors.bias  # type: ignore[operator]
    torch.testing.assert_close(after, before)


def test_parameters_are_counted() -> None:
    leaf = _conv(3)
    factors = factorised(leaf, "tucker2", 5, 3, white(leaf))
    made = leaves(leaf, factors)
    assert isinstance(factors, Factors)
    assert factors.parameters() == sum(math.prod(p.shape) for layer in made for p in layer.parameters())
