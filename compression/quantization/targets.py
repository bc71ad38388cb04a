"""What a target makes of training for bytes: what is aimed at, where a search goes next, and which network is kept.

A loss of accuracy is searched for in rounds, each a whole training that aims at a number of bytes: the number is halved
as long as validation allows it, then the gap is, from the smallest network that was allowed.
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

FIRST_RATIO = 30.0
"""What a search for a loss of accuracy tries first: little for a network that has room."""


@dataclass(frozen=True)
class Round:
    """What one training came to: `limit` is the bytes it aimed at, if it did; `metrics` are its last on validation."""

    limit: int | None
    network: Network
    file_bytes: int
    metrics: Mapping[str, float]

    def described(self, number: int) -> dict[str, Any]:
        aimed = {} if self.limit is None else {"target_bytes": self.limit}
        shown = {f"validation_{name}": value for name, value in self.metrics.items() if name not in {"epoch", "score"}}
        return {"round": number, **aimed, "file_bytes": self.file_bytes, **shown}


def next_start(network: Network, rounds: list[Round], allowed: float) -> tuple[Network, int]:
    """Where the next round starts, and the bytes it aims at."""
    good, bad = _parted(rounds, allowed)
    if not bad:
        return rounds[-1].network, max(1, rounds[-1].file_bytes // 2)
    largest = max(entry.file_bytes for entry in bad)
    if not good:
        return network, 2 * largest
    smallest = min(good, key=lambda entry: entry.file_bytes)
    return smallest.network, max(1, round(math.sqrt(smallest.file_bytes * largest)))


def chosen(rounds: list[Round], allowed: float) -> Round:
    """The smallest of those that lose no more than allowed; where none does, the nearest to it."""
    good, _ = _parted(rounds, allowed)
    if good:
        return min(good, key=lambda entry: entry.file_bytes)
    return max(rounds, key=lambda entry: entry.metrics["accuracy"])


def _parted(rounds: list[Round], allowed: float) -> tuple[list[Round], list[Round]]:
    good = [entry for entry in rounds if entry.metrics["accuracy"] >= allowed]
    smallest = min((entry.file_bytes for entry in good), default=math.inf)
    # A larger one that lost more is bad luck, and says nothing of what is smaller than all that was good.
    bad = [entry for entry in rounds if entry.metrics["accuracy"] < allowed and entry.file_bytes < smallest]
    return good, bad


def byte_limit(spec: QuantizeEntropy, context: Context) -> int | None:
    if spec.ratio is not None:
        return max(1, math.floor(cost_of(context.original).bytes / spec.ratio))
    return spec.bytes


def first_limit(context: Context) -> int:
    return max(1, round(cost_of(context.original).bytes / FIRST_RATIO))


def allowed_accuracy(network: Network, spec: QuantizeEntropy, context: Context) -> float:
    """On validation."""
    assert spec.accuracy_drop is not None  # noqa: S101 - the caller's condition
    data = context.require_data("accuracy_drop")
    module = network.module.to(context.device)
    outputs = outputs_of(module, data.validation, context.device)[-1].cpu()
    module.to("cpu")
    before = metrics_of(outputs, data.validation.labels, data.task, None)["accuracy"]
    return before - spec.accuracy_drop / 100 - 1e-9
