"""`factorize.lowrank`: a layer as two or three thinner ones, of the rank that loses least for what it saves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from compression.registry import Cost, Method, StepResult, StepSpec, Verdict
from compression.selector import LayerSelector
from compression.training.spec import Training

if TYPE_CHECKING:
    from compression.context import Context
    from compression.network import Network


class FactorizeLowrank(StepSpec):
    """Low rank: linear layers and convolutions become two or three thinner ones, then the network is trained on.

    Give one target: `macs_ratio`, `parameters_ratio` or `latency_ratio` for the whole network, `energy` for each layer,
    or `rank`. Fewer MACs need not be less time: three thin layers can be slower than one.
    """

    method: Literal["factorize.lowrank"] = "factorize.lowrank"
    macs_ratio: float | None = Field(None, gt=0, lt=1, description="MACs left, as a share of those before the step")
    parameters_ratio: float | None = Field(None, gt=0, lt=1, description="parameters left, as a share of before")
    latency_ratio: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="measured time left, as a share: ONNX Runtime, batch 1, one thread; layers where a low rank costs "
        "time stay as they are",
    )
    energy: float | None = Field(
        None, gt=0, lt=1, description="share of the variance of each layer's outputs that is kept"
    )
    rank: int | None = Field(None, ge=1, le=65536, description="of each layer; the next one of `multiple_of` above it")
    form: Literal["auto", "channel", "spatial", "tucker2"] = Field(
        "auto",
        description="of convolutions larger than 1 × 1. channel: k × k to few, 1 × 1 to all; spatial: k × 1, 1 × k; "
        "tucker2: 1 × 1, k × k, 1 × 1; auto: what loses least for its cost, by layer. Other layers become two",
    )
    samples: int = Field(
        256, ge=0, le=100_000, description="training samples that the layers' statistics are taken on; 0: weights alone"
    )
    multiple_of: int = Field(4, ge=1, le=512, description="ranks in multiples of this; runtimes work in blocks (8, 16)")
    finetune: Training | None = Field(Training(epochs=3), description="training afterwards; null: none")
    layers: LayerSelector = Field(default_factory=LayerSelector, description="which layers may be taken apart")

    @model_validator(mode="after")
    def _one_target(self) -> FactorizeLowrank:
        if sum(getattr(self, name) is not None for name in TARGETS) != 1:
            raise ValueError(f"give one of {', '.join(TARGETS)}")
        return self


TARGETS = ("macs_ratio", "parameters_ratio", "latency_ratio", "energy", "rank")


def check(network: Network) -> Verdict:
    from compression.factorization.options import candidates

    found, left = candidates(network)
    details = tuple(f"{name}: {reason}" for name, reason in left.items())
    if not found:
        return Verdict(False, "no linear layer or plain convolution can be taken apart", details=details)
    return Verdict(True, details=details)


def apply(network: Network, spec: FactorizeLowrank, context: Context) -> StepResult:
    from compression.factorization.lowrank import low_rank
    from compression.training.loop import train

    made, facts = context.checkpoints.stage("factors", lambda: low_rank(network, spec, context))
    if spec.finetune is not None:
        made, training = train(made, spec.finetune, context, stage="finetune", field="/finetune")
        facts = {**facts, "training": training}
    record = {"step": "factorize.lowrank", "layers": [name for name, told in facts["layers"].items() if told["form"]]}
    return StepResult(made.replaced(provenance=(*made.provenance, record)), facts)


def predict(cost: Cost, spec: FactorizeLowrank) -> Cost:
    """A ratio is what the step stops at; the other figure is taken to fall alike. What an energy or a rank comes to
    follows from the data: left as it is."""
    ratio = spec.macs_ratio or spec.parameters_ratio or 1.0
    return Cost(round(cost.parameters * ratio), round(cost.macs * ratio), round(cost.bytes * ratio))


def needs_data(spec: FactorizeLowrank) -> bool:
    return spec.samples > 0 or spec.finetune is not None


METHOD = Method(
    spec=FactorizeLowrank,
    check=check,
    apply=apply,
    predict=predict,
    needs_data=needs_data,
    accepts=frozenset({"float", "encoded"}),
)
