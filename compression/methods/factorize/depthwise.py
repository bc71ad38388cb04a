"""`factorize.depthwise`: convolutions become depthwise and pointwise ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from compression.registry import Cost, Method, StepResult, StepSpec, Verdict
from compression.selector import LayerSelector
from compression.training.spec import Training

if TYPE_CHECKING:
    from compression.context import Context
    from compression.network import Network


class FactorizeDepthwise(StepSpec):
    """Depthwise-separable: each k × k convolution becomes a depthwise k × k and a pointwise 1 × 1, then trains.

    Weights and MACs of a replaced layer fall to d·(1/O + 1/k²). No lossless replacement: what it starts from is told.
    """

    method: Literal["factorize.depthwise"] = "factorize.depthwise"
    multiplier: int = Field(1, ge=1, le=49, description="d: depthwise filters for each input channel")
    between: Literal["nothing", "norm", "norm_relu"] = Field(
        "nothing",
        description="depthwise and pointwise: nothing; a batch norm, which begins as no change; or norm and ReLU as in "
        "MobileNet, which begin far from the original",
    )
    samples: int = Field(256, ge=1, le=100_000, description="training samples that the layers are fitted on")
    finetune: Training | None = Field(
        Training(epochs=5), description="training afterwards, beside the original as the teacher; null: none"
    )
    layers: LayerSelector = Field(default_factory=LayerSelector, description="which convolutions are replaced")


def check(network: Network) -> Verdict:
    from compression.factorization.depthwise import replaceable

    found, left = replaceable(network)
    details = tuple(f"{name}: {reason}" for name, reason in left.items())
    if not found:
        return Verdict(False, "no convolution can become depthwise and pointwise", details=details)
    return Verdict(True, details=details)


def apply(network: Network, spec: FactorizeDepthwise, context: Context) -> StepResult:
    from compression.factorization.depthwise import depthwise_separable
    from compression.training.loop import train

    made, facts = context.checkpoints.stage("factors", lambda: depthwise_separable(network, spec, context))
    if spec.finetune is not None:
        made, training = train(made, spec.finetune, context, stage="finetune", field="/finetune")
        facts = {**facts, "training": training}
    record = {"step": "factorize.depthwise", "multiplier": spec.multiplier, "layers": list(facts["layers"])}
    return StepResult(made.replaced(provenance=(*made.provenance, record)), facts)


def predict(cost: Cost, spec: FactorizeDepthwise) -> Cost:
    """As for a network of 3 × 3 convolutions of many channels: d/9 of each, which is an estimate."""
    ratio = min(1.0, spec.multiplier / 9)
    return Cost(round(cost.parameters * ratio), round(cost.macs * ratio), round(cost.bytes * ratio))


METHOD = Method(spec=FactorizeDepthwise, check=check, apply=apply, predict=predict, needs_data=lambda _: True)
