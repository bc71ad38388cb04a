"""Quantization-aware training (Jacob et al. 2018): the forward pass sees rounded weights and activations, the backward
pass goes straight through the rounding (Bengio et al. 2013) and stops where a value is clipped.

The rounding of activations is written into the graph in functions of the vocabulary, so that training, validation,
checkpoints and a resumed run need to know nothing of it. Weights are rounded by an encoding that lasts as long as the
run.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from compression.encodings import Encoding, Grid
from compression.network import Network
from compression.quantization.int8.calibrate import BATCH
from compression.quantization.int8.histogram import Histogram
from compression.quantization.int8.ranges import LEVELS, Affine

_aten = torch.ops.aten
_SUMS = frozenset({operator.add, _aten.add.Tensor})
_STILL = (nn.Dropout, nn.Dropout2d, nn.Identity)


@dataclass(frozen=True)
class RoundedWeight:
    """Weights at whole steps, the largest magnitude of each output channel at ±`high`; what `keep` leaves out is zero
    and stays so (None: nothing is)."""

    high: int
    keep: Tensor | None

    def free(self, parameter: Tensor) -> Tensor:
        return parameter.clone()

    def value(self, free: Tensor) -> Tensor:
        kept = free if self.keep is None else free * self.keep.to(free.device)
        with torch.no_grad():
            step = self._step(kept)
            rounded = (kept / step).round().clamp(-self.high, self.high) * step
        return kept + (rounded - kept).detach()

    def penalty(self, free: Tensor) -> Tensor:
        return free.new_zeros(())

    def settled(self, free: Tensor) -> Encoding:
        kept = free.detach().cpu() if self.keep is None else free.detach().cpu() * self.keep.cpu()
        return Grid(self._step(kept).reshape(-1), -self.high, self.high)

    def _step(self, kept: Tensor) -> Tensor:
        top = kept.detach().abs().flatten(1).amax(1)
        step = torch.where(top > 0, top, torch.ones_like(top)) / self.high
        return step.reshape(-1, *[1] * (kept.dim() - 1))


def rounded_values(module: fx.GraphModule, layers: Collection[str]) -> list[fx.Node]:
    """The values that are rounded where these layers run in integers: what they read, both sides of sums, and what is
    made of a sum. None that the network returns."""
    returned = {node for node in module.graph.nodes if node.op == "output" for node in node.all_input_nodes}
    found: dict[fx.Node, None] = {}
    for node in module.graph.nodes:
        if node.op == "call_module" and str(node.target) in layers:
            found[_source(module, node.args[0])] = None
        elif node.op == "call_function" and node.target in _SUMS and _of_values(node):
            found.update(dict.fromkeys(_source(module, entry) for entry in node.args))
    return [node for node in found if node not in returned and node.op != "get_attr"]


def _of_values(node: fx.Node) -> bool:
    return len(node.args) == 2 and all(isinstance(entry, fx.Node) and entry.op != "get_attr" for entry in node.args)


def _source(module: fx.GraphModule, node: Any) -> fx.Node:
    """The value itself, where dropout hands it on."""
    found: fx.Node = node
    while found.op == "call_module" and isinstance(module.get_submodule(str(found.target)), _STILL):
        (found,) = found.all_input_nodes
    return found


def histograms(network: Network, nodes: Collection[fx.Node], samples: Mapping[str, Tensor]) -> dict[str, Histogram]:
    """Of the values of these nodes, by name, a batch at a time; not of whole numbers (sums of indices), which stay."""
    wanted = {node.name for node in nodes}
    found: dict[str, Histogram] = {}

    class Watch(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            result = super().run_node(n)
            if n.name in wanted and result.is_floating_point():
                found.setdefault(n.name, Histogram()).add(result.numpy())
            return result

    count = len(next(iter(samples.values())))
    with torch.no_grad():
        for start in range(0, count, BATCH):
            Watch(network.module).run(*(value[start : start + BATCH] for value in samples.values()))
    return found


def faked(network: Network, ranges: Mapping[str, Affine]) -> Network:
    """A copy in whose graph each value named is rounded to its levels wherever it is read."""
    module = copy.deepcopy(network.module)
    for node in list(module.graph.nodes):
        levels = ranges.get(node.name)
        if levels is None:
            continue
        readers = list(node.users)
        rounded = _rounding(module.graph, node, levels)
        for reader in readers:
            reader.replace_input_with(node, rounded)
    module.graph.lint()
    module.recompile()
    return network.replaced(module=module, encodings=dict(network.encodings))


def _rounding(graph: fx.Graph, value: fx.Node, levels: Affine) -> fx.Node:
    """clipped + detach(rounded − clipped): the gradient is that of clipping."""
    low, high = ((level - levels.zero_point) * levels.scale for level in (0, LEVELS - 1))
    last = value

    def call(target: Any, *arguments: Any) -> fx.Node:
        nonlocal last
        with graph.inserting_after(last):
            last = graph.call_function(target, arguments)
        return last

    clipped = call(_aten.clamp.default, value, low, high)
    steps = call(_aten.round.default, call(operator.truediv, clipped, levels.scale))
    error = call(operator.sub, call(operator.mul, steps, levels.scale), clipped)
    return call(operator.add, clipped, call(_aten.detach.default, error))


def unfaked(trained: Network, network: Network) -> Network:
    """`network` with what `trained` (its faked copy) has learned; weights are at their levels, as plain numbers."""
    plain = network.copy()
    plain.module.load_state_dict(trained.module.state_dict())
    return plain.replaced(encodings={})


def masks(network: Network, names: Collection[str]) -> dict[str, Tensor | None]:
    """For each of these parameters what an encoding holds at zero, as a mask."""
    found: dict[str, Tensor | None] = {}
    for name in names:
        value = network.module.get_parameter(name).detach()
        found[name] = (value != 0).float() if name in network.encodings else None
    return found
