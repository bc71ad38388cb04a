"""The maps of masks, codebooks and grids, their gradients against formulas, and what training makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from compression.container.file import read_container
from compression.container.network import encode
from compression.encodings import BFloat16, Codebook, Encoding, Float16, Grid, Mask
from compression.network import Network
from compression.training.loop import train
from compression.training.spec import Training
from tests.engine.nets import Chain, network_of
from tests.engine.training.test_loop import context_for


def weight(seed: int = 0) -> Tensor:
    return torch.randn(6, 5, 3, 3, generator=torch.Generator().manual_seed(seed))


def codes(low: int, count: int = 8) -> Tensor:
    return torch.randint(low, count, (6, 5, 3, 3), generator=torch.Generator().manual_seed(1))


ROWS = torch.tensor([0, 0, 1, 1, 2, 2])
EVERY: dict[str, Encoding] = {
    "mask": Mask(weight(2) > 0),
    "codebook": Codebook(codes(0)),
    "codebook with zeros": Codebook(codes(-1)),
    "codebooks by row": Codebook(codes(-1), ROWS),
    "grid": Grid(torch.tensor(0.25), -4, 3),
    "float16": Float16(),
    "bfloat16 under a mask": BFloat16(weight(2) > 0),
    "grid by row": Grid(torch.rand(6, generator=torch.Generator().manual_seed(3)) + 0.1, -8, 7),
}


@pytest.mark.parametrize("name", EVERY)
def test_what_obeys_stays_exactly_as_it_is(name: str) -> None:
    encoding = EVERY[name]
    once = encoding.value(encoding.free(weight()))
    assert torch.equal(encoding.value(encoding.free(once)), once)
    assert not torch.equal(once, weight())


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("dim", [0, 1])
def test_a_cut_commutes_with_the_encoding(name: str, dim: int) -> None:
    encoding, kept = EVERY[name], torch.tensor([0, 2, 3])
    value = encoding.value(encoding.free(weight()))
    less = encoding.select(dim, kept)
    cut = value.index_select(dim, kept)
    assert torch.equal(less.value(less.free(cut)), cut)


def test_codebooks_of_a_tensor_cut_to_a_few_entries_fit_a_file() -> None:
    """Of 60 values and 6 codebooks, numbers above those of the entries and slices left."""
    numbers = torch.arange(6 * 60).reshape(6, 60) % 60
    numbers[5, 30] = -1
    encoding = Codebook(numbers, torch.arange(6))
    value = encoding.value(encoding.free(torch.randn(6, 60, generator=torch.Generator().manual_seed(0))))
    rows, columns = torch.tensor([4, 5]), torch.tensor([30, 58, 59])
    cut = value.index_select(0, rows).index_select(1, columns)
    less = encoding.select(0, rows).select(1, columns)
    again = Codebook.read(less.tensors(), cut.shape)
    assert (again.count(), again.size()) == (2, 3)
    assert torch.equal(again.value(again.free(cut)), cut)
    assert int((again.codes < 0).sum()) == 1
    network = network_of(nn.Sequential(nn.Linear(3, 2)), 3).replaced(encodings={"0.weight": again})
    network.project()
    assert read_container(encode(network).file).tensors[0].kind == "codebook"


@pytest.mark.parametrize("name", EVERY)
def test_what_a_file_keeps_comes_back(name: str) -> None:
    encoding = EVERY[name]
    again = type(encoding).read(encoding.tensors(), weight().shape)
    assert torch.equal(again.value(again.free(weight())), encoding.value(encoding.free(weight())))


def test_the_nearest_codebook_has_the_means_of_its_members_and_zeros_stay() -> None:
    value = Codebook(codes(-1), ROWS).value(Codebook(codes(-1), ROWS).free(weight()))
    assert bool((value[codes(-1) < 0] == 0).all())
    for book in range(3):
        members = (book == ROWS).reshape(-1, 1, 1, 1) & (codes(-1) == 4)
        torch.testing.assert_close(value[members].unique(), weight()[members].mean().reshape(1))


def test_centroids_get_the_sum_of_their_members_gradients() -> None:
    """Han et al. 2016, equation 3: ∂L/∂C_k = Σ_ij ∂L/∂W_ij · 1(I_ij = k)."""
    encoding, gradient = Codebook(codes(-1)), weight(5)
    free = encoding.free(weight()).requires_grad_()
    encoding.value(free).backward(gradient)
    expected = torch.stack([gradient[codes(-1) == k].sum() for k in range(8)])
    torch.testing.assert_close(free.grad, expected)


def test_gradients_pass_straight_through_a_grid_but_not_where_it_clips() -> None:
    encoding, gradient = Grid(torch.tensor(0.25), -4, 3), weight(5)
    free = weight().requires_grad_()
    encoding.value(free).backward(gradient)
    inside = (weight() >= -1.0) & (weight() <= 0.75)
    assert torch.equal(free.grad, gradient * inside)
    assert torch.equal(encoding.value(free), torch.fake_quantize_per_tensor_affine(weight(), 0.25, 0, -4, 3))


@pytest.mark.parametrize(
    ("cls", "tensors", "match"),
    [
        (Mask, {"keep": torch.ones(6, 5, 3, 4, dtype=torch.bool)}, "shape"),
        (Mask, {"keep": torch.ones(6, 5, 3, 3)}, "type"),
        (Codebook, {"codes": torch.full((6, 5, 3, 3), -2)}, "range"),
        (Codebook, {"codes": codes(0), "rows": torch.arange(5)}, "slice"),
        (Codebook, {"codes": codes(0), "rows": torch.full((6,), 6)}, "range"),
        (Codebook, {"codes": codes(0), "other": ROWS}, "consists"),
        (Grid, {"step": torch.tensor(0.0), "range": torch.tensor([-1, 1])}, "above zero"),
        (Grid, {"step": torch.tensor(float("nan")), "range": torch.tensor([-1, 1])}, "finite"),
        (Grid, {"step": torch.ones(5), "range": torch.tensor([-1, 1])}, "step"),
        (Grid, {"step": torch.tensor(1.0), "range": torch.tensor([1, 2])}, "range"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(
    cls: type[Mask | Codebook | Grid], tensors: dict[str, Tensor], match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        cls.read(tensors, weight().shape)


def test_codebooks_beyond_memory_are_refused() -> None:
    """Few bytes of codes and numbers could ask for a table of their product."""
    codes_, rows = torch.zeros(5000, 2, dtype=torch.int64), torch.zeros(5000, dtype=torch.int64)
    codes_[0, 0], rows[0] = 9999, 4999
    with pytest.raises(ValueError, match="memory"):
        Codebook.read({"codes": codes_, "rows": rows}, codes_.shape)


def test_a_grid_learns_where_rounding_after_each_step_would_stand_still(tmp_path: Path) -> None:
    """Small steps add up in the free values: the levels move though each step is far below half a grid step."""
    network = network_of(Chain(), 1, 8, 8)
    grid = Grid(torch.tensor(0.1), -8, 7)
    network = network.replaced(encodings={"conv2.weight": grid})
    network.project()
    before = _levels(network, grid)
    spec = Training(epochs=4, learning_rate=0.02, loss="labels")
    trained, facts = train(network, spec, context_for(tmp_path, network), stage="s")
    after = _levels(trained, grid)
    assert facts["best_epoch"] > 0
    assert torch.equal(after, after.round())
    assert not torch.equal(after, before)


def _levels(network: Network, grid: Grid) -> Tensor:
    return grid.levels(network.module.get_parameter("conv2.weight").detach())
