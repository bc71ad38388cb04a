"""How much each layer suffers when it alone loses weights, and the shares of zeros that this proposes.

Measured on the validation split, without retraining: for each weight, the loss at several shares of zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from compression.network import Network
from compression.pruning.masks import Each
from compression.pruning.weights import masked
from compression.training.evaluate import outputs_of
from compression.training.losses import label_loss

if TYPE_CHECKING:
    from compression.context import Context
    from compression.data import Split

LEVELS = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
SAMPLES = 1024
Curve = list[tuple[float, float]]
"""(share of zeros, loss), from no zeros on."""


def scan(network: Network, names: Sequence[str], context: Context) -> dict[str, Curve]:
    """The curve of each weight; its losses as `validation_loss` has them, against the original."""
    loss = validation_loss(context.original, context)
    start = loss(network)
    curves: dict[str, Curve] = {}
    for place, name in enumerate(names):
        curves[name] = [(0.0, start)]
        for share in LEVELS:
            curves[name].append((share, loss(masked(network, [name], Each({name: share})))))
        context.progress(0.0, f"sensitivity of {name}, {place + 1} of {len(names)}")
    return curves


def proposed(curves: Mapping[str, Curve], sizes: Mapping[str, int], sparsity: float) -> dict[str, float]:
    """Shares of zeros by weight, `sparsity` of all weights together, at the least sum of losses.

    The losses are taken to add up, and to go straight between the levels, along each curve's lower convex hull; so the
    cheapest next zero (loss for each weight) is always taken next. Beyond the last level all of them go on alike.
    """
    segments = []
    for name, curve in curves.items():
        hull = lower_hull(curve)
        for (low, before), (high, after) in pairwise(hull):
            weights = (high - low) * sizes[name]
            segments.append(((after - before) / max(weights, 1e-9), name, weights))
    wanted = sparsity * sum(sizes.values())
    zeros = dict.fromkeys(curves, 0.0)
    for _, name, weights in sorted(segments, key=lambda segment: segment[0]):
        taken = min(weights, wanted - sum(zeros.values()))
        zeros[name] += max(0.0, taken)
    shares = {name: zeros[name] / sizes[name] for name in curves}
    left = sum(sizes.values()) - sum(zeros.values())
    if wanted > sum(zeros.values()):
        scale = (sum(sizes.values()) - wanted) / left
        shares = {name: 1 - (1 - share) * scale for name, share in shares.items()}
    return shares


def lower_hull(curve: Curve) -> Curve:
    """The lower convex hull of a curve that never falls: fewer losses than with no zeros count as none."""
    start = curve[0][1]
    hull: Curve = []
    for point in ((share, max(loss, start)) for share, loss in curve):
        while len(hull) > 1 and _turns_down(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    return hull


def _turns_down(first: tuple[float, float], middle: tuple[float, float], last: tuple[float, float]) -> bool:
    return (middle[1] - first[1]) * (last[0] - first[0]) >= (last[1] - first[1]) * (middle[0] - first[0])


def validation_loss(whole: Network, context: Context) -> Callable[[Network], float]:
    """What a network's loss is: against labels, or, without labels, the squared error against the outputs of `whole`
    over their energy. At most SAMPLES validation samples, drawn by the seed."""
    data = context.require_data("sensitivity")
    generator = torch.Generator().manual_seed(context.seed)
    split = data.validation.take(torch.randperm(len(data.validation), generator=generator)[:SAMPLES].sort().values)
    task, labels = data.task, split.labels
    if task is not None and labels is not None:
        return lambda network: float(label_loss(_outputs(network, split, context), labels, task))
    wanted = _outputs(whole, split, context).double()
    energy = wanted.square().sum().clamp_min(1e-30)
    return lambda network: float((_outputs(network, split, context).double() - wanted).square().sum() / energy)


def _outputs(network: Network, split: Split, context: Context) -> Tensor:
    module = network.module.to(context.device)
    found = outputs_of(module, split, context.device)[-1].cpu()
    module.to("cpu")
    return found
