"""Which weights a mask takes, against sorting, counting and torch's own 2:4 layout; and the schedules' formulas."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from torch.sparse._semi_structured_conversions import (
    sparse_semi_structured_from_dense_cutlass,
    sparse_semi_structured_to_dense_cutlass,
)

from compression.encodings import Mask
from compression.errors import MethodError
from compression.network import Network
from compression.pruning.gradual import ENDS_AT, Gradual
from compression.pruning.masks import Each, Pattern, Together, pattern_for
from compression.pruning.schedules import cubic, geometric
from compression.pruning.weights import masked, masked_shares, weight_names
from compression.quantization.codebook import clustered
from tests.engine.nets import Chain, network_of

WEIGHTS = ["conv1.weight", "conv2.weight", "hidden.weight", "head.weight"]


def chain() -> Network:
    return network_of(Chain(), 1, 8, 8)


def keep_of(network: Network, name: str) -> torch.Tensor:
    mask = network.encodings[name]
    assert isinstance(mask, Mask)
    return mask.keep


def test_weights_are_those_of_layers() -> None:
    assert weight_names(chain()) == WEIGHTS
    assert weight_names(chain(), {"conv2", "norm2", "head"}) == ["conv2.weight", "head.weight"]


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.9, 0.999])
def test_the_smallest_go_in_each_layer(sparsity: float) -> None:
    pruned = masked(chain(), WEIGHTS, Each(dict.fromkeys(WEIGHTS, sparsity)))
    for name in WEIGHTS:
        before, after = chain().module.get_parameter(name).detach(), pruned.module.get_parameter(name).detach()
        gone = round(sparsity * before.numel())
        assert int((after == 0).sum()) == gone
        assert torch.equal(after[after != 0], before[after != 0])
        largest = np.sort(before.abs().flatten().numpy())[gone:]
        np.testing.assert_array_equal(np.sort(after[after != 0].abs().numpy()), largest)


def test_the_smallest_of_all_layers_go_and_what_is_masked_stays_so() -> None:
    once = masked(chain(), WEIGHTS, Together(0.5))
    values = torch.cat([chain().module.get_parameter(name).detach().flatten() for name in WEIGHTS])
    zeros = torch.cat([once.module.get_parameter(name).detach().flatten() for name in WEIGHTS]) == 0
    assert int(zeros.sum()) == len(values) // 2
    assert masked_shares(once, WEIGHTS)[""] == 0.5
    assert float(values[zeros].abs().max()) <= float(values[~zeros].abs().min())
    with torch.no_grad():
        once.module.get_parameter("head.weight").copy_(chain().module.get_parameter("head.weight"))  # grown again
    twice = masked(once, WEIGHTS, Together(0.2))
    assert all(torch.equal(keep_of(once, name), keep_of(twice, name)) for name in WEIGHTS)


def test_a_quantised_weight_is_not_masked_but_named() -> None:
    shared, _ = clustered(chain(), {"head.weight": 3}, None)
    with pytest.raises(MethodError, match="prune before") as fault:
        masked(shared, WEIGHTS, Together(0.5))
    assert fault.value.where == "head.weight"


@pytest.mark.parametrize(("kept", "of"), [(2, 4), (1, 4), (1, 3), (4, 8), (7, 9)])
def test_a_pattern_keeps_what_brute_force_keeps(kept: int, of: int) -> None:
    """In each group the subset of `kept` places with the largest sum; groups lie along axis 1, the inputs."""
    pruned = masked(chain(), WEIGHTS, Pattern(kept, of, dict.fromkeys(WEIGHTS, 1)))
    for name in WEIGHTS:
        before = chain().module.get_parameter(name).detach().movedim(1, -1).flatten(0, -2).numpy()
        keep = keep_of(pruned, name).movedim(1, -1).flatten(0, -2).numpy()
        for row, kept_places in zip(before, keep, strict=True):
            for start in range(0, len(row), of):
                group = np.abs(row[start : start + of])
                places = range(len(group))
                best = max(combinations(places, min(kept, len(group))), key=lambda chosen: group[list(chosen)].sum())
                assert set(np.flatnonzero(kept_places[start : start + of])) == set(best)


def test_two_of_four_lie_as_torch_packs_them() -> None:
    """torch's own packer (CUTLASS layout) gives back exactly the pruned matrix: the groups are where it wants them."""
    weight = torch.randn(32, 64, generator=torch.Generator().manual_seed(0)).half()
    network = chain()
    network.module.hidden.weight = torch.nn.Parameter(weight.float())
    pruned = masked(network, ["hidden.weight"], pattern_for("2:4", network, ["hidden.weight"]))
    keep = keep_of(pruned, "hidden.weight")
    for chosen, same in ((keep, True), (keep.T.reshape(32, 64), False)):  # the packer drops what it has no place for
        matrix = torch.where(chosen, weight, 0)
        unpacked = sparse_semi_structured_to_dense_cutlass(*sparse_semi_structured_from_dense_cutlass(matrix))
        assert torch.equal(unpacked, matrix) == same


def test_the_inputs_of_a_transposed_convolution_are_its_first_axis() -> None:
    network = chain()
    network.module.conv2 = torch.nn.ConvTranspose2d(8, 12, 3)
    assert pattern_for("2:4", network, ["conv2.weight", "conv1.weight"]).axes == {"conv2.weight": 0, "conv1.weight": 1}


def test_schedules_are_the_papers_formulas() -> None:
    """Zhu & Gupta 2017, equation 1, with t₀ = 0, n = 10 and Δt = 100; Han et al.: what is left falls by one factor."""
    first, last, n, interval = 0.2, 0.875, 10, 100
    for t in range(0, 1001, interval):
        expected = last + (first - last) * (1 - (t - 0) / (n * interval)) ** 3
        assert cubic(t / (n * interval))(first, last) == pytest.approx(expected, abs=1e-12)
    left = [1 - geometric(number / 4)(0.0, 0.9375) for number in range(5)]
    assert left == pytest.approx([1, 0.5, 0.25, 0.125, 0.0625])


@pytest.mark.parametrize(("total", "every"), [(1000, 20), (90, 20), (10, 20), (2, 5), (1, 1)])
def test_gradual_masks_follow_the_formula_step_by_step(total: int, every: int) -> None:
    network, first, last = chain(), 0.1, 0.8
    network = masked(network, WEIGHTS, Together(first))
    gradual = Gradual(WEIGHTS, Together(last), every, masked_shares(network, WEIGHTS))
    weights = {name: network.module.get_parameter(name).detach() for name in WEIGHTS}
    masks = {name: Mask(keep_of(network, name)) for name in WEIGHTS}
    size = sum(value.numel() for value in weights.values())
    end = int(ENDS_AT * total)
    interval = min(every, end)
    n = end // interval if end else 1
    changed = []
    for step in range(total):
        new = gradual.masks(step, total, weights, masks)
        masks = dict(new) if new is not None else masks
        changed += [step] if new is not None else []
        done = 1.0 if not end else min(1.0, (step // interval) / n)
        expected = last + (first - last) * (1 - done) ** 3
        zeros = sum(int((~mask.keep).sum()) for mask in masks.values())
        assert abs(zeros - expected * size) <= 1
        assert gradual.complete(step + 1, total) == (done == 1.0)
    assert changed == ([step * interval for step in range(n + 1)] if end else [0])
    assert not gradual.complete(0, total)
