"""A step's target, and the cut that brings a network to a share of it: MACs, parameters, or measured time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from compression.context import Context
from compression.measure.cost import cost_of
from compression.network import Network
from compression.pruning.channel_map import ChannelMap
from compression.pruning.channels import map_channels
from compression.pruning.cut import cut
from compression.pruning.importance import Scores
from compression.pruning.limits import Limits, parts_removed
from compression.pruning.plan import CostModel, Measure, choose
from compression.pruning.residual import Block, bypass
from compression.pruning.solve import Plan, Problem, Removable, solve
from compression.pruning.terms import count_terms, shrinkable

Facts = dict[str, Any]


class Target(Protocol):
    """`stage_suffix`: of a stage's name, where more than the spec decides what it does."""

    stage_suffix: str

    def check_reach(self, network: Network, share: float) -> None:
        """MethodError: `share` of the target's cost can't be reached, however little importance counts."""

    def cut(self, network: Network, share: float, so_far: Mapping[str, Any], *, last: bool) -> tuple[Network, Facts]:
        """A network that costs `share` of the step's first, and facts. `so_far`: those of the round before."""

    def facts(self) -> Facts:
        """What it decides by, for the step's record."""


class CountTarget:
    """MACs or parameters. Without blocks channels go one by one (`plan.choose`); with them by `solve`."""

    stage_suffix = ""

    def __init__(self, network: Network, measure: Measure, limits: Limits, context: Context) -> None:
        self.measure, self.limits, self.context = measure, limits, context
        self.before = self.cost(network)

    def cost(self, network: Network) -> float:
        return float(getattr(cost_of(network), self.measure))

    def check_reach(self, network: Network, share: float) -> None:
        channels = map_channels(network)
        blocks = [Removable(block.name, block.nodes, 0.0) for block in self.limits.removable(network)]
        self._chosen(network, channels, np.zeros(len(channels.units)), blocks, share)

    def cut(self, network: Network, share: float, so_far: Mapping[str, Any], *, last: bool) -> tuple[Network, Facts]:  # noqa: ARG002 - as the protocol has it
        channels = map_channels(network)
        scores = self.limits.scores(network, channels, self.context)
        blocks = self.limits.removable(network)
        weighed = self.limits.weighed(network, blocks, self.context)
        removed, gone = self._chosen(network, channels, scores, weighed, share)
        smaller, facts = without(network, channels, removed, [blocks[place] for place in gone], self.limits)
        return smaller, {**facts, self.measure: int(self.cost(smaller))}

    def facts(self) -> Facts:
        return {}

    def _chosen(
        self, network: Network, channels: ChannelMap, scores: Scores, blocks: list[Removable], share: float
    ) -> tuple[list[int], list[int]]:
        """The units, and the places of the blocks."""
        widths = self.limits.widths(channels)
        if self.limits.blocks:
            shrinks = shrinkable(network, channels, widths, scores, self.limits.multiple_of)
            terms = count_terms(network, channels, self.measure)
            problem = Problem(channels, shrinks, blocks, terms, floors=self.limits.floors)
            problem.elsewhere = self.cost(network) - problem.cost(Plan((0,) * len(shrinks)))
            plan = solve(problem, self.before * share, self.measure)
            return problem.units(plan), sorted(plan.blocks)
        model = CostModel(network, channels, self.measure)
        model.elsewhere = int(self.cost(network) - model.total())
        units = choose(
            channels,
            scores,
            model,
            self.before * share,
            by_saving=self.limits.criterion in {"taylor", "fisher"},
            widths=widths,
            floors=self.limits.floors,
            multiple_of=self.limits.multiple_of,
        )
        return units, []


def without(
    network: Network, channels: ChannelMap, removed: list[int], blocks: list[Block], limits: Limits
) -> tuple[Network, Facts]:
    """The network without these units and blocks, each verified, and what went."""
    record = {"step": "prune.structured", "importance": limits.criterion, "removed": len(removed)}
    smaller = cut(network, channels, removed, reason=record)
    facts: Facts = {"removed": len(removed), "parts": parts_removed(channels, removed)}
    if blocks:
        names = [block.name for block in blocks]
        smaller = bypass(smaller, blocks, reason={"step": "prune.structured", "blocks": names})
        facts["blocks"] = names
    return smaller, facts
