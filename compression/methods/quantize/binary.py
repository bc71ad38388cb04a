"""`quantize.binary`: weights of two values for each output channel, with trained scales."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from compression.registry import Cost, Method, StepResult, StepSpec, Verdict
from compression.selector import LayerSelector
from compression.training.spec import Training

if TYPE_CHECKING:
    from compression.context import Context
    from compression.network import Network


class QuantizeBinary(StepSpec):
    """Binary weights: each is plus or minus its output channel's scale, which is trained (Rastegari et al. 2016).

    About a bit a weight in a file; activations stay floats. Zeros that a mask holds stay zero. First and last layers
    bear it worst and get more bits.
    """

    method: Literal["quantize.binary"] = "quantize.binary"
    first_last_bits: int | None = Field(
        8,
        ge=1,
        le=16,
        description="of each weight of the layers at the network's ends; 1: binary like the others; null: floats",
    )
    training: Training | None = Field(
        Training(epochs=5, optimizer="adamw", learning_rate=0.001),
        description="of the scales, of the full weights behind the signs, and of all that isn't binary; null: no "
        "training, signs and scales of the least squared error",
    )
    layers: LayerSelector = Field(default_factory=LayerSelector, description="layers whose weights become binary")


def check(network: Network) -> Verdict:
    from compression.pruning.weights import weight_names

    if not weight_names(network):
        return Verdict(False, "no layer has a weight matrix")
    return Verdict(True)


def apply(network: Network, spec: QuantizeBinary, context: Context) -> StepResult:
    from compression.quantization.binary import Binary
    from compression.quantization.trained_scales import with_trained_scales

    layers = spec.layers.select({name: type(module).__name__ for name, module in network.layers().items()})
    binary, facts = with_trained_scales(network, Binary, layers, spec.first_last_bits, 1, spec.training, context)
    return StepResult(binary.replaced(provenance=(*binary.provenance, {"step": "quantize.binary"})), facts)


def predict(cost: Cost, spec: QuantizeBinary) -> Cost:  # noqa: ARG001 - the signature of every method
    """Parameters and MACs stay; how many bytes a file takes depends on its format."""
    return cost


def needs_data(spec: QuantizeBinary) -> bool:
    return spec.training is not None


METHOD = Method(spec=QuantizeBinary, check=check, apply=apply, predict=predict, needs_data=needs_data, leaves="encoded")
