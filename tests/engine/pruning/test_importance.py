"""Importance criteria against independent references: Torch-Pruning for magnitude and batch norm, autograd on explicit
gates and finite differences for Taylor."""

from __future__ import annotations

import copy
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch_pruning as tp
from torch import nn

from compression.checkpoint import Checkpoints
from compression.context import Context
from compression.data import Dataset, Split
from compression.errors import MethodError
from compression.events import Reporter
from compression.network import Network
from compression.pruning.channels import map_channels
from compression.pruning.importance import batch_norm_scale, fisher, importance, magnitude, taylor
from tests.engine.attention_nets import HEADS, PLACES, WIDTH, lifted
from tests.engine.nets import Chain, Residual, network_of


def context_for(network: Network, tmp_path: Path, labelled: bool = True, samples: int = 32) -> Context:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(samples, *network.signature.inputs[0].shape, generator=generator)
    labels = torch.randint(0, 5, (samples,), generator=generator) if labelled else None
    split = Split({"x": inputs}, labels)
    reporter = Reporter(io.StringIO())
    return Context(
        data=Dataset(split, split, split, "classification" if labelled else None),
        original=network,
        device=torch.device("cpu"),
        seed=0,
        reporter=reporter,
        checkpoints=Checkpoints(tmp_path, "0-test", reporter),
    )


def scores_by_torch_pruning(network: Network, importance: object, layer: str) -> np.ndarray:
    module = copy.deepcopy(network.module)
    graph = tp.DependencyGraph().build_dependency(module, example_inputs=network.example(2))
    target = dict(module.named_modules())[layer]
    group = graph.get_pruning_group(target, tp.prune_conv_out_channels, list(range(target.out_channels)))
    return importance(group).detach().double().numpy()  # type: ignore[operator]


@pytest.mark.parametrize(("net", "layer"), [(Chain, "conv1"), (Residual, "stem"), (Residual, "inner")])
def test_group_magnitude_equals_torch_pruning(net: type[nn.Module], layer: str) -> None:
    network = network_of(net(), 1, 8, 8)
    channels = map_channels(network)
    ours = magnitude(network, channels)[channels.units[channels.layers[layer].outputs, 0]]
    theirs = scores_by_torch_pruning(
        network, tp.importance.GroupMagnitudeImportance(p=2, group_reduction="mean", normalizer="mean"), layer
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_batch_norm_scale_equals_torch_pruning() -> None:
    network = network_of(Chain(), 1, 8, 8)
    channels = map_channels(network).layers["conv1"]
    with pytest.raises(MethodError, match="hidden"):
        batch_norm_scale(network, map_channels(network), {"conv1", "hidden"})  # the linear layer has no norm
    full = map_channels(network)
    ours = batch_norm_scale(network, full, {"conv1", "conv2"})[full.units[channels.outputs, 0]]
    theirs = scores_by_torch_pruning(
        network, tp.importance.BNScaleImportance(group_reduction="mean", normalizer=None), "conv1"
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_taylor_is_the_squared_derivative_by_a_gate(tmp_path: Path) -> None:
    """One mini-batch: gates multiplied onto the input of the consumer, differentiated by autograd."""
    network = network_of(Residual(), 1, 8, 8)
    context = context_for(network, tmp_path)
    channels = map_channels(network)
    ours = taylor(network, channels, context)[channels.units[channels.layers["inner"].outputs, 0]]
    module = copy.deepcopy(network.module)
    gates = torch.ones(6, requires_grad=True)
    module.get_submodule("outer").register_forward_pre_hook(lambda _, args: (args[0] * gates.reshape(1, -1, 1, 1),))
    assert context.data is not None
    data = context.data.train
    loss = nn.functional.cross_entropy(module(data.inputs["x"]), data.labels)
    (expected,) = torch.autograd.grad(loss, gates)
    np.testing.assert_allclose(ours, expected.double().square().numpy(), rtol=1e-3, atol=1e-12)


def test_taylor_predicts_the_loss_change_of_a_small_gate(tmp_path: Path) -> None:
    network = network_of(Chain(), 1, 8, 8)
    context = context_for(network, tmp_path)
    channels = map_channels(network)
    ours = taylor(network, channels, context)[channels.units[channels.layers["conv1"].outputs, 0]]
    assert context.data is not None
    data = context.data.train

    def loss(gate: float, channel: int) -> float:
        module = copy.deepcopy(network.module).double()
        with torch.no_grad():
            module.get_submodule("conv2").weight[:, channel] *= gate
            output = module(data.inputs["x"].double())
        return float(nn.functional.cross_entropy(output, data.labels))

    for channel in range(8):
        slope = (loss(1 + 1e-4, channel) - loss(1 - 1e-4, channel)) / 2e-4
        assert ours[channel] == pytest.approx(slope**2, rel=1e-2, abs=1e-10)


def test_taylor_without_labels_is_the_curvature_of_the_distance_to_the_original(tmp_path: Path) -> None:
    """E[(∂⟨r, f⟩/∂g)²] over random r is Σ (∂f/∂g)²: compared with the exact Jacobian, averaged over outputs."""
    network = network_of(Chain(), 1, 8, 8)
    context = context_for(network, tmp_path, labelled=False, samples=2048)
    channels = map_channels(network)
    ours = taylor(network, channels, context)[channels.units[channels.layers["conv1"].outputs, 0]]
    assert context.data is not None
    x = context.data.train.inputs["x"].double()
    exact = np.zeros(8)
    for channel in range(8):

        def outputs(gate: float, channel: int = channel) -> torch.Tensor:
            module = copy.deepcopy(network.module).double()
            with torch.no_grad():
                module.get_submodule("conv2").weight[:, channel] *= gate
                return module(x)

        exact[channel] = float(((outputs(1 + 1e-4) - outputs(1 - 1e-4)) / 2e-4).square().sum(1).mean())
    assert np.corrcoef(ours, exact)[0, 1] > 0.97
    np.testing.assert_allclose(ours, exact, rtol=0.6)


def test_taylor_of_heads_and_places_is_the_squared_derivative_by_a_gate(tmp_path: Path) -> None:
    """One mini-batch: gates on the attention's output for heads, on queries and keys for places that only they have."""
    network = lifted("chunked")
    context = context_for(network, tmp_path)
    channels = map_channels(network)
    ours = taylor(network, channels, context)
    heads = next(width for width in channels.widths() if width.parts == {"heads"} and "blocks.0.qkv" in width.names)
    queries = channels.units[channels.producers["blocks.0.qkv"][:PLACES]]  # of the first head
    places = [next(unit for unit in row if unit not in heads.units) for row in queries.tolist()]
    assert context.data is not None
    data = context.data.train

    def derivative(layer: str, before: bool, gates: torch.Tensor, spread: torch.Tensor) -> np.ndarray:
        module = copy.deepcopy(network.module)
        part = module.get_submodule(layer)
        if before:
            part.register_forward_pre_hook(lambda _, args: (args[0] * spread(gates),))
        else:
            part.register_forward_hook(lambda _, __, output: output * spread(gates))
        loss = nn.functional.cross_entropy(module(data.inputs["x"]), data.labels)
        return torch.autograd.grad(loss, gates)[0].double().square().numpy()

    of_heads = derivative(
        "blocks.0.proj", True, torch.ones(HEADS, requires_grad=True), lambda gates: gates.repeat_interleave(PLACES)
    )
    np.testing.assert_allclose(ours[heads.units], of_heads, rtol=1e-3, atol=1e-12)
    rest = torch.ones(2 * WIDTH)
    of_places = derivative(
        "blocks.0.qkv",
        False,
        torch.ones(PLACES, requires_grad=True),
        lambda gates: torch.cat([gates.repeat(HEADS), rest]),
    )
    np.testing.assert_allclose(ours[places], of_places, rtol=1e-3, atol=1e-12)


def test_fisher_is_half_the_mean_square_of_each_samples_own_derivative(tmp_path: Path) -> None:
    """The gradients sample by sample by torch.func, as an independent reference."""
    network = network_of(Residual(), 1, 8, 8)
    context = context_for(network, tmp_path)
    channels = map_channels(network)
    ours = fisher(network, channels, context)[channels.units[channels.layers["inner"].outputs, 0]]
    assert context.data is not None
    data = context.data.train
    parts = dict(network.module.named_children())

    def loss(gates: torch.Tensor, x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        stem = torch.relu(parts["norm"](parts["stem"](x[None])))
        branch = parts["outer"](torch.relu(parts["inner"](stem)) * gates.reshape(1, -1, 1, 1))
        outputs = parts["head"](torch.relu(stem + branch).mean([2, 3]))
        return nn.functional.cross_entropy(outputs, label[None])

    slopes = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))(torch.ones(6), data.inputs["x"], data.labels)
    np.testing.assert_allclose(ours, 0.5 * slopes.detach().double().square().mean(0).numpy(), rtol=1e-3, atol=1e-12)


def test_random_scores_follow_the_seed_alone(tmp_path: Path) -> None:
    network = network_of(Chain(), 1, 8, 8)
    channels = map_channels(network)
    context = context_for(network, tmp_path)
    scores = [importance(network, channels, "random", replace(context, seed=seed), set()) for seed in (1, 1, 2)]
    assert (scores[0] == scores[1]).all()
    assert (scores[0] != scores[2]).any()
    assert (scores[0] == np.random.default_rng(1).random(len(channels.units))).all()
