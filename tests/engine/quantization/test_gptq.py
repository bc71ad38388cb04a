"""Rounding with compensation: against optimal brain quantisation step by step, least squares, and plain rounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from compression.encodings.blocks import Blocks
from compression.errors import MethodError
from compression.quantization.blocks import SHARES, blocks_for
from compression.quantization.gptq import compensated, output_error

Array = NDArray[np.float64]


def problem(rows: int, columns: int, samples: int, seed: int) -> tuple[Tensor, Tensor]:
    """Weights, and inputs (columns × samples) that depend on each other and differ in size."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(columns, columns, generator=generator) * torch.logspace(0, -1, columns)
    inputs = mixing @ torch.randn(columns, samples, generator=generator)
    return torch.randn(rows, columns, generator=generator) * 0.1, inputs


def rounded(entry: float, step: float, low: float) -> float:
    return float(np.clip(np.rint(entry / step), low, low + 15) * step)


def brain_surgery(row: Array, steps: Array, lows: Array, gram: Array, order: list[int]) -> Array:
    """Optimal brain quantisation of one row in a given order: the inverse of H without the columns that are done is
    taken anew each time, and the remaining weights move by the formula of Hassibi & Stork."""
    free, left = row.copy(), list(order)
    for column in order:
        inverse = np.linalg.inv(gram[np.ix_(left, left)])
        place = left.index(column)
        value = rounded(free[column], steps[column], lows[column])
        change = -(free[column] - value) / inverse[place, place] * inverse[:, place]
        free[left] += change
        free[column] = value
        left.remove(column)
    return free


def least_squares(row: Array, steps: Array, lows: Array, inputs: Array, order: list[int]) -> Array:
    """The same as a least squares problem: after each rounding, the weights that are free are those of the output
    nearest to the original's, found from the inputs themselves."""
    target, done = row @ inputs, np.zeros_like(row)
    left, free = list(order), row.copy()
    for column in order:
        done[column] = rounded(free[column], steps[column], lows[column])
        left.remove(column)
        if left:
            free[left] = np.linalg.lstsq(inputs[left].T, target - done @ inputs, rcond=None)[0]
    return done


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_it_is_optimal_brain_quantisation_and_least_squares(seed: int, zeros: bool) -> None:
    weight, inputs = problem(6, 20, 200, seed)
    blocks = blocks_for(weight, 16, zeros=zeros)
    gram = (inputs @ inputs.T).double()
    found = compensated(weight, blocks, gram, 1e-12)
    order = [int(place) for place in torch.argsort(gram.diagonal(), descending=True)]
    steps, lows = (part.double().numpy() for part in (blocks.steps(weight), blocks.lowest(weight)))
    for row in range(len(weight)):
        start = weight[row].double().numpy()
        one = brain_surgery(start, steps[row], lows[row], gram.numpy(), order)
        other = least_squares(start, steps[row], lows[row], inputs.double().numpy(), order)
        np.testing.assert_allclose(found[row].numpy(), one, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(found[row].numpy(), other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("seed", range(5))
def test_outputs_are_nearer_than_those_of_plain_rounding(seed: int) -> None:
    """Also with more columns than are done at once, and the last block cut short."""
    weight, inputs = problem(16, 300, 1000, seed)
    blocks = blocks_for(weight, 32, zeros=bool(seed % 2))
    gram = inputs @ inputs.T
    found = compensated(weight, blocks, gram, 0.01)
    assert torch.equal(blocks.value(found), found)
    plain = output_error(blocks.value(weight) - weight, gram)
    assert output_error(found - weight, gram) < 0.5 * plain
    direct = float(((found - weight).double() @ inputs.double()).square().sum())
    assert output_error(found - weight, gram) == pytest.approx(direct, rel=1e-4)


def test_independent_inputs_leave_nothing_to_make_good() -> None:
    weight, _ = problem(8, 64, 1, 0)
    blocks = blocks_for(weight, 32, zeros=False)
    assert torch.equal(compensated(weight, blocks, torch.eye(64), 0.01), blocks.value(weight))
    assert torch.equal(compensated(weight, blocks, torch.zeros(64, 64), 0.01), blocks.value(weight))  # nothing came


def test_held_zeros_stay_and_the_others_make_them_good() -> None:
    weight, inputs = problem(8, 64, 500, 1)
    held = torch.rand(8, 64, generator=torch.Generator().manual_seed(2)) > 0.6
    weight = weight.masked_fill(held, 0.0)
    blocks = blocks_for(weight, 16, zeros=False)
    gram = inputs @ inputs.T
    found = compensated(weight, blocks, gram, 0.01, held)
    assert bool((found[held] == 0).all())
    assert output_error(found - weight, gram) < output_error(blocks.value(weight) - weight, gram)


def test_what_cannot_be_inverted_is_said() -> None:
    weight, inputs = problem(4, 32, 3, 0)
    with pytest.raises(MethodError, match="damping"):
        compensated(weight, blocks_for(weight, 16, zeros=False), inputs @ inputs.T, 1e-17)


@pytest.mark.parametrize("zeros", [False, True])
def test_steps_are_the_best_of_those_tried(zeros: bool) -> None:
    """Each block by itself in numpy, over the same candidates; rows that end in half a block, and a block of zeros."""
    weight, _ = problem(5, 40, 1, 3)
    weight[2, :16] = 0
    weight[3, 16:32] += 0.2
    blocks = blocks_for(weight, 16, zeros=zeros)
    assert blocks.step.shape == (5, 3)
    shown = blocks.value(weight)
    for row in range(5):
        for place in range(3):
            part = weight[row, 16 * place : 16 * place + 16].double().numpy()
            low, high = min(part.min(), 0.0), max(part.max(), 0.0)
            unit = (high - low) / 15 if zeros else max(high, -low) / 8
            zero = np.rint(-low / unit) if zeros and unit else 8
            steps = [sign * unit * share for share in SHARES for sign in ([1] if zeros else [1, -1])]
            errors = [
                ((np.clip(np.rint(part / step), -zero, 15 - zero) * step - part) ** 2).sum() for step in steps if step
            ]
            found = shown[row, 16 * place : 16 * place + 16].double().numpy()
            assert ((found - part) ** 2).sum() == pytest.approx(min(errors, default=0), rel=1e-4, abs=1e-12)


def test_zeros_of_their_own_help_blocks_on_one_side() -> None:
    weight = torch.rand(8, 64, generator=torch.Generator().manual_seed(0))
    errors = [
        float((blocks_for(weight, 32, zeros=zeros).value(weight) - weight).square().sum()) for zeros in (False, True)
    ]
    assert errors[1] < 0.5 * errors[0]


def test_gradients_pass_straight_through_but_where_an_entry_was_clipped() -> None:
    blocks = Blocks(torch.tensor([[0.5, -0.25]]), 16, torch.tensor([[0, 3]], dtype=torch.uint8))
    free = torch.linspace(-3, 12, 20)[None].requires_grad_()
    value = blocks.value(free)
    scaled = np.concatenate([free.detach()[0, :16] / 0.5, free.detach()[0, 16:] / -0.25])
    low, steps = np.repeat([0, -3], [16, 4]), np.repeat([0.5, -0.25], [16, 4])
    np.testing.assert_allclose(value.detach()[0], np.clip(np.rint(scaled), low, low + 15) * steps)
    value.sum().backward()
    assert free.grad is not None
    np.testing.assert_allclose(free.grad[0], (scaled > low) & (scaled < low + 15))
