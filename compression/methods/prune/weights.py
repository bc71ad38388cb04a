"""`prune.weights`: single weights are masked to zero; the gain shows in a file that is coded, not in time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from compression.errors import SpecError
from compression.registry import Cost, Method, StepResult, StepSpec, Verdict
from compression.selector import LayerSelector
from compression.training.spec import Training

if TYPE_CHECKING:
    from compression.context import Context
    from compression.network import Network


class PruneWeights(StepSpec):
    """Weight pruning: the smallest weights become zero and stay so, in rounds of prune and retrain (Han et al. 2015).

    Tensors keep their shapes, so nothing gets faster; the file gets smaller where it is coded (`encode`).
    """

    method: Literal["prune.weights"] = "prune.weights"
    sparsity: float = Field(0.9, gt=0, lt=1, description="share of the selected layers' weights that are zero")
    scope: Literal["layer", "global"] = Field(
        "global", description="where weights are compared: within each layer, or across all of them"
    )
    rounds: int = Field(3, ge=1, le=50, description="prune a little, retrain, prune again")
    finetune: Training | None = Field(
        Training(epochs=1), description="training after each round; null masks without retraining"
    )
    layers: LayerSelector = Field(default_factory=LayerSelector, description="which layers may lose weights")


def check(network: Network) -> Verdict:
    from compression.pruning.weights import weight_names

    names = weight_names(network)
    if not names:
        return Verdict(False, "no layer has a weight matrix")
    kinds = {name: network.encodings[name].kind for name in names if name in network.encodings}
    quantised = [name for name, kind in kinds.items() if kind != "mask"]
    if len(quantised) == len(names):
        return Verdict(False, "all weights are quantised: prune before that", names[0])
    return Verdict(True, details=tuple(f"{name}: it has a {kinds[name]}" for name in quantised))


def apply(network: Network, spec: PruneWeights, context: Context) -> StepResult:
    from compression.pruning.weights import masked, sparsity_of, weight_names
    from compression.training.loop import train

    names = weight_names(
        network, spec.layers.select({name: type(module).__name__ for name, module in network.layers().items()})
    )
    if not names:
        raise SpecError("none of the selected layers has weights of its own", "/layers")
    rounds: list[dict[str, Any]] = []
    current = network
    for number in range(1, spec.rounds + 1):
        density = (1 - spec.sparsity) ** (number / spec.rounds)
        stage, source = f"round-{number}", current
        current, facts = context.checkpoints.stage(
            f"{stage}-mask",
            lambda: (masked(source, names, 1 - density, spec.scope), {"sparsity": 1 - density}),  # noqa: B023
        )
        if spec.finetune is not None:
            span = ((number - 1) / spec.rounds, number / spec.rounds)
            current, training = train(current, spec.finetune, context, stage=stage, field="/finetune", span=span)
            facts = {**facts, "training": training}
        rounds.append({"round": number, **facts})
        context.progress(number / spec.rounds, f"round {number} of {spec.rounds}")
    record = {"step": "prune.weights", "sparsity": spec.sparsity, "scope": spec.scope}
    current = current.replaced(provenance=(*current.provenance, record))
    return StepResult(current, {"rounds": rounds, "zeros_percent": sparsity_of(current, names)})


def predict(cost: Cost, spec: PruneWeights) -> Cost:  # noqa: ARG001 - the signature of every method
    """Masked weights are parameters still, and plain tensors hold them."""
    return cost


def needs_data(spec: PruneWeights) -> bool:
    return spec.finetune is not None


METHOD = Method(spec=PruneWeights, check=check, apply=apply, predict=predict, needs_data=needs_data, leaves="encoded")
