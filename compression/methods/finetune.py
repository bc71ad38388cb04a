"""`finetune`: trains the network as it stands; masks and shared weights are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from compression.registry import Cost, Method, StepResult, StepSpec, Verdict
from compression.training.spec import Training

if TYPE_CHECKING:
    from compression.context import Context
    from compression.network import Network


class Finetune(StepSpec):
    """Training with labels, against the original's outputs, or both; the best weights on validation are kept."""

    method: Literal["finetune"] = "finetune"
    training: Training = Field(default_factory=Training)


def check(network: Network) -> Verdict:
    if not any(parameter.is_floating_point() for parameter in network.module.parameters()):
        return Verdict(False, "the network has no parameter to train")
    return Verdict(True)


def apply(network: Network, spec: Finetune, context: Context) -> StepResult:
    from compression.training.loop import train

    trained, facts = train(network, spec.training, context, stage="finetune")
    record = {"step": "finetune", "epochs": spec.training.epochs, "loss": facts["loss"]}
    return StepResult(trained.replaced(provenance=(*trained.provenance, record)), facts)


def predict(cost: Cost, spec: Finetune) -> Cost:  # noqa: ARG001 - the signature of every method
    return cost


METHOD = Method(spec=Finetune, check=check, apply=apply, predict=predict, needs_data=lambda _: True)
