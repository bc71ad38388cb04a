"""How much the loss rises when one width alone gets narrower: what a sensitivity picture shows."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch

from compression.context import Context
from compression.network import Network, as_tuple
from compression.pruning.channel_map import ChannelMap, Width
from compression.pruning.importance import Scores, batch_loss
from compression.pruning.reference import zeroed

SHARES = (0.25, 0.5, 0.75, 0.9)
SAMPLES = 1024


def scan_widths(
    network: Network, channels: ChannelMap, widths: Collection[Width], scores: Scores, context: Context
) -> list[dict[str, Any]]:
    """For each width: its layers, its units, and [share of units removed, loss] from none on, least important first,
    without retraining; at least one unit stays. The loss is by labels; without any it is the squared error against the
    whole network's outputs over their energy. Over at most SAMPLES validation samples drawn by the seed."""
    whole = _loss(network, network, context)
    found = []
    for place, width in enumerate(widths):
        ordered = width.units[scores[width.units].argsort(kind="stable")].tolist()
        curve = [[0.0, whole]]
        for share in SHARES:
            count = min(len(ordered) - 1, round(share * len(ordered)))
            curve.append([share, _loss(zeroed(network, channels, ordered[:count]), network, context)])
        found.append({"layers": list(width.names), "parts": sorted(width.parts), "units": len(ordered), "curve": curve})
        context.progress(0.0, f"sensitivity of {width.names[0]}, {place + 1} of {len(widths)}")
    return found


@torch.no_grad()
def _loss(network: Network, whole: Network, context: Context) -> float:
    data = context.require_data("sensitivity")
    chosen = torch.randperm(len(data.validation), generator=torch.Generator().manual_seed(context.seed))[:SAMPLES]
    split = data.validation.take(chosen.sort().values)
    inputs = tuple(split.inputs.values())
    outputs = as_tuple(network.module(*inputs))
    if data.task is not None:
        return float(batch_loss(outputs, split.labels, context, 0))
    wanted = as_tuple(whole.module(*inputs))
    errors = sum(float((o.double() - w.double()).square().sum()) for o, w in zip(outputs, wanted, strict=True))
    return errors / max(1e-30, sum(float(w.double().square().sum()) for w in wanted))
