"""Weights that share a few values: each tensor's, or each group of its output rows', are clustered."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from compression.encodings import Codebook
from compression.network import Network
from compression.pruning.weights import weight_names
from compression.quantization.kmeans import cluster


def clustered(network: Network, bits: Mapping[str, int], group_rows: int | None) -> tuple[Network, dict[str, Any]]:
    """A copy in which the parameters named by `bits` have codebooks of up to 2^bits values, one for every `group_rows`
    slices along the first axis, or one in all; and facts by parameter. Zeros that an encoding holds stay zero and need
    no value."""
    shared = network.copy()
    encodings = dict(network.encodings)
    facts = {}
    for name, width in bits.items():
        value = shared.module.get_parameter(name).detach()
        held = value == 0 if name in network.encodings else torch.zeros_like(value, dtype=torch.bool)
        encodings[name] = codebook = codebook_of(value, held, 2**width, group_rows)
        error = codebook.value(codebook.free(value)) - value
        facts[name] = {
            "values": codebook.size(),
            "codebooks": codebook.count(),
            "zeros_percent": round(100 * float(held.double().mean()), 3),
            "sqnr_db": _decibels(value, error),
        }
    shared = shared.replaced(encodings=encodings)
    shared.project()
    return shared, facts


def codebook_of(value: Tensor, zeros: Tensor, size: int, group_rows: int | None) -> Codebook:
    """The codebooks of a tensor, of up to `size` values each; `zeros` (bool, its shape) have none."""
    together = group_rows or max(1, len(value))
    groups = zip(torch.split(value, together), torch.split(~zeros, together), strict=True)
    codes = torch.cat([_codes(part, kept, size) for part, kept in groups])
    rows = torch.arange(len(value)) // group_rows if group_rows is not None else None
    return Codebook(codes, rows)


def bits_by_parameter(network: Network, layers: Collection[str], convolution: int, linear: int) -> dict[str, int]:
    """Bits for each weight of these layers: one number for kernels (three axes or more), one for matrices."""
    names = weight_names(network, layers)
    return {name: convolution if network.module.get_parameter(name).dim() > 2 else linear for name in names}


def _codes(value: Tensor, kept: Tensor, size: int) -> Tensor:
    codes = torch.full(value.shape, -1, dtype=torch.int64)
    if bool(kept.any()):
        codes[kept] = torch.from_numpy(cluster(value[kept].numpy(), size)[1])
    return codes


def _decibels(signal: Tensor, noise: Tensor) -> float:
    """Signal to noise; 200 dB stands for equality."""
    power, lost = float(signal.double().square().sum()), float(noise.double().square().sum())
    return 200.0 if lost <= power * 1e-20 else round(10 * float(np.log10(power / lost)), 2)
