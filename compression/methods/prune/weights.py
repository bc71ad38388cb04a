"""`prune.weights`: single weights are masked to zero; the gain shows in a file that is coded, not in time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from compression.errors import SpecError
from compression.registry import Cost, Method, StepResult, StepSpec, Verdict
from compression.selector import LayerSelector
from compression.training.spec import Training

if TYPE_CHECKING:
    from compression.context import Context
    from compression.network import Network
    from compression.pruning.masks import Aim

DEFAULT_SPARSITY = 0.9


class PruneWeights(StepSpec):
    """Weight pruning: the smallest weights become zero and stay so, at once, in rounds, or while training.

    Tensors keep their shapes, so nothing gets faster; the file gets smaller where it is coded (`encode`).
    """

    method: Literal["prune.weights"] = "prune.weights"
    sparsity: float | None = Field(
        None,
        gt=0,
        lt=1,
        description=f"share of the selected layers' weights that are zero; none: {DEFAULT_SPARSITY}, or the pattern's",
    )
    pattern: str | None = Field(
        None,
        max_length=5,
        pattern=r"^[1-9][0-9]?:[1-9][0-9]?$",
        description="N:M, e.g. 2:4: of M weights side by side along the input axis at most N aren't zero, as sparse "
        "tensor cores take them; in place of sparsity",
    )
    scope: Literal["layer", "global", "sensitivity"] = Field(
        "global",
        description="where weights are compared: within each layer, across all of them, or within each layer with a "
        "share of zeros that a scan proposes: each layer alone is masked and the loss measured on validation data",
    )
    schedule: Literal["one-shot", "iterative", "gradual"] = Field(
        "iterative",
        description="one-shot: all at once, then training; iterative: prune a little, retrain, prune again; gradual: "
        "within one training run, every few steps (Zhu & Gupta 2017)",
    )
    rounds: int = Field(3, ge=1, le=50, description="with iterative: how often it is pruned and retrained")
    every: int = Field(20, ge=1, le=10000, description="with gradual: optimizer steps from one pruning to the next")
    finetune: Training | None = Field(
        Training(epochs=1),
        description="training after each round, or the one run that gradual prunes in; null masks without retraining",
    )
    compare: bool = Field(
        False,
        description="with iterative: also prune at once to each round's share of zeros and train as many epochs as all "
        "rounds so far, as a curve in the report; the result stays the iterative one",
    )
    layers: LayerSelector = Field(default_factory=LayerSelector, description="which layers may lose weights")

    @model_validator(mode="after")
    def _fields_go_together(self) -> PruneWeights:
        if self.pattern is not None:
            kept, of = map(int, self.pattern.split(":"))
            if kept >= of:
                raise ValueError("a pattern N:M keeps fewer than M")
            if self.sparsity is not None or self.scope == "sensitivity":
                raise ValueError("a pattern says how many weights of each layer are zero: give no sparsity or scan")
        if self.finetune is None and (self.schedule == "gradual" or self.compare):
            raise ValueError("gradual pruning and comparing need finetune")
        if self.compare and (self.schedule != "iterative" or self.rounds < 2):
            raise ValueError("compare goes with iterative, of two rounds or more")
        return self


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
    from compression.pruning.rounds import at_once, gradually, in_rounds
    from compression.pruning.weights import masked_shares, sparsity_of, weight_names

    types = {name: type(module).__name__ for name, module in network.layers().items()}
    names = weight_names(network, spec.layers.select(types))
    if not names:
        raise SpecError("none of the selected layers has weights of its own", "/layers")
    masked_shares(network, names)  # quantised weights are refused now, not after a scan
    aim, scanned = _aim(network, names, spec, context)
    if spec.schedule == "gradual":
        current, facts = gradually(network, names, aim, spec, context)
    else:
        current, facts = in_rounds(network, names, aim, spec, context)
    if spec.compare:
        facts |= {"at_once": at_once(network, names, aim, spec, context)}
    record: dict[str, Any] = {"step": "prune.weights", "scope": spec.scope, "schedule": spec.schedule}
    record |= {"sparsity": _sparsity(spec)} if spec.pattern is None else {"pattern": spec.pattern}
    current = current.replaced(provenance=(*current.provenance, record))
    return StepResult(current, {**facts, **scanned, "zeros_percent": sparsity_of(current, names)})


def _sparsity(spec: PruneWeights) -> float:
    return DEFAULT_SPARSITY if spec.sparsity is None else spec.sparsity


def _aim(network: Network, names: list[str], spec: PruneWeights, context: Context) -> tuple[Aim, dict[str, Any]]:
    """What is wanted in the end, and facts of a scan."""
    from compression.pruning.masks import Each, Together, pattern_for
    from compression.pruning.sensitivity import proposed, scan

    if spec.pattern is not None:
        return pattern_for(spec.pattern, network, names), {}
    if spec.scope == "layer":
        return Each(dict.fromkeys(names, _sparsity(spec))), {}
    if spec.scope == "global":
        return Together(_sparsity(spec)), {}
    _, facts = context.checkpoints.stage("scan", lambda: (network, {"curves": scan(network, names, context)}))
    sizes = {name: network.module.get_parameter(name).numel() for name in names}
    shares = proposed(facts["curves"], sizes, _sparsity(spec))
    table = [
        {"weight": name, "weights": sizes[name], "sparsity": round(shares[name], 4), "curve": facts["curves"][name]}
        for name in names
    ]
    return Each(shares), {"sensitivity": table}


def predict(cost: Cost, spec: PruneWeights) -> Cost:  # noqa: ARG001 - the signature of every method
    """Masked weights are parameters still, and plain tensors hold them."""
    return cost


def needs_data(spec: PruneWeights) -> bool:
    return spec.finetune is not None or spec.scope == "sensitivity"


METHOD = Method(spec=PruneWeights, check=check, apply=apply, predict=predict, needs_data=needs_data, leaves="encoded")
