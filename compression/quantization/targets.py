"""What a target makes of training in rounds: the weight of each round's rate, where it starts, and which one is kept.

A number of bytes is approached by how far the last file was off. A loss of accuracy: the weight doubles as long as
validation allows it, then the gap is halved, from the smallest network that was allowed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compression.measure.cost import cost_of
from compression.network import Network
from compression.training.evaluate import metrics_of, outputs_of

if TYPE_CHECKING:
    from compression.context import Context
    from compression.methods.quantize.entropy import QuantizeEntropy

FIRST_WEIGHT = 1.0
"""Of the rate in the first round, where a loss of accuracy is the target; a rate is bits per parameter, a loss nats."""
RATIO_OF_FIRST_WEIGHT = 150.0
"""Where a ratio is the target: of this, the first weight is 1. LeNet-5 on MNIST-5k reaches some 550 at a weight of 4; a
weight that is too large at first costs accuracy that doesn't come back."""
FASTEST = 4.0
"""How many times larger or smaller the weight may get from one round to the next."""


@dataclass(frozen=True)
class Round:
    """What one round came to: `metrics` are its last on validation."""

    rate_weight: float
    network: Network
    file_bytes: int
    metrics: Mapping[str, float]

    def described(self, number: int) -> dict[str, Any]:
        shown = {f"validation_{name}": value for name, value in self.metrics.items() if name not in {"epoch", "score"}}
        return {"round": number, "rate_weight": self.rate_weight, "file_bytes": self.file_bytes, **shown}


def first_weight(spec: QuantizeEntropy, context: Context) -> float:
    if spec.rate_weight is not None:
        return spec.rate_weight / spec.rounds
    limit = byte_limit(spec, context)
    if limit is None:
        return FIRST_WEIGHT
    return cost_of(context.original).bytes / limit / RATIO_OF_FIRST_WEIGHT


def next_start(
    network: Network, rounds: list[Round], spec: QuantizeEntropy, allowed: float, limit: int | None
) -> tuple[Network, float]:
    """Where the next round starts, and its weight of the rate."""
    last = rounds[-1]
    if spec.rate_weight is not None:
        return last.network, spec.rate_weight * (len(rounds) + 1) / spec.rounds
    if limit is not None:
        return last.network, last.rate_weight * min(FASTEST, max(1 / FASTEST, last.file_bytes / limit))
    good = [entry for entry in rounds if entry.metrics["accuracy"] >= allowed]
    bad = [entry.rate_weight for entry in rounds if entry.metrics["accuracy"] < allowed]
    if not bad:
        return last.network, last.rate_weight * 2
    low = max((entry.rate_weight for entry in good if entry.rate_weight < min(bad)), default=min(bad) / FASTEST)
    start = min(good, key=lambda entry: entry.file_bytes).network if good else network
    return start, math.sqrt(low * min(bad))


def chosen(rounds: list[Round], spec: QuantizeEntropy, allowed: float, limit: int | None) -> Round:
    """The best on validation of those that are small enough, or the smallest of those that lose no more than allowed;
    where none does, the nearest to it."""
    if spec.rate_weight is not None:
        return rounds[-1]
    if limit is not None:
        small = [entry for entry in rounds if entry.file_bytes <= limit]
        if small:
            return max(small, key=lambda entry: (entry.metrics["score"], -entry.file_bytes))
        return min(rounds, key=lambda entry: entry.file_bytes)
    good = [entry for entry in rounds if entry.metrics["accuracy"] >= allowed]
    if good:
        return min(good, key=lambda entry: entry.file_bytes)
    return max(rounds, key=lambda entry: entry.metrics["accuracy"])


def byte_limit(spec: QuantizeEntropy, context: Context) -> int | None:
    if spec.ratio is not None:
        return max(1, math.floor(cost_of(context.original).bytes / spec.ratio))
    return spec.bytes


def allowed_accuracy(network: Network, spec: QuantizeEntropy, context: Context) -> float:
    """On validation; minus infinity where that is no target."""
    if spec.accuracy_drop is None:
        return -math.inf
    data = context.require_data("accuracy_drop")
    module = network.module.to(context.device)
    outputs = outputs_of(module, data.validation, context.device)[-1].cpu()
    module.to("cpu")
    before = metrics_of(outputs, data.validation.labels, data.task, None)["accuracy"]
    return before - spec.accuracy_drop / 100 - 1e-9
