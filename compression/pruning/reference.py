"""What a cut is measured against: the network of full width, with a gate on every channel where it is read.

A gate of one lets a channel pass; at zero the channel is gone. A hidden unit of a recurrent layer is read by that layer
too, at its next step: the gate lies on the weights that do so. Norms that average over channels (`LayerNorm`,
`GroupNorm`) then average over those that are left, as the cut network does.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from compression.network import Network
from compression.pruning.channel_map import ChannelMap, Read
from compression.pruning.recurrent import open_recurrent

GATES = "channel_gates"


def gated(network: Network, channels: ChannelMap) -> tuple[fx.GraphModule, list[nn.Parameter]]:
    """A copy of the module whose every `Read` is multiplied by a gate of ones, and the gates in the reads' order."""
    module = network.copy().module
    nodes = {node.name: node for node in module.graph.nodes}
    for name, node in nodes.items():
        if node.op == "call_module" and isinstance(module.get_submodule(str(node.target)), nn.LSTM | nn.GRU):
            nodes[name] = open_recurrent(module, node)
    gates = [nn.Parameter(_as_column(torch.ones(len(read.ids)), read)) for read in channels.reads]
    module.add_module(GATES, nn.ParameterList(gates))
    for index, read in enumerate(channels.reads):
        node = nodes[read.node]
        source = _argument(node.args, read.path)
        with module.graph.inserting_before(node):
            gate = module.graph.get_attr(f"{GATES}.{index}")
            passed = module.graph.call_function(torch.mul, (source, gate))
        node.args = _with_argument(node.args, read.path, passed)
    module.recompile()
    return module, gates


def zeroed(network: Network, channels: ChannelMap, removed: list[int]) -> Network:
    """A copy of `network`, of full width, in which the readers of removed channels read zero from them."""
    kept = channels.kept(removed)
    module, gates = gated(network, channels)
    with torch.no_grad():
        for gate, read in zip(gates, channels.reads, strict=True):
            gate.copy_(_as_column(torch.from_numpy(kept[read.ids]), read))
    for node in list(module.graph.nodes):
        average = channels.averages.get(node.name)
        if average is not None and not kept[average.ids].all():
            alive = torch.from_numpy(kept[average.ids]).float()
            groups = 1 if average.groups is None else len(average.groups)
            _average_over(module, node, alive, groups)
    module.recompile()
    return network.replaced(module=module)


def _as_column(values: Tensor, read: Read) -> Tensor:
    return values.reshape(-1, *[1] * (-read.axis - 1))


def _argument(arguments: Any, path: tuple[int, ...]) -> Any:
    for place in path:
        arguments = arguments[place]
    return arguments


def _with_argument(arguments: Any, path: tuple[int, ...], value: Any) -> Any:
    if not path:
        return value
    inner = _with_argument(arguments[path[0]], path[1:], value)
    return type(arguments)([*arguments[: path[0]], inner, *arguments[path[0] + 1 :]])


def _average_over(module: fx.GraphModule, node: fx.Node, alive: Tensor, groups: int) -> None:
    name = str(node.target)
    norm: Any = module.get_submodule(name)
    module.register_buffer(f"kept_by_{node.name}", alive)
    axis = 1 if isinstance(norm, nn.GroupNorm) else -1
    with module.graph.inserting_before(node):
        mask = module.graph.get_attr(f"kept_by_{node.name}")
        parts = [
            module.graph.get_attr(f"{name}.{part}") if getattr(norm, part) is not None else None
            for part in ("weight", "bias")
        ]
        arguments = (node.args[0], mask, *parts, norm.eps, axis, groups)
        replacement = module.graph.call_function(normalised, arguments)
    node.replace_all_uses_with(replacement)
    module.graph.erase_node(node)


def normalised(
    value: Tensor, kept: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, axis: int, groups: int
) -> Tensor:
    """Layer norm (`axis` −1) or group norm (`axis` 1) whose mean and variance run over the channels `kept` (0 or 1)."""
    moved = value.movedim(axis, -1)  # N × … × C
    mask = kept.expand(moved.shape)
    samples = moved.reshape(len(moved), -1, groups, len(kept) // groups)
    counted = mask.reshape(samples.shape)
    axes = (1, 3) if axis == 1 else (3,)  # a group norm also averages over space
    count = counted.sum(axes, keepdim=True).clamp_min(1)
    mean = (samples * counted).sum(axes, keepdim=True) / count
    variance = ((samples - mean).square() * counted).sum(axes, keepdim=True) / count
    result = ((samples - mean) / torch.sqrt(variance + eps)).reshape(moved.shape)
    result = result if weight is None else result * weight
    result = result if bias is None else result + bias
    return result.movedim(-1, axis)
