"""`prune.lottery`: does the network hold a small one that learns as well from its own first weights?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from compression.model_ids import ModelId
from compression.registry import Cost, Method, StepResult, StepSpec, Verdict
from compression.training.spec import Training

if TYPE_CHECKING:
    from compression.context import Context
    from compression.network import Network


class PruneLottery(StepSpec):
    """Lottery tickets: prune in rounds, each from the first weights again, beside controls (Frankle & Carbin 2019).

    The whole network is trained from its first weights, pruned, set back to them and trained again, round by round. The
    result is the ticket of the last round; the report says whether its first weights were what counted. It takes as
    many trainings as kinds × rates × seeds × rounds × (arms + 1).
    """

    method: Literal["prune.lottery"] = "prune.lottery"
    initial: ModelId | None = Field(
        None,
        description="a model with the network's weights before training, or early in it; none: they are drawn from the "
        "job's seed, so the weights of the job's model aren't used",
    )
    rewind_step: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="0: back to the first weights; k: to those after k steps at a constant rate, which larger networks "
        "need (Frankle et al. 2020)",
    )
    sparsity: float = Field(0.9, gt=0, lt=1, description="share of weights, or of parameters, that is gone at the end")
    rounds: int = Field(3, ge=1, le=30, description="each prunes by one factor")
    scope: Literal["layer", "global"] = Field(
        "global", description="of weights: compared within each layer, or across all of them"
    )
    kinds: list[Literal["weights", "structured"]] = Field(
        default=["weights", "structured"],
        min_length=1,
        max_length=2,
        description="single weights are masked; channels and neurons are cut. Each is judged by itself",
    )
    arms: list[Literal["finetune", "signs", "random_signs", "random", "scratch_b"]] = Field(
        default=["random", "scratch_b", "finetune"],
        max_length=5,
        description="what the ticket is compared with, in each round and of the same structure: finetune, the trained "
        "weights trained on; signs, those of the first weights with one magnitude a layer (Zhou et al. 2019), and "
        "random_signs (of weights alone); random, drawn anew and trained as long (Scratch-E of Liu et al. 2019); "
        "scratch_b, drawn anew and trained as long as the whole network's computation lasts",
    )
    budget: float = Field(
        2.0, ge=1, le=20, description="of scratch_b: at most so many times the epochs; Liu et al. double them"
    )
    seeds: int = Field(1, ge=1, le=20, description="so often all is repeated, with other first weights and batches")
    small_rate: float | None = Field(
        0.01,
        gt=0,
        le=10,
        description="all is done at this learning rate, too, for what holds at a small rate may not at the training's; "
        "none: at the training's alone",
    )
    training: Training = Field(
        default_factory=lambda: Training(epochs=5, learning_rate=0.1, schedule="constant", loss="auto"),
        description="of every arm; learning_rate is the large one. The loss auto is that of labels where there are any",
    )

    @model_validator(mode="after")
    def _fields_go_together(self) -> PruneLottery:
        if self.small_rate is not None and self.small_rate >= self.training.learning_rate:
            raise ValueError("small_rate is below the training's learning_rate")
        if len(set(self.kinds)) < len(self.kinds) or len(set(self.arms)) < len(self.arms):
            raise ValueError("a kind or an arm is named twice")
        return self


def check(network: Network) -> Verdict:
    from compression.pruning.weights import weight_names

    if not weight_names(network):
        return Verdict(False, "no layer has a weight matrix")
    return Verdict(True)


def apply(network: Network, spec: PruneLottery, context: Context) -> StepResult:
    from compression.pruning.lottery import drawn_lots

    return drawn_lots(network, spec, context)


def predict(cost: Cost, spec: PruneLottery) -> Cost:  # noqa: ARG001 - the signature of every method
    """A masked ticket has all of its parameters still, and it isn't known which kind will be the best."""
    return cost


METHOD = Method(
    spec=PruneLottery,
    check=check,
    apply=apply,
    predict=predict,
    needs_data=lambda _: True,
    accepts=frozenset({"float"}),
    leaves="encoded",
)
