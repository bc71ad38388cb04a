"""How much each channel matters: one score a class of channels, by three criteria.

A class is what `ChannelMap.classes` unites: it is kept or removed as a whole. Scores of one criterion are comparable
across layers; a lower score is removed first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from compression.context import Context
from compression.errors import MethodError
from compression.network import Network, as_tuple
from compression.pruning.channel_map import ChannelMap, Ids, Layer
from compression.training.losses import label_loss

Criterion = Literal["taylor", "magnitude", "batch_norm"]
Scores = NDArray[np.float64]
TAYLOR_SAMPLES = 2048
TAYLOR_BATCH = 32


def importance(
    network: Network, channels: ChannelMap, criterion: Criterion, context: Context, selected: set[str]
) -> Scores:
    """Scores indexed by class representative (other entries are zero). `selected` layers may lose channels."""
    if criterion == "taylor":
        return taylor(network, channels, context)
    if criterion == "magnitude":
        return magnitude(network, channels)
    return batch_norm_scale(network, channels, selected)


def taylor(network: Network, channels: ChannelMap, context: Context) -> Scores:
    """First-order Taylor expansion of removing a channel (Molchanov et al. 2019, equation 8): the squared derivative of
    the loss by a gate on the channel, averaged over mini-batches of the training split.

    The gate sits where the channel is consumed, so its derivative is the sum of weight × gradient over the consumers'
    slices: exactly what removing the channel takes away. Without labels the loss is replaced by a random projection of
    the outputs; the mean square is then the Gauss-Newton curvature of the squared distance to the original's outputs.
    """
    data = context.require_data("importance: taylor")
    module = network.copy().module.to(context.device)
    weights = dict(module.named_parameters(remove_duplicate=False))
    consumers = {name: layer for name, layer in channels.layers.items() if not layer.depthwise}
    total = np.zeros(len(channels.classes))
    batches = 0
    for outputs, labels in _batches(module, context):
        if labels is not None and data.task is not None:
            loss = sum((label_loss(output, labels, data.task) for output in outputs), torch.zeros(()))
        else:
            generator = torch.Generator().manual_seed(context.seed + batches)
            loss = torch.stack([(output * _noise_like(output, generator)).sum() for output in outputs]).sum()
            loss = loss / len(outputs[0]) ** 0.5
        gradients = torch.autograd.grad(loss, [weights[f"{name}.weight"] for name in consumers])
        gates = np.zeros(len(channels.classes))
        for (name, layer), gradient in zip(consumers.items(), gradients, strict=True):
            product = (gradient * weights[f"{name}.weight"]).detach().cpu().double()
            np.add.at(gates, channels.classes[layer.inputs], by_input(product, layer).numpy())
        total += gates**2
        batches += 1
    return total / batches


def magnitude(network: Network, channels: ChannelMap) -> Scores:
    """Group magnitude (Fang et al. 2023, DepGraph, p = 2): the mean, over all parameters that a class owns in
    different layers, of its squared L2 norm; divided by the mean over the classes that share the same producers."""
    weights = dict(network.module.named_parameters(remove_duplicate=False))

    def members() -> Iterator[tuple[Ids, Tensor]]:
        for name, layer in channels.layers.items():
            squared = weights[f"{name}.weight"].detach().double().square()
            yield layer.outputs, squared.flatten(1).sum(1)
            if not layer.depthwise:
                yield layer.inputs, by_input(squared, layer)
        for name, ids in channels.norms.items():
            if f"{name}.weight" in weights:
                yield ids, weights[f"{name}.weight"].detach().double().square()

    return _normalised(_mean_of(members, channels), channels)


def batch_norm_scale(network: Network, channels: ChannelMap, selected: set[str]) -> Scores:
    """|γ| of the batch norms on a channel (Liu et al. 2017, Network Slimming), mean over them.

    MethodError: a layer that may lose channels has none.
    """
    weights = dict(network.module.named_parameters(remove_duplicate=False))
    covered = np.zeros(len(channels.classes), dtype=bool)
    for name, ids in channels.norms.items():
        if f"{name}.weight" in weights:
            covered[channels.classes[ids]] = True
    for name, layer in channels.layers.items():
        open_classes = channels.classes[layer.outputs[~channels.frozen[layer.outputs]]]
        if name in selected and not bool(covered[open_classes].all()):
            raise MethodError("importance batch_norm needs a batch norm with a scale on every pruned layer", name)

    def members() -> Iterator[tuple[Ids, Tensor]]:
        for name, ids in channels.norms.items():
            if f"{name}.weight" in weights:
                yield ids, weights[f"{name}.weight"].detach().double().abs()

    return _mean_of(members, channels)


def by_input(values: Tensor, layer: Layer) -> Tensor:
    """Sums a weight-shaped tensor over all but the input axis: one value for each of `layer.inputs`."""
    by_group = values.reshape(layer.groups, values.shape[0] // layer.groups, values.shape[1], -1)
    return by_group.sum(dim=(1, 3)).flatten()


def _mean_of(members: Callable[[], Iterator[tuple[Ids, Tensor]]], channels: ChannelMap) -> Scores:
    sums, counts = np.zeros(len(channels.classes)), np.zeros(len(channels.classes))
    for ids, values in members():
        np.add.at(sums, channels.classes[ids], values.numpy())
        np.add.at(counts, channels.classes[ids], 1)
    return sums / np.maximum(counts, 1)


def _normalised(scores: Scores, channels: ChannelMap) -> Scores:
    for classes in dimensions(channels).values():
        mean = float(scores[classes].mean())
        if mean > 0:
            scores[classes] /= mean
    return scores


def dimensions(channels: ChannelMap) -> dict[tuple[str, ...], Ids]:
    """The prunable classes, by the layers that produce them: what a network diagram shows as one width."""
    producers: dict[int, list[str]] = {}
    for name, layer in channels.layers.items():
        for representative in np.unique(channels.classes[layer.outputs[~channels.frozen[layer.outputs]]]).tolist():
            producers.setdefault(representative, []).append(name)
    widths: dict[tuple[str, ...], list[int]] = {}
    for representative, names in producers.items():
        widths.setdefault(tuple(names), []).append(representative)
    return {names: np.array(sorted(classes), dtype=np.int64) for names, classes in widths.items()}


def _batches(module: fx.GraphModule, context: Context) -> Iterator[tuple[tuple[Tensor, ...], Tensor | None]]:
    data = context.require_data("importance: taylor")
    generator = torch.Generator().manual_seed(context.seed)
    chosen = torch.randperm(len(data.train), generator=generator)[:TAYLOR_SAMPLES]
    module.eval()
    for start in range(0, len(chosen), TAYLOR_BATCH):
        batch = data.train.take(chosen[start : start + TAYLOR_BATCH]).to(context.device)
        yield as_tuple(module(*batch.inputs.values())), batch.labels


def _noise_like(output: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(output.shape, generator=generator).to(output.device)
