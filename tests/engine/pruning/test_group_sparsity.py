"""DepGraph's regulariser against Torch-Pruning's, and that training by it makes units small."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path

import torch
import torch_pruning as tp

from compression.pruning.channels import map_channels
from compression.pruning.group_sparsity import SparseGroups, group_penalty
from compression.pruning.importance import magnitude
from compression.training.loop import train
from compression.training.spec import Training
from tests.engine.nets import Residual, network_of
from tests.engine.pruning.test_importance import context_for


def test_the_pull_is_that_of_torch_pruning() -> None:
    """What `GroupNormPruner.regularize` adds to the gradients."""
    network = network_of(Residual(), 1, 8, 8)
    channels = map_channels(network)
    units = [torch.from_numpy(width.units) for width in channels.widths()]
    module = network.copy().module
    group_penalty(module, channels, units, 0.01).backward()
    theirs = copy.deepcopy(network.module)
    for value in theirs.parameters():
        value.grad = torch.zeros_like(value)
    pruner = tp.pruner.GroupNormPruner(
        theirs,
        network.example(2)[0],
        tp.importance.GroupMagnitudeImportance(p=2, group_reduction="mean", normalizer="mean"),
        reg=0.01,
        ignored_layers=[theirs.get_submodule("head")],
    )
    pruner.regularize(theirs)
    for name, value in theirs.named_parameters():
        own = module.get_parameter(name).grad
        own = torch.zeros_like(value) if own is None else own
        torch.testing.assert_close(own, value.grad, rtol=1e-4, atol=1e-7, msg=name)


def test_training_makes_the_least_important_units_smaller_than_the_rest(tmp_path: Path) -> None:
    network = network_of(Residual(), 1, 8, 8)
    context = context_for(network, tmp_path)
    channels = map_channels(network)
    widths = channels.widths()
    objective = partial(SparseGroups, channels=channels, widths=widths, strength=0.5)
    spec = Training(epochs=20, batch_size=16, learning_rate=0.01, weight_decay=0, second_chances=0)
    trained, _ = train(network, spec, context, stage="sparse", objective=objective, keep="last")
    inner = next(width.units for width in widths if width.names == ("inner",))
    before, after = (magnitude(net, channels)[inner] for net in (network, trained))
    assert after.min() / after.max() < 0.5 * before.min() / before.max()
