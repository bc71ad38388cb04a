"""`quantize.entropy`: trained for bytes: few integer levels, and of those the ones that cost few bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from compression.registry import Cost, Method, StepResult, StepSpec, Verdict
from compression.selector import LayerSelector
from compression.training.spec import Training

if TYPE_CHECKING:
    from compression.context import Context
    from compression.network import Network

SEARCH = 6
"""Trainings in search of what a loss of accuracy allows, unless said otherwise."""


class Rdoq(BaseModel):
    """Rate-distortion optimised quantisation: each level is the one that costs least, bits and harm together."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    bit_price: float = Field(
        1e-10, gt=0, le=1, description="λ: how much more loss (by the diagonal Fisher information) a bit saved is worth"
    )
    samples: int = Field(512, ge=1, le=100_000, description="training samples that the importance is measured on")


class QuantizeEntropy(StepSpec):
    """Training for bytes: integer levels with learned steps, and the bits they are coded in are part of the loss.

    Give `rate_weight`, or a target that chooses it: `bytes` or `ratio` of the coded file, or `accuracy_drop`. The gain
    shows in the file of the step `encode`.
    """

    method: Literal["quantize.entropy"] = "quantize.entropy"
    rate_weight: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="of the rate (bits per parameter) in the loss, reached after 60 % of the steps; larger is smaller",
    )
    bytes: int | None = Field(None, ge=100, le=2**40, description="of the .nwk file, at most")
    ratio: float | None = Field(
        None, gt=1, le=100_000, description="bytes of the original's weights in fp32 / bytes of the .nwk file, at least"
    )
    accuracy_drop: float | None = Field(
        None,
        ge=0,
        le=100,
        description="points of accuracy on validation that may be lost; the file gets as small as that allows",
    )
    rounds: int | None = Field(
        None,
        ge=1,
        le=50,
        description=f"trainings one after the other in search of what accuracy_drop allows; none: {SEARCH}. Other "
        "targets take one",
    )
    levels: int = Field(7, ge=1, le=127, description="of each parameter: whole steps from minus this to this")
    per_channel: bool = Field(False, description="a step for each output channel; else one for each tensor")
    training: Training | None = Field(
        Training(epochs=10, optimizer="adamw", learning_rate=0.003, weight_decay=0, alpha=0.9),
        description="of each round, beside the network it came with as the teacher; null: no training, `rdoq` alone",
    )
    shift: int = Field(
        0, ge=0, le=64, description="pixels that images are moved by at most while training; the teacher sees it too"
    )
    noise: float = Field(
        0.0, ge=0, le=10, description="added to the inputs while training, in units of their standard deviation"
    )
    mixup: float = Field(
        0.0, ge=0, le=10, description="α of mixup while training; 0: none. Mixed samples have the teacher alone"
    )
    rdoq: Rdoq | None = Field(None, description="afterwards choose each level anew, by bits and by harm")
    layers: LayerSelector = Field(default_factory=LayerSelector, description="layers whose parameters become levels")

    @model_validator(mode="after")
    def _one_target(self) -> QuantizeEntropy:
        given = [name for name in TARGETS if getattr(self, name) is not None]
        if self.training is None:
            if given:
                raise ValueError(f"{given[0]} goes with training")
            if self.rdoq is None:
                raise ValueError("without training it needs rdoq")
        elif len(given) != 1:
            raise ValueError(f"give one of {', '.join(TARGETS)}")
        elif (self.rounds or 1) > 1 and self.accuracy_drop is None:
            raise ValueError("rounds are for accuracy_drop: the other targets take one training")
        elif self.mixup and self.training.loss in {"labels", "both"}:
            raise ValueError("mixed samples have no label: with mixup, the loss is teacher")
        return self


TARGETS = ("rate_weight", "bytes", "ratio", "accuracy_drop")


def check(network: Network) -> Verdict:
    if not network.layers():
        return Verdict(False, "no layer has parameters")
    return Verdict(True)


def apply(network: Network, spec: QuantizeEntropy, context: Context) -> StepResult:
    from compression.quantization.entropy import quantized

    return quantized(network, spec, context)


def predict(cost: Cost, spec: QuantizeEntropy) -> Cost:  # noqa: ARG001 - the signature of every method
    """Parameters and MACs stay; what the levels come to is known when they are coded."""
    return cost


METHOD = Method(
    spec=QuantizeEntropy,
    check=check,
    apply=apply,
    predict=predict,
    needs_data=lambda _: True,
    leaves="encoded",
)
