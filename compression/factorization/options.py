"""What a layer could become: each form at a range of ranks, with what it costs and what it loses."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from compression.factorization.forms import Form, bias_of, factorised, kernel_of, kernel_shape, squared_error
from compression.factorization.moments import Moments, padding_of
from compression.network import Network
from compression.pruning.graph_names import shared_tensors

RANKS = 16
"""Ranks tried of each form, evenly spaced up to the last one that saves something."""


@dataclass(frozen=True)
class Option:
    """A layer in a form, or as it is (`form` None). `inner`: of tucker2. `error`: of the outputs, relative to their
    deviation, root mean square over the data (over white patches, without data). `loss`: the rise of the loss that the
    error is estimated to bring."""

    form: Form | None
    rank: int
    inner: int
    parameters: int
    macs: int
    error: float
    loss: float


def candidates(network: Network) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """The layers that can be taken apart, and the reason of each convolution or linear layer that can't."""
    shared = shared_tensors(network.module)
    found: dict[str, nn.Module] = {}
    left: dict[str, str] = {}
    for name, leaf in network.layers().items():
        reason = _obstacle(network, name, leaf, shared)
        if reason is None:
            found[name] = leaf
        elif reason:
            left[name] = reason
    return found, left


def _obstacle(network: Network, name: str, leaf: nn.Module, shared: Collection[str]) -> str | None:
    """Why it can't be taken apart; "": it is no layer of this kind; None: it can."""
    if not isinstance(leaf, nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        return ""
    if not isinstance(leaf, nn.Conv2d | nn.Linear):
        return f"no form of low rank for a {type(leaf).__name__}"
    if f"{name}.weight" in shared:
        return "it shares its weight with another layer"
    if f"{name}.weight" in network.encodings or f"{name}.bias" in network.encodings:
        return "its parameters are restricted by an encoding"
    if isinstance(leaf, nn.Conv2d):
        if leaf.groups > 1:
            return "it is a grouped convolution"
        if leaf.padding_mode != "zeros" or any(before != after for before, after in padding_of(leaf)):
            return "its padding isn't zeros, as many before as after"
    return None


def options_of(leaf: nn.Module, macs: int, forms: Sequence[Form], multiple_of: int, moments: Moments) -> list[Option]:
    """The layer as it is, then its forms from the lowest rank up: those that take fewer MACs than the layer, which
    takes `macs` now, and no more parameters."""
    shape = kernel_shape(leaf)
    kept = _parameters(leaf)
    # What the data's mean loses is made good by a bias, also where there was none.
    bias = shape[0] if bias_of(leaf) is not None or bool(moments.mean.any()) else 0
    scale = float(moments.outputs.diagonal().sum())
    variances = torch.linalg.eigvalsh(moments.outputs).clamp_min(0)
    found = [Option(None, 0, 0, kept, macs, 0.0, 0.0)]
    for form in forms:
        if not _fits(form, shape, moments):
            continue
        for rank, inner in _ranks(form, shape, multiple_of):
            cost, parameters = _cost(leaf, form, rank, inner, macs)
            parameters += bias
            if cost >= macs or parameters >= kept:
                continue
            if form == "channel":  # what the eigenvalues that are left out come to
                error = float(variances[: len(variances) - rank].sum())
            else:
                error = max(0.0, _squared_error(leaf, form, rank, inner, moments))
            relative = math.sqrt(error / scale) if scale > 0 else 0.0
            found.append(Option(form, rank, inner, parameters, cost, relative, moments.harm * error))
    return found


def _fits(form: Form, shape: Sequence[int], moments: Moments) -> bool:
    """Whether a kernel O × I × h × w has this form. Where the patches are too large for their second moment, only the
    form that does without it is measured by the data."""
    if form == "channel":
        return True
    known = moments.second is not None or not bool(moments.mean.any())
    return known and (min(shape[2:]) > 1 if form == "spatial" else max(shape[2:]) > 1)


def _ranks(form: Form, shape: Sequence[int], multiple_of: int) -> list[tuple[int, int]]:
    """(rank, inner) from the smallest up; those that come to more than the layer itself takes are left out later."""
    count, channels, height, width = shape
    if form == "tucker2":
        shares = [number / RANKS for number in range(1, RANKS)]
        pairs = {
            (_multiple(share * count, multiple_of, count), _multiple(share * channels, multiple_of, channels))
            for share in shares
        }
        return sorted(pairs)
    size = channels * height * width
    last = count * size / (count + size) if form == "channel" else count * size / (count * width + channels * height)
    most = min(count, size) if form == "channel" else min(count * width, channels * height)
    ranks = {_multiple(last * number / RANKS, multiple_of, most) for number in range(1, RANKS + 1)}
    return [(rank, 0) for rank in sorted(ranks)]


def _multiple(wanted: float, multiple_of: int, most: int) -> int:
    return max(1, min(most, max(1, round(wanted / multiple_of)) * multiple_of))


def _cost(leaf: nn.Module, form: Form, rank: int, inner: int, macs: int) -> tuple[int, int]:
    """MACs and weights. Each factor runs at the layer's output resolution but for those before its stride."""
    count, channels, height, width = kernel_shape(leaf)
    places = macs / (count * channels * height * width)
    down, right = leaf.stride if isinstance(leaf, nn.Conv2d) else (1, 1)
    if form == "channel":
        sizes = [(rank * channels * height * width, 1.0), (count * rank, 1.0)]
    elif form == "spatial":  # k × 1 runs before the stride to the right
        sizes = [(rank * channels * height, float(right)), (count * rank * width, 1.0)]
    else:
        sizes = [(inner * channels, float(down * right)), (rank * inner * height * width, 1.0), (count * rank, 1.0)]
    return round(sum(size * times for size, times in sizes) * places), sum(size for size, _ in sizes)


def _squared_error(leaf: nn.Module, form: Form, rank: int, inner: int, moments: Moments) -> float:
    factors = factorised(leaf, form, rank, inner, moments)
    return squared_error(kernel_of(leaf), factors.kernels, moments)


def _parameters(leaf: nn.Module) -> int:
    return sum(value.numel() for value in leaf.parameters())


def curve(options: Sequence[Option]) -> list[dict[str, object]]:
    """For the report: the error and the cost of each form by rank."""
    return [
        {
            "form": option.form,
            "rank": option.rank,
            **({"inner": option.inner} if option.form == "tucker2" else {}),
            "macs": option.macs,
            "parameters": option.parameters,
            "error": round(option.error, 6),
        }
        for option in options
        if option.form is not None
    ]


def cheapest_within(options: Sequence[Option], energy: float) -> int:
    """The option with the fewest MACs that keeps this share of the outputs' variance."""
    allowed = [index for index, option in enumerate(options) if option.error**2 <= 1 - energy + 1e-12]
    return min(allowed, key=lambda index: (options[index].macs, options[index].error))


def nearest_rank(options: Sequence[Option], rank: int) -> int:
    """Of the options with this rank, or the next one above it that is there, the one with the least error; the layer as
    it is where none saves anything."""
    above = [option.rank for option in options if option.form is not None and option.rank >= rank]
    if not above:
        return 0
    same = [index for index, option in enumerate(options) if option.form is not None and option.rank == min(above)]
    return min(same, key=lambda index: (options[index].error, options[index].macs))
