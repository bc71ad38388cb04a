"""How much each channel matters: one score a unit, by one of several criteria.

A unit is what is kept or removed as a whole (`ChannelMap.units`). Scores of one criterion are comparable across layers;
a lower score is removed first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from compression.context import Context
from compression.errors import MethodError
from compression.network import Network, as_tuple
from compression.pruning.channel_map import ChannelMap, Layer
from compression.pruning.numbers import Ids
from compression.pruning.recurrent import matrices, norms
from compression.pruning.reference import gated
from compression.training.losses import label_loss

Criterion = Literal["taylor", "fisher", "magnitude", "batch_norm", "random"]
Scores = NDArray[np.float64]
TAYLOR_SAMPLES, TAYLOR_BATCH = 2048, 32
FISHER_SAMPLES = 512  # one by one


def importance(
    network: Network, channels: ChannelMap, criterion: Criterion, context: Context, selected: set[str]
) -> Scores:
    """Scores indexed by unit (other entries are zero). `selected` layers may lose channels."""
    if criterion == "taylor":
        return taylor(network, channels, context)
    if criterion == "fisher":
        return fisher(network, channels, context)
    if criterion == "magnitude":
        return magnitude(network, channels)
    if criterion == "batch_norm":
        return batch_norm_scale(network, channels, selected)
    return np.random.default_rng(context.seed).random(len(channels.units))  # a control: no criterion at all


def taylor(network: Network, channels: ChannelMap, context: Context) -> Scores:
    """First-order Taylor expansion of removing a channel (Molchanov et al. 2019, equation 8): the squared derivative of
    the loss by a gate on the channel, averaged over mini-batches of the training split.

    The gates sit where channels are read, by layers and by the product of queries and keys: exactly what removing them
    takes away. A unit of several channels (a head) has the sum of their derivatives. Without labels the loss is
    replaced by a random projection of the outputs; the mean square is then the Gauss-Newton curvature of the squared
    distance to the original's outputs.
    """
    return _mean_squared_slope(network, channels, context, TAYLOR_SAMPLES, TAYLOR_BATCH)


def fisher(network: Network, channels: ChannelMap, context: Context) -> Scores:
    """Second-order: the rise of the loss by ½ h when a gate of curvature h goes from one to zero, the first-order term
    taken as nil (LeCun et al. 1990). h is the diagonal of the empirical Fisher matrix: the squared derivative of each
    sample's own loss, averaged over samples (Theis et al. 2018). Gates and loss without labels are as in `taylor`."""
    return 0.5 * _mean_squared_slope(network, channels, context, FISHER_SAMPLES, 1)


def _mean_squared_slope(
    network: Network, channels: ChannelMap, context: Context, samples: int, batch_size: int
) -> Scores:
    """The mean over batches of the squared derivative of a batch's loss by each unit's gates."""
    module, gates = gated(network, channels)
    module.to(context.device)
    members = [channels.members(read.ids) for read in channels.reads]
    total = np.zeros(len(channels.units))
    number = 0
    for inputs, labels in batches(module, context, samples, batch_size):
        loss = batch_loss(as_tuple(module(*inputs)), labels, context, number)
        slopes = np.zeros(len(channels.units))
        gradients = torch.autograd.grad(loss, gates, materialize_grads=True)
        for (places, units), gradient in zip(members, gradients, strict=True):
            np.add.at(slopes, units, gradient.detach().cpu().double().flatten().numpy()[places])
        total += slopes**2
        number += 1
    return total / number


def magnitude(network: Network, channels: ChannelMap) -> Scores:
    """Group magnitude (Fang et al. 2023, DepGraph, p = 2): the mean, over all parameters that a unit owns in
    different layers, of its squared L2 norm; divided by the mean over the units of the same width. A recurrent layer is
    two such layers each way, from the inputs and from the hidden units; a unit's rows in all gates are one norm."""
    return _normalised(
        _mean_of(lambda: owned_squares(network.module, channels, lambda value: value.detach().double()), channels),
        channels,
    )


def owned_squares(
    module: nn.Module, channels: ChannelMap, read: Callable[[Tensor], Tensor] = lambda value: value
) -> Iterator[tuple[Ids, Tensor]]:
    """For each parameter that units own a part of, or twice where its inputs and its outputs are both units': numbers,
    and the squared L2 norm of each one's part. `read` makes what is squared of a parameter."""
    weights = dict(module.named_parameters(remove_duplicate=False))
    for name, layer in channels.layers.items():
        squared = read(weights[f"{name}.weight"]).square()
        yield layer.outputs, by_output(squared, layer)
        if not layer.depthwise:
            yield layer.inputs, by_input(squared, layer)
    for name, recurrent in channels.recurrent.items():
        for part, weight in matrices(module.get_submodule(name)):
            yield from norms(recurrent, read(weight).square(), part)
    for name in set(channels.producers) - set(channels.layers) - set(channels.recurrent):  # embeddings
        yield channels.producers[name], read(weights[f"{name}.weight"]).square().sum(0)
    for name, ids in channels.norms.items():
        if f"{name}.weight" in weights:
            yield ids, read(weights[f"{name}.weight"]).square()


def batch_norm_scale(network: Network, channels: ChannelMap, selected: set[str]) -> Scores:
    """|γ| of the norms on a channel (Liu et al. 2017, Network Slimming), mean over them.

    MethodError: a layer that may lose channels has none.
    """
    weights = dict(network.module.named_parameters(remove_duplicate=False))
    covered: set[int] = set()
    for name, ids in channels.norms.items():
        if f"{name}.weight" in weights:
            covered |= set(channels.open_units(ids))
    for name, ids in channels.producers.items():
        if name in selected and not set(channels.open_units(ids)) <= covered:
            raise MethodError("importance batch_norm needs a batch norm with a scale on every pruned layer", name)

    def members() -> Iterator[tuple[Ids, Tensor]]:
        for name, ids in channels.norms.items():
            if f"{name}.weight" in weights:
                yield ids, weights[f"{name}.weight"].detach().double().abs()

    return _mean_of(members, channels)


def by_input(values: Tensor, layer: Layer) -> Tensor:
    """Sums a weight-shaped tensor over all but the input axis: one value for each of `layer.inputs`."""
    if layer.transposed:
        return values.flatten(1).sum(1)
    by_group = values.reshape(layer.groups, values.shape[0] // layer.groups, values.shape[1], -1)
    return by_group.sum(dim=(1, 3)).flatten()


def by_output(values: Tensor, layer: Layer) -> Tensor:
    """Sums a weight-shaped tensor over all but the output axis: one value for each of `layer.outputs`."""
    if not layer.transposed:
        return values.flatten(1).sum(1)
    by_group = values.reshape(layer.groups, values.shape[0] // layer.groups, values.shape[1], -1)
    return by_group.sum(dim=(1, 3)).flatten()


def _mean_of(members: Callable[[], Iterator[tuple[Ids, Tensor]]], channels: ChannelMap) -> Scores:
    sums, counts = np.zeros(len(channels.units)), np.zeros(len(channels.units))
    for ids, values in members():
        places, units = channels.members(ids)
        np.add.at(sums, units, values.numpy()[places])
        np.add.at(counts, units, 1)
    return sums / np.maximum(counts, 1)


def _normalised(scores: Scores, channels: ChannelMap) -> Scores:
    for width in channels.widths():
        mean = float(scores[width.units].mean())
        if mean > 0:
            scores[width.units] /= mean
    return scores


def batches(
    module: fx.GraphModule, context: Context, samples: int, batch_size: int
) -> Iterator[tuple[tuple[Tensor, ...], Tensor | None]]:
    """Inputs and labels of some training samples, drawn by the seed; `module` is put into evaluation mode."""
    data = context.require_data("importance")
    generator = torch.Generator().manual_seed(context.seed)
    chosen = torch.randperm(len(data.train), generator=generator)[:samples]
    module.eval()
    for start in range(0, len(chosen), batch_size):
        batch = data.train.take(chosen[start : start + batch_size]).to(context.device)
        yield tuple(batch.inputs.values()), batch.labels


def batch_loss(outputs: tuple[Tensor, ...], labels: Tensor | None, context: Context, number: int) -> Tensor:
    """Of the batch `number`: the loss by its labels, summed over outputs. Without labels a random projection of the
    outputs, divided by the root of the samples."""
    data = context.require_data("importance")
    if labels is not None and data.task is not None:
        losses: Tensor = torch.stack([label_loss(output, labels, data.task) for output in outputs]).sum()
        return losses
    generator = torch.Generator().manual_seed(context.seed + number)
    projected: Tensor = torch.stack([(output * _noise_like(output, generator)).sum() for output in outputs]).sum()
    return projected / math.sqrt(len(outputs[0]))


def _noise_like(output: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(output.shape, generator=generator).to(output.device)
