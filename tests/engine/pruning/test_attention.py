"""Cuts in transformers: every part goes by itself and together, and each equals a reference made by hand."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
import torch_pruning as tp
from torch import Tensor, nn

from compression.measure.cost import cost_of
from compression.network import Network
from compression.pruning.channel_map import ChannelMap
from compression.pruning.channels import map_channels
from compression.pruning.cut import cut
from compression.pruning.plan import CostModel
from tests.engine import attention_nets
from tests.engine.attention_nets import HEADS, PLACES, WIDTH, Joint, Vision, lifted, make, save


def some_of(channels: ChannelMap, part: str, share: float = 0.4) -> list[int]:
    random = np.random.default_rng(0)
    removed: list[int] = []
    for width in channels.widths():
        if part in {*width.parts, "all"}:
            count = max(1, int(len(width.units) * share))
            removed += random.choice(width.units, count, replace=False).tolist()
    return removed


PARTS = ["heads", "head_dim", "neurons", "width", "all"]
MISSING = {("scores", "width")}  # it has no norm: its embedding's places are neurons


@pytest.mark.parametrize(
    ("name", "part"), [(n, p) for n in attention_nets.NETS for p in PARTS if (n, p) not in MISSING]
)
def test_a_part_goes_exactly_and_costs_what_the_plan_says(name: str, part: str) -> None:
    network = lifted(name)
    channels = map_channels(network)
    removed = some_of(channels, part)
    assert removed
    smaller = cut(network, channels, removed, reason={})  # raises unless it equals the masked original
    for measure in ("macs", "parameters"):
        model = CostModel(network, channels, measure)  # type: ignore[arg-type]
        assert model.total() == getattr(cost_of(network), measure)
        model.remove(removed)
        assert model.total() == pytest.approx(getattr(cost_of(smaller), measure))
    again = map_channels(smaller)  # the next round sees the same widths, narrower
    assert [width.names for width in again.widths()] == [width.names for width in channels.widths()]
    assert sum(len(w.units) for w in again.widths()) == sum(len(w.units) for w in channels.widths()) - len(removed)
    cut(smaller, again, some_of(again, part, 0.1), reason={})


def units_at(channels: ChannelMap, name: str, part: str) -> list[int]:
    """The units of the one width of `part` that the layer `name` makes, in the order of its outputs."""
    (width,) = (width for width in channels.widths() if name in width.names and part in width.parts)
    order = [unit for unit in channels.members(channels.producers[name])[1].tolist() if unit in width.units]
    return list(dict.fromkeys(order))


def joint() -> tuple[Network, Vision, Tensor]:
    module, (x,) = make("joint")
    assert isinstance(module, Vision)
    return lifted("joint"), module, x


def test_a_head_gone_is_its_columns_of_the_output_projection_zeroed() -> None:
    network, module, x = joint()
    channels = map_channels(network)
    unit = units_at(channels, "blocks.1.qkv", "heads")[1]
    smaller = cut(network, channels, [unit], reason={})
    with torch.no_grad():
        module.blocks[1].proj.weight[:, PLACES : 2 * PLACES] = 0
        torch.testing.assert_close(smaller.module(x), module(x), rtol=1e-5, atol=1e-6)
    assert smaller.layers()["blocks.1.qkv"].weight.shape == (3 * PLACES * (HEADS - 1), WIDTH)
    assert smaller.layers()["blocks.0.qkv"].weight.shape == (3 * WIDTH, WIDTH)


def test_a_place_in_every_head_gone_is_its_rows_zeroed_at_the_old_scale() -> None:
    network, module, x = joint()
    channels = map_channels(network)
    unit = units_at(channels, "blocks.0.qkv", "head_dim")[2]
    smaller = cut(network, channels, [unit], reason={})
    rows = torch.arange(3 * WIDTH) % PLACES == 2
    with torch.no_grad():
        module.blocks[0].qkv.weight[rows] = 0
        module.blocks[0].qkv.bias[rows] = 0
        torch.testing.assert_close(smaller.module(x), module(x), rtol=1e-5, atol=1e-6)
    scales = [n.kwargs["scale"] for n in smaller.module.graph.nodes if n.target is F.scaled_dot_product_attention]
    assert scales == [pytest.approx(PLACES**-0.5), None]


class OverKept(nn.Module):
    """A layer norm that only sees the channels `kept`, and gives zero elsewhere."""

    def __init__(self, norm: nn.LayerNorm, kept: Tensor) -> None:
        super().__init__()
        self.norm, self.kept = norm, kept

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.norm.weight[self.kept], self.norm.bias[self.kept]
        result = torch.zeros_like(x)
        result[..., self.kept] = F.layer_norm(x[..., self.kept], weight.shape, weight, bias, self.norm.eps)
        return result


def test_residual_width_gone_is_norms_over_what_is_left() -> None:
    network, module, x = joint()
    channels = map_channels(network)
    unit = units_at(channels, "patches", "width")[7]
    smaller = cut(network, channels, [unit], reason={})
    kept = torch.arange(WIDTH) != 7
    for name, part in list(module.named_modules()):
        if isinstance(part, nn.LayerNorm):
            holder, _, last = name.rpartition(".")
            setattr(module.get_submodule(holder), last, OverKept(part, kept))
    with torch.no_grad():
        torch.testing.assert_close(smaller.module(x), module(x), rtol=1e-5, atol=1e-6)
    assert smaller.module.get_parameter("position").shape[-1] == WIDTH - 1
    assert smaller.module.get_parameter("token").shape[-1] == WIDTH - 1


@pytest.mark.parametrize(
    ("name", "layer", "part"), [("joint", "patches", "width"), ("chunked", "blocks.0.up", "neurons")]
)
def test_torch_pruning_cuts_the_same(name: str, layer: str, part: str) -> None:
    network = lifted(name)
    channels = map_channels(network)
    units = units_at(channels, layer, part)
    ours = cut(network, channels, [units[index] for index in (3, 8)], reason={})
    module = copy.deepcopy(network.module)
    alone = [(value, value.dim() - 1) for path, value in module.named_parameters() if "." not in path]
    graph = tp.DependencyGraph().build_dependency(module, network.example(2), unwrapped_parameters=alone)
    prune = tp.prune_conv_out_channels if part == "width" else tp.prune_linear_out_channels
    graph.get_pruning_group(module.get_submodule(layer), prune, [3, 8]).prune()
    x = network.example(3)
    with torch.no_grad():
        torch.testing.assert_close(ours.module(*x), module(*x), rtol=1e-5, atol=1e-6)


class Repeated(Joint):
    """Fewer heads for keys and values than for queries: not followed, so all heads stay."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, WIDTH + 2 * PLACES)

    def attend(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = (
            part.view(b, n, -1, PLACES).transpose(1, 2) for part in self.qkv(x).split([WIDTH, PLACES, PLACES], -1)
        )
        y = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        return self.proj(y.transpose(1, 2).reshape(b, n, WIDTH))


def test_heads_that_are_not_followed_stay_and_are_named(tmp_path) -> None:
    from compression.intake.model import read_model

    torch.manual_seed(0)
    network = read_model(save(Vision(Repeated).eval(), attention_nets.images(2), tmp_path / "gqa.pt2"))
    channels = map_channels(network)
    assert "scaled_dot_product_attention" in channels.frozen_by["blocks.0.qkv"]
    assert {part for width in channels.widths() for part in width.parts} == {"neurons", "width"}
    cut(network, channels, some_of(channels, "all"), reason={})


def test_a_transformer_from_onnx_is_followed_alike(tmp_path) -> None:
    from compression.export.onnx import write_onnx
    from compression.intake.model import read_model

    network = lifted("separate")
    write_onnx(network.module, network.signature, network.example(2), tmp_path / "net.onnx")
    back = read_model(tmp_path / "net.onnx")
    channels = map_channels(back)
    ours = sorted((sorted(width.parts), len(width.units)) for width in map_channels(network).widths())
    assert sorted((sorted(width.parts), len(width.units)) for width in channels.widths()) == ours
    cut(back, channels, some_of(channels, "all"), reason={})
