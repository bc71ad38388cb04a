"""What a lottery ticket is made of: a smaller structure, and weights that it starts from.

A ticket is a sub-network with the weights that it had before training (Frankle & Carbin 2019). Its structure comes from
a trained network; the arms that it is compared with have the same structure and other first weights.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from compression.distillation.student import fresh
from compression.errors import MethodError
from compression.measure.cost import cost_of
from compression.network import Network
from compression.pruning.channels import map_channels
from compression.pruning.cut import cut
from compression.pruning.importance import magnitude
from compression.pruning.masks import Each, Together, masks_for
from compression.pruning.plan import CostModel, choose
from compression.pruning.weights import masks_of, weight_names

Kind = Literal["weights", "structured"]
Scope = Literal["layer", "global"]
PARTS = frozenset({"channels", "neurons", "heads", "head_dim"})


def smaller(start: Network, trained: Network, kind: Kind, scope: Scope, left: float, whole: int) -> Network:
    """`start` with the structure that the weights of `trained` (of the same structure as `start`) ask for.

    weights: masks of the largest trained weights, a share `left` of all; structured: the channels of the smallest
    group magnitude are cut until `left` of the `whole` network's parameters are there. MethodError: that can't be.
    """
    if kind == "weights":
        names = weight_names(start)
        weights = {name: trained.module.get_parameter(name) for name in names}
        aim = Together(1 - left) if scope == "global" else Each(dict.fromkeys(names, 1 - left))
        found = start.copy().replaced(
            encodings={**start.encodings, **masks_for(weights, masks_of(trained, names), aim)}
        )
        found.project()
        return found
    channels = map_channels(trained)
    widths = [width for width in channels.widths() if width.parts <= PARTS]
    cost = CostModel(trained, channels, "parameters")
    cost.elsewhere = int(cost_of(trained).parameters - cost.total())
    removed = choose(
        channels,
        magnitude(trained, channels),
        cost,
        left * whole,
        by_saving=False,
        widths=widths,
        floors=dict.fromkeys(channels.producers, 1),
        multiple_of=1,
    )
    return cut(start, map_channels(start), removed, reason={"step": "prune.lottery", "removed": len(removed)})


def left_of(network: Network, kind: Kind, whole: int) -> float:
    """The share of weights (unmasked), or of the `whole` network's parameters, that there is."""
    if kind == "structured":
        return cost_of(network).parameters / whole
    masks = masks_of(network, weight_names(network)).values()
    kept, total = sum(int(mask.keep.sum()) for mask in masks), sum(mask.keep.numel() for mask in masks)
    return kept / total if total else 1.0


def drawn_anew(start: Network, seed: int, *, as_classes_do: bool) -> Network:
    """The same structure with other first weights: drawn as the layers' classes draw them, or, where it isn't known
    how the first ones were drawn, those put in another order within each tensor."""
    if as_classes_do:
        found = fresh(start, seed)
    else:
        found = start.copy()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, value in found.module.named_parameters():
                mask = masks_of(start, [name]).get(name) if value.dim() > 1 else None
                places = torch.ones(value.numel(), dtype=torch.bool) if mask is None else mask.keep.flatten()
                flat = value.flatten()
                kept = flat[places]
                flat[places] = kept[torch.randperm(len(kept), generator=generator)]
                value.copy_(flat.reshape(value.shape))
    found.project()
    return found


def signs_alone(start: Network, initial: Network, seed: int | None = None) -> Network:
    """The masked weights have one magnitude in each tensor, the standard deviation of its `initial` weights (those of
    the whole network), and the signs of `start`; or, with a seed, drawn ones (Zhou et al. 2019, section 4)."""
    found = start.copy()
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name in masks_of(start, weight_names(start)):
            value = found.module.get_parameter(name)
            constant = initial.module.get_parameter(name).std(correction=0)
            value.copy_(_signs(value, generator) * constant)
    found.project()
    return found


def _signs(value: Tensor, generator: torch.Generator | None) -> Tensor:
    if generator is None:
        return torch.where(value < 0, -1.0, 1.0)
    return torch.randint(0, 2, value.shape, generator=generator) * 2.0 - 1


def with_weights_of(network: Network, initial: Network) -> Network:
    """`network` with the parameters and buffers of `initial`. MethodError: their names or shapes differ."""
    wanted, given = (dict(side.module.state_dict()) for side in (network, initial))
    for name in [*wanted, *given]:
        if name not in wanted or name not in given:
            raise MethodError("only one of the two has this tensor", name)
        if wanted[name].shape != given[name].shape:
            raise MethodError(f"its shape is {list(given[name].shape)}, the model's {list(wanted[name].shape)}", name)
    found = network.copy()
    found.module.load_state_dict(given)
    return found
