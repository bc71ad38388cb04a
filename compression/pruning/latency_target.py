"""Measured time as the target: widths by a table of layer times, and the whole network timed after each cut."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compression.checkpoint import fingerprint
from compression.context import Context
from compression.errors import MethodError
from compression.export.onnx import write_onnx
from compression.measure.machine import device_profile, versions
from compression.measure.runtime import Comparison, compare_latency, open_session, random_inputs
from compression.network import Network
from compression.pruning.channel_map import ChannelMap
from compression.pruning.channels import map_channels
from compression.pruning.importance import Scores
from compression.pruning.layer_times import LayerTimes, measure_layers
from compression.pruning.limits import Limits
from compression.pruning.solve import Plan, Problem, Removable, solve
from compression.pruning.targets import Facts, without
from compression.pruning.terms import shrinkable, time_terms

BLOCK = 8  # channels: what runtimes work in on AVX2; on AVX-512 sixteen, which the table shows
ATTEMPTS = 4
TOLERANCE = 1.02  # two sessions of one file differ by about as much
SECONDS = 1.0  # of measuring, for each cut


@dataclass(frozen=True)
class Attempt:
    plan: Plan
    network: Network
    facts: Facts
    share: float
    loss: float


class TimeTarget:
    """One run in ONNX Runtime at batch 1 on one thread. What the table says is measured once, kept in a checkpoint and
    recorded: a resumed job decides as it would have, on whatever machine."""

    def __init__(self, network: Network, limits: Limits, context: Context) -> None:
        self.limits, self.context = limits, context
        self.block = limits.multiple_of if limits.multiple_of > 1 else BLOCK
        _, self.profile = context.checkpoints.stage("layer-times", lambda: (network, self._measured(network)))
        self.times = LayerTimes.read(self.profile["table"])
        self.stage_suffix = "-" + fingerprint(self.profile)
        self.before = float(self.profile["microseconds"])
        terms = time_terms(network, map_channels(network), self.times)
        whole = Problem(map_channels(network), [], [], terms).cost(Plan(()))
        self.elsewhere = max(0.0, self.before - whole)
        self.predicted_before = whole + self.elsewhere
        self.original = network
        self._file: bytes | None = None

    def _measured(self, network: Network) -> Facts:
        """The `device_profile`: the machine, the network's own time, and the table."""

        def tell(done: int, of: int) -> None:
            if done % 50 == 0:
                self.context.progress(0.0, f"timing layers, {done} of {of}")

        file = onnx_of(network)
        times = measure_layers(network, map_channels(network), self.block, tell)
        whole = compare_latency(file, file, _inputs(file, network), 1, SECONDS)
        return {
            "device": device_profile(),
            "onnxruntime": versions()["onnxruntime"],
            "batch": 1,
            "block": self.block,
            "microseconds": round(1e6 * min(whole.original.median, whole.compressed.median), 2),
            "table": times.as_facts(),
        }

    def check_reach(self, network: Network, share: float) -> None:
        channels = map_channels(network)
        blocks = [Removable(block.name, block.nodes, 0.0) for block in self.limits.removable(network)]
        problem = self._problem(network, channels, np.zeros(len(channels.units)), blocks)
        solve(problem, self.predicted_before * share, "microseconds")

    def cut(self, network: Network, share: float, so_far: Mapping[str, Any], *, last: bool) -> tuple[Network, Facts]:
        """The first cut is timed, which scales the table from then on. In the last round up to ATTEMPTS cuts
        are timed, each with the table scaled to what the one before measured; the one that loses least of those within
        TOLERANCE of the share is kept, or the fastest."""
        channels = map_channels(network)
        blocks = self.limits.removable(network)
        weighed = self.limits.weighed(network, blocks, self.context)
        problem = self._problem(network, channels, self.limits.scores(network, channels, self.context), weighed)
        factor = so_far.get("measured_over_predicted")
        tried: list[Attempt] = []
        told = []
        for _ in range(ATTEMPTS if last else 1):
            plan = self._next_plan(problem, self.predicted_before * share / (factor or 1.0), share, tried)
            if plan is None:
                break
            gone = [blocks[place] for place in sorted(plan.blocks)]
            smaller, facts = without(network, channels, problem.units(plan), gone, self.limits)
            predicted = problem.cost(plan) / self.predicted_before
            facts["predicted_share"] = round(predicted, 5)
            if factor is not None and not last:  # what was measured in the first round serves until the last
                return smaller, {**facts, "measured_over_predicted": factor}
            timed = self._compared(smaller)
            factor = round(1 / timed.ratio / predicted, 5)
            told.append(_told(timed, share, predicted))
            facts = {**facts, "measured_over_predicted": factor, "latency": told[-1]}
            tried.append(Attempt(plan, smaller, facts, 1 / timed.ratio, problem.loss(plan)))
        reached = [attempt for attempt in tried if attempt.facts["latency"]["reached"]]
        best = min(reached, key=lambda a: a.loss) if reached else min(tried, key=lambda a: a.share)
        return best.network, {**best.facts, "attempts": told}

    def facts(self) -> Facts:
        return {"device_profile": self.profile}

    def _next_plan(self, problem: Problem, goal: float, share: float, tried: list[Attempt]) -> Plan | None:
        """A plan that wasn't tried; None where there is none. Where even the first can't reach the goal, as the network
        is slower than the table says, it is the table's own: the target is then missed, and told to be. MethodError:
        that can't be reached either."""
        known = {attempt.plan: attempt for attempt in tried}
        while True:
            try:
                plan = solve(problem, goal, "microseconds")
            except MethodError:
                if tried:
                    return None
                if goal >= self.predicted_before * share:
                    raise
                goal = self.predicted_before * share
                continue
            if plan not in known:
                return plan
            if known[plan].share <= share * TOLERANCE:
                return None
            goal = problem.cost(plan) * (1 - 1e-6)

    def _problem(self, network: Network, channels: ChannelMap, scores: Scores, blocks: list[Removable]) -> Problem:
        widths = shrinkable(network, channels, self.limits.widths(channels), scores, self.block)
        terms = time_terms(network, channels, self.times)
        return Problem(channels, widths, blocks, terms, self.elsewhere, self.limits.floors)

    def _compared(self, network: Network) -> Comparison:
        self._file = self._file or onnx_of(self.original)
        return compare_latency(self._file, onnx_of(network), _inputs(self._file, network), 1, SECONDS)


def _told(timed: Comparison, share: float, predicted: float) -> Facts:
    """Shares of the time that the step's first network takes, in turn with it."""
    return {
        "wanted": round(share, 5),
        "predicted": round(predicted, 5),
        "measured": round(1 / timed.ratio, 5),
        "measured_low": round(1 / timed.high, 5),
        "measured_high": round(1 / timed.low, 5),
        "microseconds": round(1e6 * timed.compressed.median, 2),
        "reached": 1 / timed.ratio <= share * TOLERANCE,
    }


def onnx_of(network: Network) -> bytes:
    """The network as the `.onnx` file that is delivered of it, without its encodings: they don't change what is run."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        write_onnx(network.module, network.signature, network.example(2), path)
        return path.read_bytes()


def _inputs(file: bytes, network: Network) -> dict[str, Any]:
    shapes = {entry.name: entry.shape for entry in network.signature.inputs}
    return dict(random_inputs(open_session(file), 1, shapes=shapes))
