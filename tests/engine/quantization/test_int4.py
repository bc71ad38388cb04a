"""`quantize.int4`: linear layers in blocks of four bits, with compensation and without, alone and in a pipeline."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from compression.container.network import read_nwk, write_nwk
from compression.data import Split
from compression.encodings import Blocks, Mask
from compression.errors import MethodError, SpecError
from compression.methods.quantize.int4 import METHOD, QuantizeInt4, apply, check
from compression.network import Network
from compression.quantization.blocks import blocks_for
from compression.quantization.calibration import input_gram
from compression.spec import parse_job
from tests.engine.nets import Chain, network_of
from tests.engine.quantization.test_codebook import run
from tests.engine.training.test_loop import context_for, state

LINEAR = {"hidden.weight", "head.weight"}


def chain() -> Network:
    return network_of(Chain(), 1, 8, 8)


def test_linear_layers_get_blocks_and_outputs_stay_nearer_than_by_plain_rounding(tmp_path: Path) -> None:
    network = chain()
    before = state(network)
    context = context_for(tmp_path, network)
    result = apply(network, QuantizeInt4(block_size=16), context)
    assert set(result.network.encodings) == LINEAR
    assert result.facts["rounding"] == "gptq"
    plain = apply(network, QuantizeInt4(block_size=16, rounding="nearest"), context_for(tmp_path / "b", network))
    assert plain.facts["rounding"] == "nearest"
    assert context.data is not None
    x = context.data.test.inputs["x"]
    with torch.no_grad():
        wanted, errors = network.module(x), []
        for found in (result, plain):
            errors.append(float((found.network.module(x) - wanted).square().sum()))
            for name, encoding in found.network.encodings.items():
                value = found.network.module.get_parameter(name)
                assert isinstance(encoding, Blocks)
                assert torch.equal(encoding.value(value), value)
    assert errors[0] < 0.8 * errors[1]
    for facts in result.facts["parameters"].values():
        assert facts["output_sqnr_db"] > facts["output_sqnr_db_of_nearest"] + 0.5
    assert all(torch.equal(value, before[name]) for name, value in state(network).items())


def test_plain_rounding_is_that_of_the_blocks(tmp_path: Path) -> None:
    network = chain()
    spec = QuantizeInt4(block_size=32, zero_points=True, rounding="nearest")
    result = apply(network, spec, context_for(tmp_path, network))
    for name in LINEAR:
        value = network.module.get_parameter(name).detach()
        blocks = blocks_for(value, 32, zeros=True)
        assert torch.equal(result.network.module.get_parameter(name).detach(), blocks.value(value))
    # hidden: 20 rows of 2 blocks (48 inputs); head: 5 rows of 1 block: 16 bytes of codes, a step; zeros two in a byte.
    assert result.facts["packed_bytes"] == 45 * (16 + 4) + 20 + 5
    assert result.facts["fp32_bytes"] == 4 * (960 + 100)


def test_calibration_samples_are_the_files_own_where_it_has_some(tmp_path: Path) -> None:
    network = chain()
    context = context_for(tmp_path, network)
    assert context.data is not None
    own = Split({"x": torch.zeros(40, 1, 8, 8)}, None)
    given = dataclasses.replace(context, data=dataclasses.replace(context.data, given_calibration=own))
    found = apply(network, QuantizeInt4(block_size=16), given).facts["parameters"]["hidden.weight"]
    assert (
        found
        != apply(network, QuantizeInt4(block_size=16), context_for(tmp_path / "b", network)).facts["parameters"][
            "hidden.weight"
        ]
    )


def test_a_later_layer_sees_what_the_earlier_ones_became(tmp_path: Path) -> None:
    """The inputs of the second layer are those behind the rounded first one: its own result shows it."""
    network = chain()
    context = context_for(tmp_path, network)
    both = apply(network, QuantizeInt4(block_size=16), context).network
    first = apply(
        network,
        QuantizeInt4.model_validate({"block_size": 16, "layers": {"include": ["hidden"]}}),
        context_for(tmp_path / "b", network),
    ).network
    then = apply(
        first,
        QuantizeInt4.model_validate({"block_size": 16, "layers": {"include": ["head"]}}),
        context_for(tmp_path / "c", network),
    ).network
    assert all(torch.equal(value, state(then)[name]) for name, value in state(both).items())


def test_inputs_are_summed_over_all_rows_that_reach_the_weight(tmp_path: Path) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(torch.relu(self.layer(x)))

    network = network_of(Twice(), 8, 8)
    context = context_for(tmp_path, network)
    assert context.data is not None
    split = dataclasses.replace(context.data.train, inputs={"x": context.data.train.inputs["x"][:, 0]})
    found = input_gram(network.module, "layer.weight", split, torch.device("cpu"))
    x = split.inputs["x"]
    with torch.no_grad():
        rows = torch.cat([x, torch.relu(network.module.get_submodule("layer")(x))]).reshape(-1, 8).double()
    torch.testing.assert_close(found, rows.t() @ rows, rtol=1e-5, atol=1e-3)


def test_masked_zeros_stay_zero(tmp_path: Path) -> None:
    mask = Mask(torch.rand(20, 48, generator=torch.Generator().manual_seed(0)) > 0.7)
    network = chain().replaced(encodings={"hidden.weight": mask})
    network.project()
    result = apply(network, QuantizeInt4(block_size=16), context_for(tmp_path, network))
    assert bool((result.network.module.get_parameter("hidden.weight")[~mask.keep] == 0).all())


def test_it_wants_linear_layers_and_data_for_compensation(tmp_path: Path) -> None:
    network = chain()
    convolution = network_of(nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.ReLU()), 1, 6, 6)
    verdict = check(convolution)
    assert not verdict.applicable
    assert "linear" in verdict.reason
    assert check(network).applicable
    spec = QuantizeInt4.model_validate({"layers": {"include": ["conv1"]}})
    with pytest.raises(SpecError) as fault:
        apply(network, spec, context_for(tmp_path, network))
    assert fault.value.where == "/layers"
    without = dataclasses.replace(context_for(tmp_path / "b", network), data=None)
    assert apply(network, QuantizeInt4(), without).facts["rounding"] == "nearest"
    assert [METHOD.needs_data(QuantizeInt4(rounding=how)) for how in ("auto", "gptq", "nearest")] == [
        False,
        True,
        False,
    ]


def test_a_cut_of_rows_goes_along_and_one_of_columns_is_refused() -> None:
    blocks = blocks_for(torch.randn(6, 40, generator=torch.Generator().manual_seed(0)), 16, zeros=True)
    kept = torch.tensor([0, 2, 5])
    value = blocks.value(torch.randn(6, 40, generator=torch.Generator().manual_seed(1)))
    assert torch.equal(blocks.select(0, kept).value(value[kept]), value[kept])
    with pytest.raises(MethodError, match="prune before"):
        blocks.select(1, kept)


def test_in_a_pipeline_blocks_hold_through_training_and_files(tmp_path: Path) -> None:
    outcome = run(
        [
            {"method": "quantize.int4", "block_size": 16, "zero_points": True},
            {"method": "distill", "training": {"epochs": 1, "optimizer": "adamw", "learning_rate": 0.01}},
            {"method": "finetune", "training": {"epochs": 2, "optimizer": "adamw", "learning_rate": 0.01}},
            {"method": "encode"},
        ],
        tmp_path,
    )
    network = outcome.network
    write_nwk(network, tmp_path / "a.nwk")
    again = read_nwk(tmp_path / "a.nwk")
    assert all(torch.equal(value, state(again)[name]) for name, value in state(network).items())
    for name in LINEAR:
        blocks, value = network.encodings[name], network.module.get_parameter(name).detach()
        assert isinstance(blocks, Blocks)
        assert torch.equal(blocks.value(value), value)
        assert not torch.equal(value, chain().module.get_parameter(name).detach())
    assert max(step["facts"].get("best_epoch", 0) for step in outcome.steps) > 0


def test_block_sizes_are_those_of_the_operator() -> None:
    assert parse_job({"steps": [{"method": "quantize.int4", "block_size": 256}]}).steps
    with pytest.raises(SpecError):
        parse_job({"steps": [{"method": "quantize.int4", "block_size": 48}]})
