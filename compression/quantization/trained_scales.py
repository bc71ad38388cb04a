"""Weights of two or three values with trained scales; first and last layers have more."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from compression.context import Context
from compression.encodings import Encoding, Grid, Half, Learned, Mask
from compression.errors import SpecError
from compression.network import Network
from compression.pruning.weights import weight_names
from compression.quantization.codebook import codebook_of
from compression.quantization.ends import end_weights
from compression.quantization.step import step_for
from compression.training.loop import train
from compression.training.spec import Training


class Scaled(Learned, Protocol):
    """One of few values; `described(parameter)`: facts of what became of it."""

    def described(self, parameter: Tensor) -> dict[str, Any]: ...


Make = Callable[[torch.Size, Tensor | None], Scaled]
"""Given a weight's shape, and where it isn't a zero that stays (None: there is none)."""


def with_trained_scales(
    network: Network,
    make: Make,
    layers: Collection[str],
    end_bits: int | None,
    fewest_bits: int,
    training: Training | None,
    context: Context,
) -> tuple[Network, dict[str, Any]]:
    """The network with the weights of these layers as `make` has them, trained unless `training` is None; and facts.
    The weights at its ends get `end_bits` (None: they stay floats; `fewest_bits`: they are like the others). Zeros that
    an encoding holds stay zero. SpecError: nothing is left for `make`."""
    names = weight_names(network, layers)
    if not names:
        raise SpecError("none of the selected layers has weights of its own", "/layers")
    wider = end_weights(network) if end_bits != fewest_bits else set[str]()
    ends = [name for name in names if name in wider]
    inner = [name for name in names if name not in ends]
    if not inner:
        message = f"all selected layers are first or last ({', '.join(ends)}); {fewest_bits} makes them like the others"
        raise SpecError(message, "/first_last_bits")
    start, wide = _widened(network, ends, end_bits)
    weights = {name: network.module.get_parameter(name).detach() for name in inner}
    learned = {name: make(value.shape, _kept(network, name)) for name, value in weights.items()}
    facts: dict[str, Any] = {"parameters": wide}
    if training is None:
        result = _settled(start, learned)
    else:
        result, facts["training"] = train(start, training, context, stage="scales", field="/training", learned=learned)
    for name, scaled in learned.items():
        facts["parameters"][name] = scaled.described(result.module.get_parameter(name).detach())
    return result, facts


def _kept(network: Network, name: str) -> Tensor | None:
    encoding = network.encodings.get(name)
    if encoding is None or (isinstance(encoding, Half) and encoding.keep is None):
        return None
    return network.module.get_parameter(name).detach() != 0


def _widened(network: Network, ends: Collection[str], bits: int | None) -> tuple[Network, dict[str, Any]]:
    """A copy with a grid (a step for each output channel) for each of the `ends`, or, where zeros stay, shared values;
    what is in few bits already stays so."""
    wide, facts = network.copy(), dict[str, Any]()
    encodings = dict(network.encodings)
    for name in ends:
        value, before = wide.module.get_parameter(name).detach(), network.encodings.get(name)
        if before is not None and not isinstance(before, Mask | Half):
            facts[name] = {"left": f"its {before.kind}"}
        elif bits is None:
            facts[name] = {"left": "as it is"}
        else:
            kept, high = _kept(network, name), 2 ** (bits - 1) - 1
            grid = Grid(step_for(value, high, per_channel=True), -high, high)
            encodings[name] = grid if kept is None else codebook_of(value, ~kept, 2**bits, None)
            facts[name] = {"bits": bits}
    wide = wide.replaced(encodings=encodings)
    wide.project()
    return wide, facts


def _settled(network: Network, learned: Mapping[str, Scaled]) -> Network:
    """Without training: where the scales begin."""
    encodings: dict[str, Encoding] = dict(network.encodings)
    result = network.copy()
    for name, scaled in learned.items():
        parameter = result.module.get_parameter(name)
        free = scaled.free(parameter.detach())
        encodings[name] = scaled.settled(free)
        with torch.no_grad():
            parameter.copy_(scaled.value(free))
    return result.replaced(encodings=encodings)
