"""`quantize.ternary`: weights of three values, with trained scales."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from compression.registry import Cost, Method, StepResult, StepSpec, Verdict
from compression.selector import LayerSelector
from compression.training.spec import Training

if TYPE_CHECKING:
    from compression.context import Context
    from compression.network import Network


class QuantizeTernary(StepSpec):
    """Ternary weights: each is minus one scale, zero, or plus another; the scales are trained (Zhu et al. 2017).

    Under two bits a weight in a file. Zeros that a mask holds stay zero. First and last layers bear it worst and get
    more bits.
    """

    method: Literal["quantize.ternary"] = "quantize.ternary"
    threshold: float | None = Field(
        None,
        gt=0,
        lt=10,
        description="below it a weight is zero, as a share of `threshold_of`; none: 0.7 of the mean, 0.05 of the max",
    )
    threshold_of: Literal["mean", "max"] = Field(
        "mean", description="of the magnitudes in a tensor: their mean (Li & Liu 2016) or the largest (Zhu et al. 2017)"
    )
    first_last_bits: int | None = Field(
        8,
        ge=2,
        le=16,
        description="of each weight of the layers at the network's ends; 2: ternary like the others; null: floats",
    )
    training: Training | None = Field(
        Training(epochs=5, optimizer="adamw", learning_rate=0.001),
        description="of the scales, of the full weights behind the signs, and of all that isn't ternary; null: no "
        "training, each tensor gets the one scale of the least squared error",
    )
    layers: LayerSelector = Field(default_factory=LayerSelector, description="layers whose weights become ternary")

    @model_validator(mode="after")
    def _something_is_left(self) -> QuantizeTernary:
        if self.threshold_of == "max" and self.threshold is not None and self.threshold >= 1:
            raise ValueError("a threshold of the largest magnitude or more leaves no weight: give less than 1")
        return self


def check(network: Network) -> Verdict:
    from compression.pruning.weights import weight_names

    if not weight_names(network):
        return Verdict(False, "no layer has a weight matrix")
    return Verdict(True)


SHARES = {"mean": 0.7, "max": 0.05}


def apply(network: Network, spec: QuantizeTernary, context: Context) -> StepResult:
    from functools import partial

    from compression.quantization.ternary import Ternary
    from compression.quantization.trained_scales import with_trained_scales

    share = SHARES[spec.threshold_of] if spec.threshold is None else spec.threshold
    layers = spec.layers.select({name: type(module).__name__ for name, module in network.layers().items()})
    make = partial(Ternary, share=share, measure=spec.threshold_of)
    ternary, facts = with_trained_scales(network, make, layers, spec.first_last_bits, 2, spec.training, context)
    record = {"step": "quantize.ternary", "threshold": share, "of": spec.threshold_of}
    return StepResult(ternary.replaced(provenance=(*ternary.provenance, record)), facts)


def predict(cost: Cost, spec: QuantizeTernary) -> Cost:  # noqa: ARG001 - the signature of every method
    """Parameters and MACs stay; how many bytes a file takes depends on its format."""
    return cost


def needs_data(spec: QuantizeTernary) -> bool:
    return spec.training is not None


METHOD = Method(
    spec=QuantizeTernary, check=check, apply=apply, predict=predict, needs_data=needs_data, leaves="encoded"
)
