"""Ranks for a share of the measured time: by a table of what each option takes, then the whole network timed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from compression.context import Context
from compression.errors import SpecError
from compression.factorization.options import Option
from compression.factorization.timing import option_times
from compression.knapsack import cheapest
from compression.measure.machine import device_profile, versions
from compression.measure.runtime import compare_latency, open_session, random_inputs
from compression.network import Network
from compression.pruning.latency_target import ATTEMPTS, SECONDS, TOLERANCE, onnx_of

PARTS = 100  # of a microsecond: sizes are whole numbers

Options = Mapping[str, Sequence[Option]]


def within_time(
    network: Network, options: Options, share: float, make: Callable[[Mapping[str, Option]], Network], context: Context
) -> tuple[Network, dict[str, Option], dict[str, Any]]:
    """The network that is estimated to lose least of those that take `share` of the time at most, one run at batch 1 on
    one thread. Up to ATTEMPTS are made and timed, each with the table scaled to what the one before took; the one that
    loses least of those within TOLERANCE is kept, or the fastest. The table is measured once and kept: a resumed step
    decides by the same figures. SpecError: not even the fastest options take so little."""
    file = onnx_of(network)
    shapes = {entry.name: entry.shape for entry in network.signature.inputs}
    inputs = random_inputs(open_session(file), 1, shapes=shapes)

    def measured() -> dict[str, Any]:
        times = option_times(network, options, context)
        whole = compare_latency(file, file, inputs, 1, SECONDS)
        return {
            "device": device_profile(),
            "onnxruntime": versions()["onnxruntime"],
            "batch": 1,
            "microseconds": round(1e6 * min(whole.original.median, whole.compressed.median), 2),
            "table": {name: [round(value, 2) for value in row] for name, row in times.items()},
        }

    _, profile = context.checkpoints.stage("layer-times", lambda: (network, measured()))
    sizes = [[round(PARTS * value) for value in profile["table"][name]] for name in options]
    losses = [[option.loss for option in row] for row in options.values()]
    dense = sum(row[0] for row in sizes)
    elsewhere = max(0, round(PARTS * profile["microseconds"]) - dense)
    factor, told = 1.0, []
    best: tuple[tuple[bool, float], Network, dict[str, Option]] | None = None
    seen: set[tuple[int, ...]] = set()
    for _ in range(ATTEMPTS):
        found = cheapest(sizes, losses, round((elsewhere + dense) * share / factor) - elsewhere)
        if found is None and best is None:
            least = (elsewhere + sum(min(row) for row in sizes)) / (elsewhere + dense)
            raise SpecError(f"the fastest ranks of the selected layers leave {least:.3f} of the time", "/latency_ratio")
        if found is None or tuple(found) in seen:
            break
        seen.add(tuple(found))
        picked = {name: options[name][index] for name, index in zip(options, found, strict=True)}
        made = make(picked)
        predicted = (elsewhere + sum(row[i] for row, i in zip(sizes, found, strict=True))) / (elsewhere + dense)
        timed = compare_latency(file, onnx_of(made), inputs, 1, SECONDS)
        taken, loss = 1 / timed.ratio, sum(option.loss for option in picked.values())
        reached = taken <= share * TOLERANCE
        told.append({"predicted": round(predicted, 5), "measured": round(taken, 5), "reached": reached})
        rank = (not reached, loss if reached else taken)
        if best is None or rank < best[0]:
            best = (rank, made, picked)
        factor = taken / predicted
    assert best is not None  # noqa: S101 - the first attempt is made or refused
    return best[1], best[2], {"wanted": share, "attempts": told, "device_profile": profile}
