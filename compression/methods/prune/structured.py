"""`prune.structured`: whole channels, neurons and heads go, so that parameters, MACs and time really fall."""

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
    from compression.pruning.channel_map import ChannelMap
    from compression.pruning.limits import Limits
    from compression.pruning.targets import Target

Part = Literal["channels", "neurons", "heads", "head_dim", "width"]


class SparsityTraining(Training):
    """Training that makes whole channels small before any is cut (DepGraph's regulariser, Fang et al. 2023)."""

    strength: float = Field(1e-4, gt=0, le=1, description="of the pull on what each channel owns in layers and norms")


class PruneStructured(StepSpec):
    """Structured pruning: remove the least important channels, neurons and heads, in rounds of prune and retrain.

    Give one target: `latency_ratio`, `macs_ratio` or `parameters_ratio`, what is left of the network that the step was
    given.
    """

    method: Literal["prune.structured"] = "prune.structured"
    latency_ratio: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="time left of one run in ONNX Runtime on this machine (batch 1, one thread), as a share of before: "
        "widths are chosen by a measured table of every layer's time, and the network is timed after the cut",
    )
    macs_ratio: float | None = Field(None, gt=0, lt=1, description="MACs left, as a share of those before the step")
    parameters_ratio: float | None = Field(None, gt=0, lt=1, description="parameters left, as a share of before")
    importance: Literal["taylor", "fisher", "magnitude", "batch_norm", "random"] = Field(
        "taylor",
        description="which channels matter least: squared change of loss (first order), change of loss by the diagonal "
        "of the Fisher matrix (second order), weight norm, batch-norm scale, or chance, as a control",
    )
    rounds: int = Field(3, ge=1, le=50, description="prune a little, retrain, prune again")
    finetune: Training | None = Field(
        Training(epochs=1), description="training after each round; null cuts without retraining"
    )
    sparsity_training: SparsityTraining | None = Field(
        None, description="training before the first cut that makes whole channels small"
    )
    max_layer_ratio: float = Field(
        0.9, ge=0, lt=1, description="of each layer's channels at most this share is removed"
    )
    multiple_of: int = Field(
        1,
        ge=1,
        le=512,
        description="widths in multiples of this; runtimes work in blocks (8, 16). With latency_ratio 1 means 8",
    )
    blocks: bool = Field(
        False,
        description="also remove whole blocks of a residual network, where that wins more for the importance lost; "
        "with importance taylor or fisher",
    )
    sensitivity: bool = Field(
        False, description="also measure how much the loss rises when each layer alone gets narrower, for the report"
    )
    prune: list[Part] = Field(
        default=["channels", "neurons", "heads", "head_dim"],
        min_length=1,
        max_length=5,
        description="what may go: channels of convolutions, neurons of linear layers (a transformer's FFN), embeddings "
        "and recurrent layers (the hidden units of an LSTM or GRU, each with its peer of the other direction), whole "
        "attention heads, places in every head of a layer, and width: channels that a layer or group norm averages "
        "over, as a transformer's residual width; that norm then averages over those left",
    )
    layers: LayerSelector = Field(default_factory=LayerSelector, description="which layers may lose channels")

    @model_validator(mode="after")
    def _one_target(self) -> PruneStructured:
        if sum(ratio is not None for ratio in (self.latency_ratio, self.macs_ratio, self.parameters_ratio)) != 1:
            raise ValueError("give one of latency_ratio, macs_ratio and parameters_ratio")
        if self.blocks and self.importance not in {"taylor", "fisher"}:
            raise ValueError("blocks are weighed by the loss that they cost: importance has to be taylor or fisher")
        return self


def check(network: Network) -> Verdict:
    from compression.pruning.channels import map_channels

    channels = map_channels(network)
    frozen_by = channels.frozen_by
    frozen = [f"{name}: {reason}" for name, reason in frozen_by.items()]
    if not channels.producers:
        return Verdict(False, "the network has no convolution, linear or recurrent layer that can be followed")
    if not any(channels.prunable(name) for name in channels.producers):
        first = next(iter(frozen_by))
        return Verdict(False, f"no channel can be removed: {frozen_by[first]}", first, tuple(frozen))
    return Verdict(True, details=tuple(frozen))


def apply(network: Network, spec: PruneStructured, context: Context) -> StepResult:
    from compression.measure.cost import cost_of
    from compression.pruning.channels import map_channels
    from compression.pruning.limits import Limits, floors_of
    from compression.training.loop import train

    start = map_channels(network)
    selected = _selected(network, spec, start)
    floors = floors_of(start, spec.max_layer_ratio)
    parts = frozenset(spec.prune)
    limits = Limits(spec.importance, frozenset(selected), parts, floors, spec.multiple_of, spec.blocks)
    target, ratio = _target(network, spec, limits, context)
    # A target out of reach is refused now, not after all but the last round.
    target.check_reach(network, ratio)
    facts: dict[str, Any] = {"left_alone": {n: why for n, why in start.frozen_by.items() if n in selected}}
    if spec.sensitivity:
        facts["sensitivity"] = _sensitivity(network, limits, context)
    current = network
    if spec.sparsity_training is not None:
        current, facts["sparsity_training"] = _made_sparse(network, spec.sparsity_training, limits, context)
    rounds: list[dict[str, Any]] = []
    for number in range(1, spec.rounds + 1):
        source, so_far = current, rounds[-1] if rounds else {}
        share = ratio ** (number / spec.rounds)
        stage = f"round-{number}"
        current, done = context.checkpoints.stage(
            f"{stage}-cut{target.stage_suffix}",
            lambda: target.cut(source, share, so_far, last=number == spec.rounds),  # noqa: B023
        )
        if spec.finetune is not None:
            span = ((number - 1) / spec.rounds, number / spec.rounds)
            current, training = train(current, spec.finetune, context, stage=stage, field="/finetune", span=span)
            done = {**done, "training": training}
        rounds.append({"round": number, **done})
        context.progress(number / spec.rounds, f"round {number} of {spec.rounds}")
    end = map_channels(current)
    widths = {name: [len(ids), len(end.producers.get(name, ()))] for name, ids in start.producers.items()}
    for entry in facts.get("sensitivity", []):
        before, after = widths[entry["layers"][0]]
        entry["removed"] = round(1 - after / before, 5)
    macs = [cost_of(network).macs, cost_of(current).macs]
    return StepResult(current, {**facts, **target.facts(), "rounds": rounds, "widths": widths, "macs": macs})


def _target(network: Network, spec: PruneStructured, limits: Limits, context: Context) -> tuple[Target, float]:
    from compression.pruning.latency_target import TimeTarget
    from compression.pruning.targets import CountTarget

    if spec.latency_ratio is not None:
        return TimeTarget(network, limits, context), spec.latency_ratio
    if spec.macs_ratio is not None:
        return CountTarget(network, "macs", limits, context), spec.macs_ratio
    assert spec.parameters_ratio is not None  # noqa: S101 - the validator of the spec holds this
    return CountTarget(network, "parameters", limits, context), spec.parameters_ratio


def _sensitivity(network: Network, limits: Limits, context: Context) -> list[dict[str, Any]]:
    from compression.pruning.channels import map_channels
    from compression.pruning.width_sensitivity import scan_widths

    def scan() -> tuple[Network, dict[str, Any]]:
        channels = map_channels(network)
        scores = limits.scores(network, channels, context)
        return network, {"widths": scan_widths(network, channels, limits.widths(channels), scores, context)}

    found: list[dict[str, Any]] = context.checkpoints.stage("sensitivity", scan)[1]["widths"]
    return found


def _made_sparse(
    network: Network, spec: SparsityTraining, limits: Limits, context: Context
) -> tuple[Network, dict[str, Any]]:
    from functools import partial

    from compression.pruning.channels import map_channels
    from compression.pruning.group_sparsity import SparseGroups
    from compression.training.loop import train

    channels = map_channels(network)
    objective = partial(SparseGroups, channels=channels, widths=limits.widths(channels), strength=spec.strength)
    stage, field = "sparsity-training", "/sparsity_training"
    # The last weights, not the best on validation: these are the ones whose units became small.
    return train(network, spec, context, stage=stage, field=field, span=(0.0, 0.0), objective=objective, keep="last")


def _selected(network: Network, spec: PruneStructured, channels: ChannelMap) -> set[str]:
    selected = spec.layers.select({name: type(module).__name__ for name, module in network.layers().items()})
    if not selected & {name for name in channels.producers if channels.prunable(name)}:
        raise SpecError("none of the selected layers can lose channels", "/layers")
    own = [width for width in channels.widths() if set(width.names) <= selected]
    if not any(width.parts <= set(spec.prune) for width in own):
        found = sorted({part for width in own for part in width.parts})
        known = f"have {', '.join(found)} that may go" if found else "share theirs with layers that aren't selected"
        raise SpecError(f"the selected layers {known}; add to prune or layers", "/prune")
    return selected


def predict(cost: Cost, spec: PruneStructured) -> Cost:
    """The target is what the step stops at; the other figures are taken to fall alike, which is an estimate."""
    ratio = spec.macs_ratio or spec.parameters_ratio or spec.latency_ratio or 1.0
    return Cost(
        parameters=round(cost.parameters * ratio), macs=round(cost.macs * ratio), bytes=round(cost.bytes * ratio)
    )


def needs_data(spec: PruneStructured) -> bool:
    trains = spec.finetune is not None or spec.sparsity_training is not None
    return trains or spec.sensitivity or spec.importance in {"taylor", "fisher"}


METHOD = Method(spec=PruneStructured, check=check, apply=apply, predict=predict, needs_data=needs_data)
