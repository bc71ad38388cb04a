"""How much the loss rises when one width alone gets narrower: what a sensitivity picture shows."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from compression.context import Context
from compression.network import Network
from compression.pruning.channel_map import ChannelMap, Width
from compression.pruning.importance import Scores
from compression.pruning.reference import zeroed
from compression.pruning.sensitivity import validation_loss

SHARES = (0.25, 0.5, 0.75, 0.9)


def scan_widths(
    network: Network, channels: ChannelMap, widths: Collection[Width], scores: Scores, context: Context
) -> list[dict[str, Any]]:
    """For each width: its layers, its units, and [share of units removed, loss] from none on, least important first,
    without retraining; at least one unit stays. The losses are as `validation_loss` has them, against `network`."""
    loss = validation_loss(network, context)
    whole = loss(network)
    found = []
    for place, width in enumerate(widths):
        ordered = width.units[scores[width.units].argsort(kind="stable")].tolist()
        curve = [[0.0, whole]]
        for share in SHARES:
            count = min(len(ordered) - 1, round(share * len(ordered)))
            curve.append([share, loss(zeroed(network, channels, ordered[:count]))])
        found.append({"layers": list(width.names), "parts": sorted(width.parts), "units": len(ordered), "curve": curve})
        context.progress(0.0, f"sensitivity of {width.names[0]}, {place + 1} of {len(widths)}")
    return found
