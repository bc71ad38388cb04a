"""Cutting channels: every coupled structure stays whole and computes what the zero-masked original does."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from compression.encodings import Blocks, Mask
from compression.errors import MethodError, VerificationError
from compression.network import Network
from compression.pruning.channel_map import ChannelMap
from compression.pruning.channels import map_channels
from compression.pruning.cut import cut, zeroed
from compression.pruning.importance import Scores, magnitude
from compression.pruning.plan import CostModel, choose
from tests.engine.attention_nets import lifted
from tests.engine.nets import ALL, Chain, Depthwise, Grouped, Powers, Residual, Summed, Tied, Upsampled, network_of


def produced(channels: ChannelMap) -> set[tuple[str, ...]]:
    return {width.names for width in channels.widths()}


def some_units(network: Network, share: float = 0.4) -> list[int]:
    """A seeded share of each width's units."""
    random = np.random.default_rng(0)
    removed: list[int] = []
    for width in map_channels(network).widths():
        removed += random.choice(width.units, int(len(width.units) * share), replace=False).tolist()
    return removed


@pytest.mark.parametrize("name", ALL)
def test_a_cut_equals_the_zero_masked_original(name: str) -> None:
    network = network_of(ALL[name](), 1, 8, 8)
    removed = some_units(network)
    assert removed
    before = {key: value.clone() for key, value in network.module.state_dict().items()}
    smaller = cut(network, map_channels(network), removed, reason={})  # raises unless it does
    count = sum(value.numel() for value in smaller.module.parameters())
    assert count < sum(value.numel() for value in network.module.parameters())
    assert all(torch.equal(value, before[key]) for key, value in network.module.state_dict().items())
    smaller.module.train()
    loss = smaller.module(*smaller.example(4)).square().sum()
    loss.backward()  # it still trains
    assert all(value.grad is not None for value in smaller.module.parameters())


def test_a_wrong_cut_is_refused() -> None:
    network = network_of(Residual(), 1, 8, 8)
    channels = map_channels(network)
    removed = some_units(network)
    with torch.no_grad():
        # A map that forgets a consumer cuts the wrong columns.
        channels.layers["head"].inputs[:] = channels.layers["head"].inputs[::-1].copy()
    with pytest.raises(VerificationError):
        cut(network, channels, removed[:1], reason={})


def test_an_addition_ties_its_operands() -> None:
    channels = map_channels(network_of(Residual(), 1, 8, 8))
    stem, outer = channels.layers["stem"].outputs, channels.layers["outer"].outputs
    assert (channels.units[stem] == channels.units[outer]).all()
    assert produced(channels) == {("stem", "outer"), ("inner",)}


def test_groups_keep_equal_sizes_and_depthwise_follows_its_input() -> None:
    network = network_of(Depthwise(), 1, 8, 8)
    smaller = cut(network, map_channels(network), some_units(network, 0.5), reason={})
    layers = smaller.layers()
    assert layers["depthwise"].groups == layers["stem"].out_channels < 8
    assert layers["depthwise"].out_channels == 2 * layers["stem"].out_channels
    assert layers["grouped"].groups == 4
    assert layers["grouped"].in_channels == layers["depthwise"].out_channels


def test_a_whole_group_of_a_group_norm_goes_without_a_trace() -> None:
    """Its own reference: the layer that reads it has zeros there, and the norm is the one that it was."""
    network = network_of(Grouped(), 1, 8, 8)
    channels = map_channels(network)
    parts = {(width.names, *width.parts): len(width.units) for width in channels.widths()}
    assert parts == {
        (("stem",), "channels"): 4,
        (("stem",), "width"): 3,
        (("second",), "channels"): 6,
        (("third",), "width"): 8,
    }
    groups = next(w.units for w in channels.widths() if (w.names, w.parts) == (("stem",), {"channels"}))
    smaller = cut(network, channels, groups[[1]].tolist(), reason={})
    assert (smaller.layers()["norm"].num_groups, smaller.layers()["norm"].num_channels) == (3, 9)
    wanted = network.copy()
    with torch.no_grad():
        wanted.layers()["second"].weight[:, 3:6] = 0
        x = network.example(3)
        torch.testing.assert_close(smaller.module(*x), wanted.module(*x), rtol=1e-5, atol=1e-6)


def test_groups_and_places_in_them_are_widths_of_their_own() -> None:
    """Where a layer norm reads both, they are the same part; one of each has to be left all the same."""
    network = network_of(nn.Sequential(nn.Linear(6, 24), nn.GroupNorm(4, 24), nn.LayerNorm(24), nn.Linear(24, 5)), 6)
    assert sorted(len(width.units) for width in map_channels(network).widths()) == [4, 6]


def test_transposed_convolutions_and_pixels_made_of_channels_are_cut() -> None:
    network = network_of(Upsampled(), 1, 8, 8)
    channels = map_channels(network)
    found = {width.names: (set(width.parts), len(width.units)) for width in channels.widths()}
    assert found == {
        ("stem",): ({"channels"}, 8),
        ("up",): ({"channels"}, 6),
        ("shuffled",): ({"channels"}, 4),  # four channels each become one
        ("last",): ({"width"}, 7),
    }
    removed = [int(width.units[0]) for width in channels.widths()]
    layers = cut(network, channels, removed, reason={}).layers()
    assert layers["up"].weight.shape[:2] == (7, 5)
    assert layers["shuffled"].out_channels == 12
    assert layers["layer"].normalized_shape == (6,)


def test_what_is_not_followed_is_left_alone_and_named() -> None:
    channels = map_channels(network_of(Summed(), 1, 8, 8))
    assert "cumsum" in channels.frozen_by["stem"]
    assert "output" in channels.frozen_by["head"]
    assert produced(channels) == {("after",)}


def test_what_shares_its_weight_stays() -> None:
    channels = map_channels(network_of(Tied(), 1, 8, 8))
    assert produced(channels) == {("middle",)}
    assert "shares its weight" in channels.frozen_by["right"]


def test_a_power_by_a_tensor_is_left_alone() -> None:
    channels = map_channels(network_of(Powers(), 1, 8, 8))
    assert produced(channels) == {("mix",)}
    assert "pow" in channels.frozen_by["exponent"]


def test_layers_may_shrink_to_one_channel_in_rounds() -> None:
    """A depthwise layer of one channel is an ordinary one: what was coupled before may come apart."""
    stack = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 8, 3, groups=4), nn.Conv2d(8, 4, 1), nn.Conv2d(4, 5, 1))
    network = network_of(stack, 1, 8, 8)
    floors = dict.fromkeys(map_channels(network).layers, 1)
    for _ in range(40):
        channels = map_channels(network)
        model = CostModel(network, channels, "macs")
        try:
            removed = choose(
                channels, magnitude(network, channels), model, model.total() * 0.95, by_saving=False,
                widths=channels.widths(), floors=floors, multiple_of=1,
            )  # fmt: skip
        except MethodError:
            break
        network = cut(network, channels, removed, reason={})
    widths = {name: tuple(layer.weight.shape[:2]) for name, layer in network.layers().items()}
    assert widths == {"0": (1, 1), "1": (1, 1), "2": (1, 1), "3": (5, 1)}


def test_masks_are_cut_along() -> None:
    network = network_of(Chain(), 1, 8, 8)
    keep = torch.rand(12, 8, 3, 3, generator=torch.Generator().manual_seed(0)) > 0.5
    network = network.replaced(encodings={"conv2.weight": Mask(keep)})
    network.project()
    smaller = cut(network, map_channels(network), some_units(network), reason={})
    mask = smaller.encodings["conv2.weight"]
    weight = smaller.layers()["conv2"].weight
    assert isinstance(mask, Mask)
    assert mask.keep.shape == weight.shape
    assert bool((weight[~mask.keep] == 0).all())
    assert bool((weight[mask.keep] != 0).all())


@pytest.mark.parametrize("measure", ["macs", "parameters"])
@pytest.mark.parametrize(
    "name", ["chain", "residual", "concat", "depthwise", "shared", "excited", "grouped", "upsampled"]
)
def test_the_plan_meets_its_target_and_its_cost_model_is_exact(name: str, measure: str) -> None:
    from compression.measure.cost import cost_of

    network = network_of(ALL[name](), 1, 8, 8)
    channels = map_channels(network)
    model = CostModel(network, channels, measure)  # type: ignore[arg-type]
    before = getattr(cost_of(network), measure)
    model.elsewhere = before - model.total()
    removed = _choose(network, model, before * 0.5)
    after = getattr(cost_of(cut(network, channels, removed, reason={})), measure)
    assert after == pytest.approx(model.total())
    assert 0.3 * before < after <= 0.5 * before


def test_widths_come_in_multiples() -> None:
    network = network_of(Chain(), 1, 8, 8)
    model = CostModel(network, map_channels(network), "macs")
    removed = _choose(network, model, model.total() * 0.5, multiple_of=5)
    layers = cut(network, map_channels(network), removed, reason={}).layers()
    widths = [layers[name].weight.shape[0] for name in ("conv1", "conv2", "hidden")]
    assert all(width % 5 == 0 or width == full for width, full in zip(widths, (8, 12, 20), strict=True))
    assert sum(widths) < 40


def test_a_target_out_of_reach_is_an_error() -> None:
    network = network_of(Chain(), 1, 8, 8)
    model = CostModel(network, map_channels(network), "macs")
    with pytest.raises(MethodError, match="max_layer_ratio"):
        _choose(network, model, model.total() * 0.01, max_layer_ratio=0.2)


def test_what_saves_more_goes_first_where_scores_are_alike() -> None:
    """All scores equal: by saving, the one channel removed is the one that saves most; else the first in order."""
    network = network_of(Chain(), 1, 8, 8)
    channels = map_channels(network)
    scores = np.ones(len(channels.units))
    savings = {
        name: CostModel(network, channels, "macs").saving([int(channels.units[layer.outputs][0, 0])])
        for name, layer in channels.layers.items()
        if channels.prunable(name)
    }
    model = CostModel(network, channels, "macs")
    removed = _choose(network, model, model.total() - 1, scores=scores, by_saving=True)
    dearest = max(savings, key=lambda name: savings[name])
    assert removed == [int(channels.units[channels.layers[dearest].outputs][0, 0])]
    model = CostModel(network, channels, "macs")
    assert _choose(network, model, model.total() - 1, scores=scores) == [
        int(channels.units[channels.layers["conv1"].outputs][0, 0])
    ]


def _choose(
    network: Network,
    model: CostModel,
    target: float,
    *,
    scores: Scores | None = None,
    by_saving: bool = False,
    multiple_of: int = 1,
    max_layer_ratio: float = 0.9,
) -> list[int]:
    channels = model.channels
    return choose(
        channels,
        magnitude(network, channels) if scores is None else scores,
        model,
        target,
        by_saving=by_saving,
        widths=channels.widths(),
        floors={
            name: max(1, math.ceil(len(layer.outputs) * (1 - max_layer_ratio)))
            for name, layer in channels.layers.items()
        },
        multiple_of=multiple_of,
    )


def test_zeroing_nothing_changes_nothing() -> None:
    network = network_of(Depthwise(), 1, 8, 8)
    same = zeroed(network, map_channels(network), [])
    assert torch.equal(same.module(*network.example(3)), network.module(*network.example(3)))


@pytest.mark.parametrize("by_saving", [True, False])
def test_prices_that_are_kept_are_those_that_would_be_worked_out_anew(by_saving: bool) -> None:
    """Against a plan without memory, on a network whose widths share layers."""
    network = lifted("mixed")
    channels = map_channels(network)
    widths = channels.widths()
    scores = np.zeros(len(channels.units))
    random = np.random.default_rng(0)
    for width in widths:  # as dear as what they save, more or less, so that all widths take turns
        model = CostModel(network, channels, "macs")
        savings = [model.saving([unit]) if by_saving else 1.0 for unit in width.units.tolist()]
        scores[width.units] = random.uniform(0.5, 1.5, len(savings)) * savings
    floors = dict.fromkeys(channels.producers, 1)

    def chosen(target: float) -> list[int]:
        model = CostModel(network, channels, "macs")
        return choose(channels, scores, model, target, by_saving=by_saving, widths=widths, floors=floors, multiple_of=1)

    total = CostModel(network, channels, "macs").total()
    removed = chosen(total * 0.6)
    model = CostModel(network, channels, "macs")
    queues = [width.units[np.argsort(scores[width.units], kind="stable")].tolist() for width in widths]
    for unit in removed:
        prices = []
        for queue in queues:
            saved = model.saving(queue[:1]) if len(queue) > 1 else 0
            prices.append(scores[queue[0]] / (saved if by_saving else 1) if saved > 0 else math.inf)
        best = queues[int(np.argmin(prices))]
        assert best.pop(0) == unit
        model.remove([unit])
    assert model.total() <= total * 0.6


def test_a_weight_that_can_not_be_cut_so_is_named() -> None:
    network = network_of(Chain(), 1, 8, 8)
    blocks = Blocks(torch.full((5, 2), 0.1), 16)  # of the 20 inputs that the hidden layer's units are
    network = network.replaced(encodings={"head.weight": blocks})
    network.project()
    channels = map_channels(network)
    unit = channels.open_units(channels.producers["hidden"])[0]
    with pytest.raises(MethodError, match="blocks of inputs can't be cut") as caught:
        cut(network, channels, [unit], reason={})
    assert caught.value.where == "head.weight"
