"""A convolution as a depthwise and a pointwise one (MobileNet, Howard et al. 2017), started from its own weights.

For each input channel i the O × k² matrix W[:, i] has rank d at most in the new form: its d right singular vectors are
the depthwise filters, its left ones times the singular values the pointwise weights. That loses least of the weights;
what loses least of the outputs on the data follows by alternating least squares, each side in turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from compression.context import Context
from compression.errors import SpecError
from compression.factorization.forms import bias_of, kernel_of
from compression.factorization.moments import Moments, moments_of, padding_of
from compression.factorization.options import candidates
from compression.factorization.replace import replaced_by_chains
from compression.factorization.start import output_error
from compression.measure.cost import NetworkCost, cost_of
from compression.network import Network

if TYPE_CHECKING:
    from compression.methods.factorize.depthwise import FactorizeDepthwise

SWEEPS = 10
CONJUGATE_STEPS = 50
DAMPING = 1e-6


@dataclass(frozen=True)
class Separable:
    """`filters`: I × d × k × k; `points`: O × I·d; `error`: of the outputs, relative to their deviation on the data."""

    filters: Tensor
    points: Tensor
    bias: Tensor | None
    error: float


def separable_of(leaf: nn.Conv2d, multiplier: int, moments: Moments) -> Separable:
    """The depthwise-separable layer that is nearest to `leaf` on patches of these moments (float64)."""
    weight = kernel_of(leaf)
    filters, points = truncated(weight, multiplier)
    if moments.second is not None:
        for _ in range(SWEEPS):
            points = best_points(weight, filters, moments.second)
            filters = best_filters(weight, filters, points, moments.second)
        points = best_points(weight, filters, moments.second)
    lost = (weight - joined(filters, points)).flatten(1)
    second = moments.second
    square = float((lost.square() if second is None else (lost @ second) * lost).sum())
    bias, shift = bias_of(leaf), lost @ moments.mean
    if bias is not None:
        shift = bias + shift
    scale = float(moments.outputs.diagonal().sum())
    kept = shift if bias is not None or bool(moments.mean.any()) else None
    return Separable(filters, points, kept, (max(0.0, square) / scale) ** 0.5 if scale > 0 else 0.0)


def truncated(weight: Tensor, multiplier: int) -> tuple[Tensor, Tensor]:
    """Filters and points of the `multiplier` largest singular values of each input channel's O × k² matrix."""
    count, channels, height, width = weight.shape
    left, scales, right = torch.linalg.svd(weight.transpose(0, 1).flatten(2), full_matrices=False)  # I × O × k²
    points = (left[:, :, :multiplier] * scales[:, None, :multiplier]).permute(1, 0, 2).reshape(count, -1)
    return right[:, :multiplier].reshape(channels, multiplier, height, width), points


def joined(filters: Tensor, points: Tensor) -> Tensor:
    """The kernel, O × I × k × k, of the two layers one after the other."""
    channels, multiplier = filters.shape[:2]
    return torch.einsum("oij,ijhw->oihw", points.reshape(len(points), channels, multiplier), filters)


def best_points(weight: Tensor, filters: Tensor, second: Tensor) -> Tensor:
    """The best pointwise weights for these filters: W G Fᵀ (F G Fᵀ)⁻¹, F the filters in their places of a patch."""
    spread = _spread(filters)
    gram = spread @ second @ spread.T
    gram += torch.eye(len(gram), dtype=gram.dtype) * (DAMPING * float(gram.diagonal().mean()) + 1e-30)
    solved: Tensor = torch.linalg.solve(gram, spread @ second @ weight.flatten(1).T)
    return solved.T


def best_filters(weight: Tensor, filters: Tensor, points: Tensor, second: Tensor) -> Tensor:
    """Better filters for these points, by conjugate gradients on the normal equations: Pᵀ (W − P F) G in the filters'
    places is zero at the best ones."""
    gram, aim = points.T @ points, points.T @ weight.flatten(1) @ second

    def gradient(values: Tensor) -> Tensor:
        return _gathered(gram @ _spread(values) @ second, values.shape)

    found = filters.clone()
    residual = _gathered(aim, filters.shape) - gradient(found)
    direction, square = residual.clone(), residual.square().sum()
    start = square
    for _ in range(CONJUGATE_STEPS):
        if not square > 1e-20 * start:
            break
        moved = gradient(direction)
        length = square / (direction * moved).sum()
        found += length * direction
        residual -= length * moved
        before, square = square, residual.square().sum()
        direction = residual + square / before * direction
    return found


def _spread(filters: Tensor) -> Tensor:
    """I·d × I·k²: each filter at its channel's places of a patch."""
    channels, multiplier = filters.shape[:2]
    flat = filters.flatten(2)
    spread = torch.einsum("ijp,ic->ijcp", flat, torch.eye(channels, dtype=flat.dtype))
    return spread.reshape(channels * multiplier, -1)


def _gathered(spread: Tensor, shape: torch.Size) -> Tensor:
    """What stands in the filters' places of an I·d × I·k² matrix."""
    channels, multiplier = shape[:2]
    places = spread.reshape(channels, multiplier, channels, -1)
    return torch.einsum("ijip->ijp", places).reshape(shape)


def depthwise_leaves(leaf: nn.Conv2d, made: Separable, between: str, moments: Moments) -> list[nn.Module]:
    """The layers in turn. A norm between them begins as no change at all; an activation after it doesn't."""
    channels, multiplier, height, width = made.filters.shape
    depthwise = nn.Conv2d(
        channels,
        channels * multiplier,
        (height, width),
        stride=leaf.stride,  # type: ignore[arg-type]
        padding=tuple(before for before, _ in padding_of(leaf)),  # type: ignore[arg-type]
        dilation=leaf.dilation,  # type: ignore[arg-type]
        groups=channels,
        bias=False,
    )
    pointwise = nn.Conv2d(channels * multiplier, len(made.points), 1, bias=made.bias is not None)
    with torch.no_grad():
        depthwise.weight.copy_(made.filters.reshape(channels * multiplier, 1, height, width))
        pointwise.weight.copy_(made.points[:, :, None, None])
        if pointwise.bias is not None and made.bias is not None:
            pointwise.bias.copy_(made.bias)
    inner: list[nn.Module] = []
    if between != "nothing":
        inner.append(_norm(made.filters, moments))
    if between == "norm_relu":
        inner.append(nn.ReLU())
    return [depthwise.eval(), *inner, pointwise.eval()]


def _norm(filters: Tensor, moments: Moments) -> nn.BatchNorm2d:
    """Its statistics are those of the filters' outputs on the data, its scale and shift take them back."""
    spread = _spread(filters)
    mean = spread @ moments.mean
    second = torch.eye(spread.shape[1], dtype=spread.dtype) if moments.second is None else moments.second
    variance = ((spread @ second) * spread).sum(1).clamp_min(0)
    norm = nn.BatchNorm2d(len(spread)).eval()
    with torch.no_grad():
        norm.running_mean.copy_(mean)  # type: ignore[union-attr]
        norm.running_var.copy_(variance)  # type: ignore[union-attr]
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.copy_(mean)
    return norm


def replaceable(network: Network) -> tuple[dict[str, nn.Conv2d], dict[str, str]]:
    """The convolutions that can become depthwise and pointwise, and the reason of each that can't."""
    found, left = candidates(network)
    chosen: dict[str, nn.Conv2d] = {}
    left = {name: why for name, why in left.items() if isinstance(network.layers()[name], nn.Conv2d)}
    for name, leaf in found.items():
        if not isinstance(leaf, nn.Conv2d):
            continue
        if max(leaf.kernel_size) == 1:
            left[name] = "it is pointwise already"
        elif leaf.in_channels == 1:
            left[name] = "it has one input channel, which leaves nothing to separate"
        else:
            chosen[name] = leaf
    return chosen, left


def depthwise_separable(network: Network, spec: FactorizeDepthwise, context: Context) -> tuple[Network, dict[str, Any]]:
    """The network with the chosen convolutions replaced, before any training, and the facts."""
    layers, left = replaceable(network)
    selected = spec.layers.select({name: type(module).__name__ for name, module in network.layers().items()})
    names = [name for name in layers if name in selected]
    if not names:
        raise SpecError("none of the selected layers is a convolution that can be separated", "/layers")
    moments = moments_of(network, names, spec.samples, context)
    chains: dict[str, list[nn.Module]] = {}
    told: dict[str, dict[str, Any]] = {}
    for index, name in enumerate(names):
        leaf = layers[name]
        made = separable_of(leaf, min(spec.multiplier, leaf.kernel_size[0] * leaf.kernel_size[1]), moments[name])
        chains[name] = depthwise_leaves(leaf, made, spec.between, moments[name])
        told[name] = {"error": round(made.error, 6), "multiplier": made.filters.shape[1]}
        context.progress((index + 1) / len(names), f"{name} separated")
    result = replaced_by_chains(network, chains)
    before, after = cost_of(network), cost_of(result)
    for name in names:
        told[name] |= _counted(layers[name], told[name]["multiplier"], name, chains[name], before, after)
    facts = {
        "layers": told,
        "left_alone": {name: reason for name, reason in left.items() if name in selected},
        "not_by_data": [name for name in names if moments[name].second is None],
        "output_error": output_error(result, network),
    }
    return result, facts


def _counted(
    leaf: nn.Conv2d,
    multiplier: int,
    name: str,
    chain: Sequence[nn.Module],
    before: NetworkCost,
    after: NetworkCost,
) -> dict[str, Any]:
    """Theory beside count: weights and MACs are d·(1/O + 1/k²) of the layer's; bias and norm stand apart."""
    places = leaf.kernel_size[0] * leaf.kernel_size[1]
    weights = [sum(part.weight.numel() for part in chain if isinstance(part, nn.Conv2d))]
    others = sum(value.numel() for part in chain for value in part.parameters()) - weights[0]
    macs = {entry.name: entry.macs for entry in before.layers}
    new = sum(entry.macs for entry in after.layers if entry.name.rpartition(".")[0] == name)
    return {
        "theory": round(multiplier * (1 / leaf.out_channels + 1 / places), 6),
        "weights": [leaf.weight.numel(), weights[0]],
        "bias_and_norm": [0 if leaf.bias is None else leaf.bias.numel(), others],
        "macs": [macs[name], new],
    }
