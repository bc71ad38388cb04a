"""Linear layers in four bits, one after the other: each sees what the ones before it have become."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from compression.data import Split
from compression.encodings import Mask
from compression.encodings.blocks import Blocks
from compression.errors import MethodError, SpecError
from compression.network import Network
from compression.pruning.weights import weight_names
from compression.quantization.blocks import blocks_for
from compression.quantization.calibration import input_gram
from compression.quantization.gptq import compensated, output_error
from compression.registry import StepResult

if TYPE_CHECKING:
    from compression.context import Context
    from compression.methods.quantize.int4 import QuantizeInt4


def matrices(network: Network, layers: Collection[str] | None = None) -> list[str]:
    """Names of the weights of these linear layers (all, if None) that no other layer uses."""
    linear = {name for name, module in network.layers().items() if isinstance(module, nn.Linear)}
    return weight_names(network, linear if layers is None else linear & set(layers))


def quantized(network: Network, spec: QuantizeInt4, context: Context) -> StepResult:
    """The network with blocks for each selected linear layer, and facts. SpecError at the field at fault."""
    layers = spec.layers.select({name: type(module).__name__ for name, module in network.layers().items()})
    names = matrices(network, layers)
    if not names:
        raise SpecError("none of the selected layers is linear, with a weight of its own", "/layers")
    result, facts = context.checkpoints.stage("blocks", lambda: _rounded(network, names, spec, context))
    record = {"step": "quantize.int4", "block_size": spec.block_size, "rounding": facts["rounding"]}
    return StepResult(result.replaced(provenance=(*result.provenance, record)), facts)


def _rounded(
    network: Network, names: list[str], spec: QuantizeInt4, context: Context
) -> tuple[Network, dict[str, Any]]:
    samples = _calibration(spec, context)
    result = network.copy()
    result.module.to(context.device)
    found: dict[str, Blocks] = {}
    facts: dict[str, Any] = {}
    for index, name in enumerate(names):
        found[name], facts[name] = _layer(result, name, spec, samples, context)
        context.progress((index + 1) / len(names), name)
    result.module.to("cpu")
    return result.replaced(encodings={**network.encodings, **found}), {
        "rounding": "nearest" if samples is None else "gptq",
        "packed_bytes": sum(map(packed_bytes, found.values())),
        "fp32_bytes": 4 * sum(result.module.get_parameter(name).numel() for name in names),
        "parameters": facts,
    }


def _layer(
    network: Network, name: str, spec: QuantizeInt4, samples: Split | None, context: Context
) -> tuple[Blocks, dict[str, float]]:
    """Rounds one weight of `network` in place: its blocks, and signal-to-noise ratios in dB, of weights and outputs."""
    parameter = network.module.get_parameter(name)
    value = parameter.detach().cpu()
    blocks = blocks_for(value, spec.block_size, zeros=spec.zero_points)
    rounded = nearest = blocks.value(value)
    facts = {}
    if samples is not None:
        gram = input_gram(network.module, name, samples, context.device)
        before = network.encodings.get(name)
        held = ~before.keep if isinstance(before, Mask) else None
        try:
            rounded = compensated(value, blocks, gram, spec.damping, held)
        except MethodError as error:
            raise MethodError(error.message, name) from error
        signal = output_error(value, gram)
        for key, weight in (("output_sqnr_db", rounded), ("output_sqnr_db_of_nearest", nearest)):
            facts[key] = _decibels(signal, output_error(weight - value, gram))
    with torch.no_grad():
        parameter.copy_(rounded)
    power, noise = (float(part.double().square().sum()) for part in (value, rounded - value))
    return blocks, {"sqnr_db": _decibels(power, noise), **facts}


def packed_bytes(blocks: Blocks) -> int:
    """Of whole blocks of codes, their steps, and their zeros if there are any."""
    rows, count = blocks.step.shape
    zeros = 0 if blocks.zero is None else rows * math.ceil(count / 2)
    return rows * count * (blocks.size // 2 + 4) + zeros


def _calibration(spec: QuantizeInt4, context: Context) -> Split | None:
    """Calibration samples drawn from the seed; None: each weight is rounded by itself."""
    if spec.rounding == "nearest" or (spec.rounding == "auto" and context.data is None):
        return None
    given = context.require_data("quantize.int4 with compensation").calibration
    generator = torch.Generator().manual_seed(context.seed)
    return given.take(torch.randperm(len(given), generator=generator)[: spec.samples])


def _decibels(signal: float, noise: float) -> float:
    """Signal to noise; 200 dB stands for equality."""
    return 200.0 if noise <= signal * 1e-20 else round(10 * math.log10(signal / noise), 2)
