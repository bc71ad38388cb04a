"""The rate of a tensor's levels, the learned step and RDOQ, against entropies, formulas and finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from compression.encodings import Grid
from compression.quantization.learned_grid import LearnedGrid, PricedGrid
from compression.quantization.price import Rising
from compression.quantization.rate import prices
from compression.quantization.rdoq import chosen_levels, cost
from compression.quantization.step import step_for


def drawn(*shape: int, density: float = 0.3, seed: int = 0, high: int = 3) -> Tensor:
    random = np.random.default_rng(seed)
    magnitudes = np.minimum(random.geometric(0.6, shape), high) * (random.random(shape) < density)
    return torch.from_numpy((magnitudes * random.choice([-1, 1], shape)).astype(np.float32))


def entropy(values: Tensor) -> float:
    counts = np.unique(values.numpy(), return_counts=True)[1]
    return float(-(counts * np.log2(counts / counts.sum())).sum())


@pytest.mark.parametrize("density", [0.01, 0.1, 0.5, 0.95])
def test_without_rows_the_rate_is_the_entropy_of_the_magnitudes_and_a_bit_for_each_sign(density: float) -> None:
    levels = drawn(20_000, density=density)
    expected = entropy(levels.abs()) + float((levels != 0).sum())
    assert float(prices(levels, 3).each(levels).sum()) == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("shape", [(150, 200), (60, 40, 3, 3)])
def test_where_rows_and_columns_are_alike_it_is_the_entropy_too(shape: tuple[int, ...]) -> None:
    levels = drawn(*shape)
    expected = entropy(levels.abs()) + float((levels != 0).sum())
    assert float(prices(levels, 3).each(levels).sum()) == pytest.approx(expected, rel=0.03)


def test_as_many_weights_cost_less_in_few_rows() -> None:
    scattered = drawn(100, 100, density=0.1, high=1)
    gathered = torch.zeros_like(scattered)
    gathered[:10] = scattered[scattered != 0][:1000].repeat(2)[:1000].reshape(10, 100)
    each = [float(prices(levels, 1).each(levels).sum()) for levels in (scattered, gathered, gathered.T)]
    assert each[1] < 0.5 * each[0]
    assert each[2] == pytest.approx(each[1])


def test_a_large_tensor_without_a_zero_has_finite_prices() -> None:
    """Its rows' share of zeros is below what float32 can tell from none."""
    price = prices(torch.full((400, 400), 2.0), 7)
    assert all(bool(torch.isfinite(part).all()) for part in (price.zero, price.one, price.further))
    assert bool((price.zero > price.one).all())


@pytest.mark.parametrize("high", [1, 2, 7])
def test_between_whole_levels_the_rate_is_a_straight_line_and_the_pull_its_slope(high: int) -> None:
    levels = drawn(30, 20, high=high)
    price = prices(levels, high)
    assert float(price.bits(levels.abs())) == pytest.approx(float(price.each(levels).sum()), rel=1e-5)
    noise = torch.randn(30, 20, generator=torch.Generator().manual_seed(1))
    magnitude = (levels.abs() + 0.3 * noise.sign()).abs().clamp(0.1, high - 0.1).double()
    magnitude[12, 4] = high + 0.2
    slopes = price.slopes(magnitude)
    for place in np.ndindex(30, 20):
        moved = magnitude.clone()
        moved[place] += 1e-4
        slope = float(price.bits(moved) - price.bits(magnitude)) / 1e-4
        assert float(slopes[place]) == pytest.approx(max(slope, 0.0), rel=1e-3, abs=1e-6)
    assert float(slopes[12, 4]) == 0.0
    assert float(slopes.max()) > 1


def test_nothing_is_pushed_away_from_zero_where_zeros_are_dear() -> None:
    dense = drawn(30, 20, density=1.0, high=2)
    price = prices(dense, 2)
    assert bool((price.one < price.zero).all())
    assert bool((price.slopes(0.9 * dense.sign().abs()) == 0).all())


@pytest.mark.parametrize("per_row", [False, True])
def test_the_steps_gradient_is_that_of_lsq(per_row: bool) -> None:
    """Esser et al. 2020, equation 3: ∂v̂/∂s = −v/s + round(v/s) inside, the limit outside; scaled by 1/√(n·Qp)."""
    weight = torch.randn(6, 50, generator=torch.Generator().manual_seed(0))
    gradient = torch.randn(6, 50, generator=torch.Generator().manual_seed(1))
    step = torch.rand(6, generator=torch.Generator().manual_seed(2)) * 0.3 + 0.2 if per_row else torch.tensor(0.3)
    grid = LearnedGrid(step, 3, weight.shape)
    free = grid.free(weight).requires_grad_()
    grid.value(free).backward(gradient)
    s = step.reshape(-1, 1).numpy()
    v, g = weight.numpy() / s, gradient.numpy()
    inside = np.abs(v) <= 3
    each = g * np.where(inside, np.round(v) - v, 3 * np.sign(v))
    n = 50 if per_row else 300
    wanted = (each.sum(1) if per_row else each.sum(keepdims=True).ravel()) / math.sqrt(n * 3) * step.numpy()
    assert free.grad is not None
    np.testing.assert_allclose(free.grad[:300].reshape(6, 50).numpy(), g * inside, rtol=1e-6)
    np.testing.assert_allclose(free.grad[300:].numpy(), wanted, rtol=1e-4, atol=1e-6)  # of ln s: times s


def test_the_penalty_pulls_weights_to_zero_and_the_step_up_by_those_that_arent() -> None:
    weight = torch.randn(6, 50, generator=torch.Generator().manual_seed(0))
    price = Rising(tensors=1, steps=1, weights=100, weight=1.0)
    grid = PricedGrid(torch.tensor(2.0), 3, weight.shape, "w", price)
    free = grid.free(weight).requires_grad_()
    assert float(grid.penalty(free).detach()) == 0.0  # before the first step a bit costs nothing
    penalty = grid.penalty(free)
    penalty.backward()
    levels = (weight / 2).round()
    assert float(penalty.detach()) == pytest.approx(0.01 * float(prices(levels, 3).each(levels).sum()), rel=1e-5)
    assert free.grad is not None
    pulled = free.grad[:300].reshape(6, 50)
    np.testing.assert_allclose(
        pulled.numpy(), 0.005 * (prices(levels, 3).slopes((weight / 2).abs()) * weight.sign()).numpy(), rtol=1e-5
    )
    assert float((pulled != 0).double().mean()) > 0.8
    step = float(free.grad[300])  # of its logarithm: −v ∂/∂v
    assert step == pytest.approx(-float((pulled * weight)[levels != 0].sum()), rel=1e-5)
    assert step < 0


def test_a_zero_that_a_mask_holds_stays_one() -> None:
    weight = torch.randn(6, 50, generator=torch.Generator().manual_seed(0))
    keep = weight.abs() > 0.5
    price = Rising(tensors=1, steps=1, weights=100, weight=1.0)
    grid = PricedGrid(torch.tensor(0.3), 3, weight.shape, "w", price, keep)
    free = grid.free(weight * keep).requires_grad_()
    (grid.value(free).sum() + grid.penalty(free) + grid.penalty(free)).backward()
    assert free.grad is not None
    assert bool((free.grad[:300].reshape(6, 50)[~keep] == 0).all())
    assert bool((grid.value(free.detach() + 1)[~keep] == 0).all())


@pytest.mark.parametrize("per_row", [False, True])
def test_what_remains_is_a_grid_with_the_learned_step_and_the_same_numbers(per_row: bool) -> None:
    weight = torch.randn(37, 11, generator=torch.Generator().manual_seed(0))
    step = torch.rand(37, generator=torch.Generator().manual_seed(2)) * 0.3 + 0.2 if per_row else torch.tensor(0.3)
    grid = LearnedGrid(step, 3, weight.shape)
    free = grid.free(weight) + 0.01
    settled = grid.settled(free)
    value = grid.value(free)
    assert isinstance(settled, Grid)
    assert settled.step.shape == step.shape
    torch.testing.assert_close(settled.step, step * math.exp(0.01))
    assert torch.equal(settled.value(settled.free(value)), value)


def test_the_step_is_that_of_the_least_error() -> None:
    value = torch.randn(40, 30, generator=torch.Generator().manual_seed(0))
    found = step_for(value, 3, per_channel=False)

    def error(step: float) -> float:
        return float(((value / step).round().clamp(-3, 3) * step - value).square().sum())

    best = min(error(float(step)) for step in np.linspace(0.05, 1.5, 3000))
    assert error(float(found)) <= 1.02 * best
    rows = step_for(value, 3, per_channel=True)
    torch.testing.assert_close(rows, torch.stack([step_for(row, 3, per_channel=False) for row in value]))


@pytest.mark.parametrize("price", [1e-15, 1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("shape", [(40, 30), (300,), (8, 6, 3, 3)])
def test_rdoq_is_never_worse_than_rounding(price: float, shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(shape, generator=generator)
    importance = torch.rand(shape, generator=generator) ** 4 + 1e-6
    grid = Grid(torch.rand(shape[0], generator=generator) * 0.2 + 0.3 if len(shape) > 1 else torch.tensor(0.4), -7, 7)
    rounded, levels = grid.levels(value), chosen_levels(value, grid, importance, price)
    before, after = (cost(entry, value, grid, importance, price) for entry in (rounded, levels))
    assert after <= before
    assert bool((levels.abs() <= rounded.abs()).all())
    if price == 1e-15:
        assert torch.equal(levels, rounded)
    if price >= 1e-2:
        assert after < before
        assert float(prices(levels, 7).each(levels).sum()) < float(prices(rounded, 7).each(rounded).sum())
