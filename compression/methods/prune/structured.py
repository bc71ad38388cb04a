"""`prune.structured`: whole channels, neurons and heads go, so that parameters, MACs and time really fall."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from compression.errors import SpecError
from compression.registry import Cost, Method, StepResult, StepSpec, Verdict
from compression.selector import LayerSelector
from compression.training.spec import Training

if TYPE_CHECKING:
    from compression.context import Context
    from compression.network import Network
    from compression.pruning.channel_map import ChannelMap, Width
    from compression.pruning.importance import Scores

Part = Literal["channels", "neurons", "heads", "head_dim", "width"]


class PruneStructured(StepSpec):
    """Structured pruning: remove the least important channels, neurons and heads, in rounds of prune and retrain.

    Give one target: `macs_ratio` or `parameters_ratio`, what is left of the network that the step was given.
    """

    method: Literal["prune.structured"] = "prune.structured"
    macs_ratio: float | None = Field(None, gt=0, lt=1, description="MACs left, as a share of those before the step")
    parameters_ratio: float | None = Field(None, gt=0, lt=1, description="parameters left, as a share of before")
    importance: Literal["taylor", "magnitude", "batch_norm"] = Field(
        "taylor", description="which channels matter least: loss change, weight norm, or batch-norm scale"
    )
    rounds: int = Field(3, ge=1, le=50, description="prune a little, retrain, prune again")
    finetune: Training | None = Field(
        Training(epochs=1), description="training after each round; null cuts without retraining"
    )
    max_layer_ratio: float = Field(
        0.9, ge=0, lt=1, description="of each layer's channels at most this share is removed"
    )
    multiple_of: int = Field(
        1, ge=1, le=512, description="widths in multiples of this; runtimes work in blocks (8, 16)"
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
        if (self.macs_ratio is None) == (self.parameters_ratio is None):
            raise ValueError("give either macs_ratio or parameters_ratio")
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
    import numpy as np

    from compression.measure.cost import cost_of
    from compression.pruning.channels import map_channels
    from compression.pruning.cut import cut
    from compression.pruning.importance import importance
    from compression.pruning.plan import CostModel, choose
    from compression.training.loop import train

    measure: Literal["macs", "parameters"] = "macs" if spec.macs_ratio is not None else "parameters"
    ratio = spec.macs_ratio if spec.macs_ratio is not None else spec.parameters_ratio
    assert ratio is not None  # noqa: S101 - the validator of the spec holds this
    start = map_channels(network)
    selected = _selected(network, spec, start)
    floors = {name: max(1, math.ceil(len(ids) * (1 - spec.max_layer_ratio))) for name, ids in start.producers.items()}
    before = getattr(cost_of(network), measure)

    def removable(current: Network, channels: ChannelMap, scores: Scores, target: float) -> list[int]:
        model = CostModel(current, channels, measure)
        model.elsewhere = int(getattr(cost_of(current), measure) - model.total())
        return choose(
            channels,
            scores,
            model,
            target,
            by_saving=spec.importance == "taylor",
            widths=_widths(channels, spec, selected),
            floors=floors,
            multiple_of=spec.multiple_of,
        )

    # A target out of reach is refused now, not after all but the last round.
    removable(network, start, np.zeros(len(start.units)), before * ratio)

    def cut_once(current: Network, target: float) -> tuple[Network, dict[str, Any]]:
        channels = map_channels(current)
        scores = importance(current, channels, spec.importance, context, selected)
        removed = removable(current, channels, scores, target)
        record = {"step": "prune.structured", "importance": spec.importance, "removed": len(removed)}
        smaller = cut(current, channels, removed, reason=record)
        facts = {"removed": len(removed), "parts": _parts(channels, removed)}
        return smaller, {**facts, measure: getattr(cost_of(smaller), measure)}

    rounds: list[dict[str, Any]] = []
    current = network
    for number in range(1, spec.rounds + 1):
        target = before * ratio ** (number / spec.rounds)
        stage = f"round-{number}"
        source = current
        current, facts = context.checkpoints.stage(f"{stage}-cut", lambda: cut_once(source, target))  # noqa: B023
        if spec.finetune is not None:
            span = ((number - 1) / spec.rounds, number / spec.rounds)
            current, training = train(current, spec.finetune, context, stage=stage, field="/finetune", span=span)
            facts = {**facts, "training": training}
        rounds.append({"round": number, **facts})
        context.progress(number / spec.rounds, f"round {number} of {spec.rounds}")
    frozen = {name: reason for name, reason in start.frozen_by.items() if name in selected}
    end = map_channels(current)
    widths = {name: [len(ids), len(end.producers[name])] for name, ids in start.producers.items()}
    return StepResult(current, {"rounds": rounds, "widths": widths, "left_alone": frozen})


def _selected(network: Network, spec: PruneStructured, channels: ChannelMap) -> set[str]:
    selected = spec.layers.select({name: type(module).__name__ for name, module in network.layers().items()})
    if not selected & {name for name in channels.producers if channels.prunable(name)}:
        raise SpecError("none of the selected layers can lose channels", "/layers")
    if not _widths(channels, spec, selected):
        found = sorted({part for width in channels.widths() if set(width.names) <= selected for part in width.parts})
        known = f"have {', '.join(found)} that may go" if found else "share theirs with layers that aren't selected"
        raise SpecError(f"the selected layers {known}; add to prune or layers", "/prune")
    return selected


def _widths(channels: ChannelMap, spec: PruneStructured, selected: set[str]) -> list[Width]:
    """Those that may shrink: all of a width's layers are selected, and all that it is may go."""
    return [width for width in channels.widths() if set(width.names) <= selected and width.parts <= set(spec.prune)]


def _parts(channels: ChannelMap, removed: list[int]) -> dict[str, int]:
    """How many of each part were removed; what is several (a head's place that a norm averages over) counts as each."""
    gone = set(removed)
    counts: Counter[str] = Counter()
    for width in channels.widths():
        counts.update(dict.fromkeys(width.parts, len(gone & set(width.units.tolist()))))
    return {part: count for part, count in sorted(counts.items()) if count}


def predict(cost: Cost, spec: PruneStructured) -> Cost:
    """The target is what the step stops at; the other figure is taken to fall alike, which is an estimate."""
    ratio = spec.macs_ratio or spec.parameters_ratio or 1.0
    return Cost(
        parameters=round(cost.parameters * ratio), macs=round(cost.macs * ratio), bytes=round(cost.bytes * ratio)
    )


def needs_data(spec: PruneStructured) -> bool:
    return spec.finetune is not None or spec.importance == "taylor"


METHOD = Method(spec=PruneStructured, check=check, apply=apply, predict=predict, needs_data=needs_data)
