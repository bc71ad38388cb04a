"""Single weights masked to zero by magnitude (Han et al. 2015): the tensors keep their shapes.

What may be masked are the weights of layers: parameters of two axes or more, no biases and no norms.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from compression.encodings import Mask
from compression.errors import MethodError
from compression.network import Network
from compression.pruning.masks import Aim, masks_for


def weight_names(network: Network, layers: Collection[str] | None = None) -> list[str]:
    """Parameter names of the weights of these layers (all, if None), in the graph's order; a weight that several
    layers share counts once, and only if all of them are chosen."""
    names = {id(value): name for name, value in network.module.named_parameters()}
    found: dict[str, bool] = {}
    for layer, module in network.layers().items():
        for value in module.parameters(recurse=False):
            if value.dim() > 1 and value.is_floating_point():
                name = names[id(value)]
                found[name] = found.get(name, True) and (layers is None or layer in layers)
    return [name for name, chosen in found.items() if chosen]


def masks_of(network: Network, names: Collection[str]) -> dict[str, Mask]:
    """The masks that these weights have already. MethodError: one has an encoding that isn't a mask."""
    found = {}
    for name in names:
        encoding = network.encodings.get(name)
        if isinstance(encoding, Mask):
            found[name] = encoding
        elif encoding is not None:
            raise MethodError(f"it has a {encoding.kind}: prune before the weights are quantised", name)
    return found


def masked(network: Network, names: Sequence[str], aim: Aim) -> Network:
    """A copy in which the smallest of the weights `names` are zero and have a `Mask`, as many as `aim` says. What is
    masked already stays so, and counts. MethodError: a weight has an encoding that isn't a mask."""
    pruned = network.copy()
    weights = {name: pruned.module.get_parameter(name) for name in names}
    masks = masks_for(weights, masks_of(network, names), aim)
    pruned = pruned.replaced(encodings={**network.encodings, **masks})
    pruned.project()
    return pruned


def masked_shares(network: Network, names: Collection[str]) -> dict[str, float]:
    """The share of each of these weights that is masked, 0 … 1, and ("") of all together."""
    masks = masks_of(network, names)
    sizes = {name: network.module.get_parameter(name).numel() for name in names}
    zeros = {name: int((~masks[name].keep).sum()) if name in masks else 0 for name in names}
    shares = {name: zeros[name] / max(1, sizes[name]) for name in names}
    return {**shares, "": sum(zeros.values()) / max(1, sum(sizes.values()))}


def sparsity_of(network: Network, names: Collection[str]) -> dict[str, float]:
    """The share of zeros in each of these weights, in percent."""
    values = {name: network.module.get_parameter(name) for name in names}
    return {name: round(100 * float((value == 0).double().mean()), 3) for name, value in values.items()}
