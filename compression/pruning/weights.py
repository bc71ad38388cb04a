"""Single weights masked to zero by magnitude (Han et al. 2015): the tensors keep their shapes.

What may be masked are the weights of layers: parameters of two axes or more, no biases and no norms.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Literal

import torch
from torch import Tensor

from compression.encodings import Encoding, Mask
from compression.errors import MethodError
from compression.network import Network

Scope = Literal["layer", "global"]


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


def masked(network: Network, names: Collection[str], sparsity: float, scope: Scope) -> Network:
    """A copy in which the smallest of the weights `names` are zero and have a `Mask`: a share of `sparsity` of each
    tensor, or of all together. What is masked already stays so, and counts.

    MethodError: a weight has an encoding that isn't a mask.
    """
    pruned = network.copy()
    weights = {name: pruned.module.get_parameter(name) for name in names}
    kept = {name: _open(name, value, network.encodings.get(name)) for name, value in weights.items()}
    # A masked weight comes before any other, a kept one that happens to be zero included.
    magnitudes = {
        name: value.detach().abs().masked_fill(~kept[name], -1.0).flatten() for name, value in weights.items()
    }
    if scope == "layer":
        chosen = {name: _without_smallest(value, sparsity) for name, value in magnitudes.items()}
    else:
        together = _without_smallest(torch.cat(list(magnitudes.values())), sparsity)
        parts = torch.split(together, [value.numel() for value in magnitudes.values()])
        chosen = dict(zip(magnitudes, parts, strict=True))
    masks = {name: Mask(kept[name] & chosen[name].reshape(kept[name].shape)) for name in weights}
    pruned = pruned.replaced(encodings={**network.encodings, **masks})
    pruned.project()
    return pruned


def sparsity_of(network: Network, names: Collection[str]) -> dict[str, float]:
    """The share of zeros in each of these weights, in percent."""
    values = {name: network.module.get_parameter(name) for name in names}
    return {name: round(100 * float((value == 0).double().mean()), 3) for name, value in values.items()}


def _open(name: str, value: Tensor, encoding: Encoding | None) -> Tensor:
    """What isn't masked yet."""
    if encoding is None:
        return torch.ones_like(value, dtype=torch.bool)
    if isinstance(encoding, Mask):
        return encoding.keep
    raise MethodError(f"it has a {encoding.kind}: prune before the weights are quantised", name)


def _without_smallest(magnitudes: Tensor, sparsity: float) -> Tensor:
    """False for the `sparsity` · n smallest, exactly as many; of equal ones, the first go first."""
    keep = torch.ones(len(magnitudes), dtype=torch.bool)
    order = torch.argsort(magnitudes, stable=True)
    keep[order[: math.floor(sparsity * len(magnitudes) + 0.5)]] = False
    return keep
