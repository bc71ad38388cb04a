"""Removes channels from a network, and proves that nothing else changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn

from compression.encodings import Encoding
from compression.errors import MethodError
from compression.network import Network
from compression.pruning.channel_map import ChannelMap
from compression.pruning.numbers import Ids
from compression.pruning.reference import zeroed
from compression.verify import check_equal

Kept = NDArray[np.bool_]  # by channel number


def cut(network: Network, channels: ChannelMap, removed: list[int], *, reason: Mapping[str, object]) -> Network:
    """A copy of `network` without the units `removed`.

    It is compared with the network whose removed channels are zeroed where they are read (`zeroed`): both must agree to
    1e-5 (relative, fp32), or VerificationError is raised and nothing was changed.
    """
    kept = channels.kept(removed)
    result = network.copy()
    encodings = dict(network.encodings)
    for name, axes in channels.slices.items():
        _slice(result.module, name, axes, kept, encodings)
    modules = dict(result.module.named_modules())
    for (name, attribute), ids in channels.attributes.items():
        count = int(kept[ids].sum())
        setattr(modules[name], attribute, (count,) if attribute == "normalized_shape" else count)
    for node in result.module.graph.nodes:
        _rewrite(node, channels, kept)
    result.module.recompile()
    result = result.replaced(encodings=encodings, provenance=(*network.provenance, dict(reason)))
    check_equal(result, zeroed(network, channels, removed), what="the cut network against the zero-masked original")
    return result


def _slice(
    module: fx.GraphModule, name: str, axes: Mapping[int, Ids], kept: Kept, encodings: dict[str, Encoding]
) -> None:
    owner_name, _, part = name.rpartition(".")
    owner = module.get_submodule(owner_name)
    value = getattr(owner, part)
    places = {axis: torch.from_numpy(np.flatnonzero(kept[ids])) for axis, ids in axes.items()}
    shrunk = {axis: chosen for axis, chosen in places.items() if len(chosen) < value.shape[axis]}
    if not shrunk:
        return  # a tensor that stays whole also stays the same one as another layer's
    sliced = value.detach()
    for axis, chosen in shrunk.items():
        sliced = sliced.index_select(axis, chosen)
        if name in encodings:
            try:
                encodings[name] = encodings[name].select(axis, chosen)
            except MethodError as error:
                raise MethodError(error.message, name) from error
    if isinstance(value, nn.Parameter):
        setattr(owner, part, nn.Parameter(sliced.contiguous(), requires_grad=value.requires_grad))
    else:
        setattr(owner, part, sliced.contiguous())


def _rewrite(node: fx.Node, channels: ChannelMap, kept: Kept) -> None:
    """Lengths that are written in a node, and the scale of an attention whose heads became narrower."""
    arguments: list[Any] = list(node.args)
    for (name, (place, entry)), ids in channels.literals.items():
        if name == node.name:
            sizes = list(arguments[place])
            sizes[entry] = int(kept[ids].sum())
            arguments[place] = type(arguments[place])(sizes)
    if node.name in channels.splits:
        lengths = [int(kept[ids].sum()) for ids in channels.splits[node.name]]
        if any(length < len(ids) for length, ids in zip(lengths, channels.splits[node.name], strict=True)):
            axis = arguments[2] if len(arguments) > 2 else node.kwargs.get("dim", 0)
            node.target = torch.split
            node.kwargs = {}
            arguments = [arguments[0], lengths, axis]
    node.args = tuple(arguments)
    if node.name in channels.scales:
        scale, ids = channels.scales[node.name]
        if not kept[ids].all():
            node.kwargs = {**node.kwargs, "scale": scale}
