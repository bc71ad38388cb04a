"""Weights and biases as floats of two bytes: what that does to each tensor."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from compression.encodings import BFloat16, Blocks, Codebook, Encoding, Float16, Grid, Half, Mask
from compression.errors import MethodError
from compression.network import Network
from compression.pruning.weights import weight_names


def shortenable(network: Network, layers: Collection[str] | None = None) -> tuple[list[str], list[str]]:
    """Weights of these layers (all, if None) and the biases beside them; and those among them that have a codebook, a
    grid or blocks, whose numbers take fewer bits already."""
    weights = set(weight_names(network, layers))
    owners = {name.rpartition(".")[0] for name in weights}
    names = [
        name
        for name, value in network.module.named_parameters()
        if name in weights or (value.dim() == 1 and name.rpartition(".")[0] in owners)
    ]
    few = [name for name in names if isinstance(network.encodings.get(name), Blocks | Codebook | Grid)]
    return [name for name in names if name not in few], few


def shortened(network: Network, names: Collection[str], dtype: torch.dtype) -> tuple[Network, dict[str, Any]]:
    """A copy in which these parameters are rounded to `dtype`, float16 or bfloat16, and kept so; masks stay. Facts:
    for each parameter the signal-to-noise ratio in dB, where there are any the entries that became zero, and those
    below the smallest normal number, which keep fewer bits.

    MethodError: an entry is too large for `dtype`.
    """
    short = network.copy()
    encodings = dict(network.encodings)
    facts: dict[str, Any] = {}
    for name in names:
        value = short.module.get_parameter(name).detach()
        encodings[name] = _encoding(network.encodings.get(name), dtype)
        facts[name] = _rounding(name, value, dtype)
    short = short.replaced(encodings=encodings)
    short.project()
    return short, facts


def _encoding(before: Encoding | None, dtype: torch.dtype) -> Half:
    keep = before.keep if isinstance(before, Mask | Half) else None
    return Float16(keep) if dtype == torch.float16 else BFloat16(keep)


def _rounding(name: str, value: Tensor, dtype: torch.dtype) -> dict[str, Any]:
    rounded = value.to(dtype).float()
    beyond = ~torch.isfinite(rounded)
    if bool(beyond.any()):
        raise MethodError(
            f"{int(beyond.sum())} entries are beyond {torch.finfo(dtype).max:,.6g}, the largest number of "
            f"{str(dtype).removeprefix('torch.')} (up to {float(value.abs().max()):.4g}); leave this layer out"
            + ("" if dtype == torch.bfloat16 else ", or take bfloat16"),
            name,
        )
    power, lost = float(value.double().square().sum()), float((rounded - value).double().square().sum())
    facts: dict[str, Any] = {"sqnr_db": 200.0 if lost <= power * 1e-20 else round(_decibels(power / lost), 2)}
    gone = int(((rounded == 0) & (value != 0)).sum())
    subnormal = int(((rounded != 0) & (rounded.abs() < torch.finfo(dtype).tiny)).sum())
    return facts | ({"became_zero": gone} if gone else {}) | ({"subnormal": subnormal} if subnormal else {})


def _decibels(ratio: float) -> float:
    return 10 * float(torch.log10(torch.tensor(ratio, dtype=torch.float64)))
