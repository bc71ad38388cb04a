"""What a structured pruning step may take away, whatever its target."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from compression.context import Context
from compression.network import Network
from compression.pruning.channel_map import ChannelMap, Part, Width
from compression.pruning.importance import Criterion, Scores, importance
from compression.pruning.residual import Block, block_losses, residual_blocks
from compression.pruning.solve import Removable


@dataclass(frozen=True)
class Limits:
    """`floors`: the least that is left of each layer's outputs. `blocks`: whole residual blocks may go too."""

    criterion: Criterion
    selected: frozenset[str]
    parts: frozenset[Part]
    floors: Mapping[str, int]
    multiple_of: int
    blocks: bool

    def widths(self, channels: ChannelMap) -> list[Width]:
        """Those that may shrink: all of a width's layers are selected, and all that it is may go."""
        return [w for w in channels.widths() if set(w.names) <= self.selected and w.parts <= self.parts]

    def scores(self, network: Network, channels: ChannelMap, context: Context) -> Scores:
        return importance(network, channels, self.criterion, context, set(self.selected))

    def removable(self, network: Network) -> list[Block]:
        """The residual blocks all of whose layers are selected."""
        if not self.blocks:
            return []
        layers = network.layers()
        called = {node.name: str(node.target) for node in network.module.graph.nodes if node.op == "call_module"}
        blocks = residual_blocks(network)
        return [b for b in blocks if {called.get(n) for n in b.nodes} & set(layers) <= self.selected]

    def weighed(self, network: Network, blocks: Collection[Block], context: Context) -> list[Removable]:
        losses = block_losses(network, blocks, self.criterion, context) if blocks else []
        return [Removable(b.name, b.nodes, loss) for b, loss in zip(blocks, losses, strict=True)]


def floors_of(channels: ChannelMap, max_layer_ratio: float) -> dict[str, int]:
    return {name: max(1, math.ceil(len(ids) * (1 - max_layer_ratio))) for name, ids in channels.producers.items()}


def parts_removed(channels: ChannelMap, removed: Collection[int]) -> dict[str, int]:
    """How many of each part; what is several (a head's place that a norm averages over) counts as each."""
    gone = set(removed)
    counts: Counter[str] = Counter()
    for width in channels.widths():
        counts.update(dict.fromkeys(width.parts, len(gone & set(width.units.tolist()))))
    return {part: count for part, count in sorted(counts.items()) if count}
