"""Removes channels from a network, and proves that nothing else changed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compression.network import Encoding, Network
from compression.pruning.channel_map import ChannelMap, Ids, Layer
from compression.verify import check_equal

Kept = NDArray[np.bool_]  # by channel number


def cut(network: Network, channels: ChannelMap, removed: list[int], *, reason: Mapping[str, object]) -> Network:
    """A copy of `network` without the classes `removed` (representatives).

    It is compared with the network whose removed channels are zeroed at their consumers' inputs: both must agree to
    1e-5 (relative, fp32), or VerificationError is raised and nothing was changed.
    """
    kept = ~np.isin(channels.classes, removed)
    result = network.copy()
    modules = dict(result.module.named_modules())
    encodings = dict(network.encodings)
    for name, layer in channels.layers.items():
        module = modules[name]
        outputs, inputs = _places(kept[layer.outputs]), _input_places(layer, kept)
        _slice(module, name, {"weight": [(0, outputs), (1, inputs)], "bias": [(0, outputs)]}, encodings)
        _resize(module, layer, len(outputs), int(kept[layer.inputs].sum()))
    for name, ids in channels.norms.items():
        module, places = modules[name], _places(kept[ids])
        entries = {entry: [(0, places)] for entry in ("weight", "bias", "running_mean", "running_var")}
        _slice(module, name, entries, encodings)
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.num_features = len(places)
        elif isinstance(module, nn.PReLU):
            module.num_parameters = len(places)
    result = result.replaced(encodings=encodings, provenance=(*network.provenance, dict(reason)))
    check_equal(result, zeroed(network, channels, removed), what="the cut network against the zero-masked original")
    return result


def zeroed(network: Network, channels: ChannelMap, removed: list[int]) -> Network:
    """A copy of `network`, of full width, in which the consumers of removed channels read zero from them."""
    kept = ~np.isin(channels.classes, removed)
    result = network.copy()
    weights = dict(result.module.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for name, layer in channels.layers.items():
            if layer.depthwise:
                continue  # it passes a channel on; it doesn't consume it
            weight = weights[f"{name}.weight"]
            by_group = weight.reshape(layer.groups, -1, weight.shape[1], *weight.shape[2:])
            alive = torch.from_numpy(kept[layer.inputs]).reshape(layer.groups, 1, weight.shape[1])
            by_group *= alive.reshape(*alive.shape, *[1] * (by_group.dim() - 3))
    return result


def _places(kept: Kept) -> Tensor:
    return torch.from_numpy(np.flatnonzero(kept))


def _input_places(layer: Layer, kept: Kept) -> Tensor:
    """Positions along weight axis 1 that stay. Every group keeps the same ones (`map_channels` united them)."""
    if layer.depthwise:
        return torch.tensor([0])
    first: Ids = layer.inputs[: len(layer.inputs) // layer.groups]
    return _places(kept[first])


def _slice(
    module: nn.Module, name: str, entries: Mapping[str, list[tuple[int, Tensor]]], encodings: dict[str, Encoding]
) -> None:
    for entry, cuts in entries.items():
        value = getattr(module, entry, None)
        if value is None or all(len(places) == value.shape[dim] for dim, places in cuts):
            continue  # a tensor that stays whole also stays the same one as another layer's
        sliced = value.detach()
        for dim, places in cuts:
            sliced = sliced.index_select(dim, places)
            if f"{name}.{entry}" in encodings:
                encodings[f"{name}.{entry}"] = encodings[f"{name}.{entry}"].select(dim, places)
        if isinstance(value, nn.Parameter):
            setattr(module, entry, nn.Parameter(sliced.contiguous(), requires_grad=value.requires_grad))
        else:
            setattr(module, entry, sliced.contiguous())


def _resize(module: nn.Module, layer: Layer, outputs: int, inputs: int) -> None:
    if isinstance(module, nn.Linear):
        module.in_features, module.out_features = inputs, outputs
    elif isinstance(module, nn.Conv1d | nn.Conv2d):
        module.in_channels, module.out_channels = inputs, outputs
        if layer.depthwise:
            module.groups = inputs
