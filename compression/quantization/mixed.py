"""Bits by layer: measured, chosen, rounded, and trained where that is asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compression.errors import SpecError
from compression.knapsack import cheapest
from compression.network import Network
from compression.pruning.weights import weight_names
from compression.quantization.learned_grid import LearnedGrid
from compression.quantization.sensitivity import Judge, Table, grid_for, sensitivities
from compression.registry import StepResult
from compression.training.loop import train
from compression.training.spec import Training

if TYPE_CHECKING:
    from compression.context import Context
    from compression.methods.quantize.mixed import QuantizeMixed

STEP_BITS = 32
"""Of the step that each slice of the first axis has."""


@dataclass(frozen=True)
class Weights:
    """The selected parameters, and what they come to. `counts`: entries, by name; `steps`: of all grids together."""

    counts: Mapping[str, int]
    steps: int

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def bytes(self, bits: int) -> int:
        """Of weights that take so many bits together, and their steps."""
        return math.ceil((bits + STEP_BITS * self.steps) / 8)


def quantized(network: Network, spec: QuantizeMixed, context: Context) -> StepResult:
    """The network with a grid for each selected weight, and facts. SpecError at the field at fault."""
    weights = selected_weights(network, spec)
    budget = budget_bits(weights, spec)
    rounded, facts = context.checkpoints.stage("bits", lambda: _rounded(network, weights, budget, spec, context))
    if spec.finetune is not None:
        rounded, facts["training"] = trained(network, facts["bits"], spec.finetune, context)
    record = {"step": "quantize.mixed", "average_bits": facts["average_bits"]}
    return StepResult(rounded.replaced(provenance=(*rounded.provenance, record)), facts)


def selected_weights(network: Network, spec: QuantizeMixed) -> Weights:
    layers = spec.layers.select({name: type(module).__name__ for name, module in network.layers().items()})
    values = {name: network.module.get_parameter(name) for name in weight_names(network, layers)}
    if not values:
        raise SpecError("none of the selected layers has weights of its own", "/layers")
    counts = {name: value.numel() for name, value in values.items()}
    return Weights(counts, sum(len(value) for value in values.values()))


def budget_bits(weights: Weights, spec: QuantizeMixed) -> int:
    """What all weights may take together, without their steps. SpecError: less than the fewest bits need."""
    least = weights.total * spec.minimum_bits
    given = "bits" if spec.bits is not None else "bytes" if spec.bytes is not None else "ratio"
    if spec.bits is not None:
        allowed = math.floor(spec.bits * weights.total + 1e-6)
        possible = f"{spec.minimum_bits} bits"
    elif spec.bytes is not None:
        allowed = 8 * spec.bytes - STEP_BITS * weights.steps
        possible = f"{weights.bytes(least)} bytes"
    else:
        assert spec.ratio is not None  # noqa: S101 - the spec's own rule
        allowed = math.floor(32 * weights.total / spec.ratio) - STEP_BITS * weights.steps
        highest = 4 * weights.total / weights.bytes(least)
        possible = f"a ratio of {math.floor(100 * highest) / 100:.2f}"
    if allowed < least:
        raise SpecError(
            f"with {spec.minimum_bits} bits for every weight, the fewest allowed, the selected layers come to "
            f"{possible}: no less is possible",
            f"/{given}",
        )
    return allowed


def _rounded(
    network: Network, weights: Weights, budget: int, spec: QuantizeMixed, context: Context
) -> tuple[Network, dict[str, Any]]:
    judge = Judge(spec.samples, spec.against, context)
    widths = list(range(spec.minimum_bits, spec.maximum_bits + 1))
    table = sensitivities(network, weights.counts, widths, judge, context)
    bits = chosen_bits(table, weights.counts, budget)
    uniform = min(spec.maximum_bits, budget // weights.total)
    before = _loss(network, judge, context)
    mixed = on_grids(network, bits)
    used = sum(bits[name] * count for name, count in weights.counts.items())
    return mixed, {
        "bits": bits,
        "average_bits": round(used / weights.total, 4),
        "bytes": weights.bytes(used),
        "fp32_bytes": 4 * weights.total,
        "measured_against": spec.against,
        "sensitivity": {name: {str(width): cost for width, cost in row.items()} for name, row in table.items()},
        "predicted_loss_increase": sum(table[name][width] for name, width in bits.items()),
        "measured_loss_increase": _loss(mixed, judge, context) - before,
        "uniform_bits": uniform,
        "uniform_loss_increase": _loss(on_grids(network, dict.fromkeys(bits, uniform)), judge, context) - before,
    }


def chosen_bits(table: Table, counts: Mapping[str, int], budget: int) -> dict[str, int]:
    """The bits of each parameter: of the least sum of losses that `budget` bits altogether allow."""
    widths = list(next(iter(table.values())))
    sizes = [[count * width for width in widths] for count in counts.values()]
    options = cheapest(sizes, [[table[name][width] for width in widths] for name in counts], budget)
    assert options is not None  # noqa: S101 - the budget was checked
    return {name: widths[option] for name, option in zip(counts, options, strict=True)}


def on_grids(network: Network, bits: Mapping[str, int]) -> Network:
    """A copy with each of these parameters rounded to a grid of so many bits."""
    rounded = network.copy()
    grids = {name: grid_for(rounded.module.get_parameter(name).detach(), width) for name, width in bits.items()}
    rounded = rounded.replaced(encodings={**network.encodings, **grids})
    rounded.project()
    return rounded


def trained(
    network: Network, bits: Mapping[str, int], spec: Training, context: Context
) -> tuple[Network, dict[str, Any]]:
    """Weights and steps learned together (LSQ, Esser et al. 2020), from the unrounded weights on."""
    learned = {}
    for name, width in bits.items():
        value = network.module.get_parameter(name).detach()
        grid = grid_for(value, width)
        learned[name] = LearnedGrid(grid.step, grid.high, value.shape)
    return train(network, spec, context, stage="steps", field="/finetune", learned=learned)


def _loss(network: Network, judge: Judge, context: Context) -> float:
    found = judge.loss(network.module.to(context.device))
    network.module.to("cpu")
    return found
