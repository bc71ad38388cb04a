"""The training before the integers: see `fake.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from compression.context import Context
from compression.network import Network
from compression.pruning.weights import weight_names
from compression.quantization.int8.fake import RoundedWeight, faked, histograms, masks, rounded_values, unfaked
from compression.quantization.int8.ranges import affine, range_of
from compression.training.loop import train
from compression.training.spec import Training

if TYPE_CHECKING:
    from compression.methods.quantize.int8 import QuantizeInt8

LAYERS = frozenset({"Conv1d", "Conv2d", "Linear"})


def aware(network: Network, spec: QuantizeInt8, training: Training, context: Context) -> tuple[Network, dict[str, Any]]:
    """A network that has learned with rounded weights (which it has now) and activations, and the training's facts.
    Ranges of activations are those before training; the file's are measured anew afterwards."""
    data = context.require_data("quantize.int8")
    kinds = {name: type(module).__name__ for name, module in network.layers().items()}
    layers = {name for name in spec.layers.select(kinds) if kinds[name] in LAYERS}
    samples = {name: value[: spec.samples] for name, value in data.calibration.inputs.items()}
    seen = histograms(network, rounded_values(network.module, layers), samples)
    ranges = {name: affine(*range_of(histogram, spec.calibration, spec.percentile)) for name, histogram in seen.items()}
    held = masks(network, weight_names(network, layers))
    learned = {name: RoundedWeight(spec.high, mask) for name, mask in held.items()}
    copy = faked(network, ranges)
    trained, facts = train(copy, training, context, stage="qat", field="/qat", span=(0.0, 0.5), learned=learned)
    return unfaked(trained, network), facts
