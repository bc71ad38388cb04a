"""`quantize.mixed`: each layer's weights in as many bits as it needs, within a budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from compression.registry import Cost, Method, StepResult, StepSpec, Verdict
from compression.selector import LayerSelector
from compression.training.spec import Training

if TYPE_CHECKING:
    from compression.context import Context
    from compression.network import Network

BUDGETS = ("bits", "bytes", "ratio")


class QuantizeMixed(StepSpec):
    """Bits for each layer (2 to 8), chosen under a budget by what each layer was measured to lose.

    Give one budget: `bits`, `bytes` or `ratio`. The choice is the exact optimum of the sum of the measured losses. What
    it saves shows best in the file of the step `encode`; an `.onnx` file holds 2, 4 or 8 bits a weight.
    """

    method: Literal["quantize.mixed"] = "quantize.mixed"
    bits: float | None = Field(None, ge=2, le=8, description="for a weight, on average over the selected layers")
    bytes: int | None = Field(
        None, ge=1, le=2**40, description="of the selected weights at most: their bits, and a step for each channel"
    )
    ratio: float | None = Field(
        None, gt=1, le=16, description="bytes of the selected weights in fp32 / bytes of their bits and steps, at least"
    )
    minimum_bits: int = Field(2, ge=2, le=8, description="that a layer's weights have")
    maximum_bits: int = Field(8, ge=2, le=8, description="that a layer's weights have")
    against: Literal["original", "labels"] = Field(
        "original", description="what a layer's loss is measured against: the original's outputs, or the labels"
    )
    samples: int = Field(512, ge=1, le=100_000, description="training samples that the loss is measured on")
    finetune: Training | None = Field(
        None, description="training of the weights and their steps afterwards; null leaves them as rounded"
    )
    layers: LayerSelector = Field(default_factory=LayerSelector, description="which layers get fewer bits")

    @model_validator(mode="after")
    def _one_budget(self) -> QuantizeMixed:
        if sum(getattr(self, name) is not None for name in BUDGETS) != 1:
            raise ValueError(f"give one of {', '.join(BUDGETS)}")
        if self.minimum_bits > self.maximum_bits:
            raise ValueError("minimum_bits is above maximum_bits")
        return self


def check(network: Network) -> Verdict:
    from compression.pruning.weights import weight_names

    if not weight_names(network):
        return Verdict(False, "no layer has a weight matrix")
    return Verdict(True)


def apply(network: Network, spec: QuantizeMixed, context: Context) -> StepResult:
    from compression.quantization.mixed import quantized

    return quantized(network, spec, context)


def predict(cost: Cost, spec: QuantizeMixed) -> Cost:  # noqa: ARG001 - the signature of every method
    """Parameters and MACs stay; how many bytes a file takes depends on its format."""
    return cost


METHOD = Method(
    spec=QuantizeMixed, check=check, apply=apply, predict=predict, needs_data=lambda _: True, leaves="encoded"
)
