"""`prune.structured`: whole channels and neurons go, so that parameters, MACs and time really fall."""

from __future__ import annotations

import math
from collections.abc import Iterable
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
    from compression.pruning.importance import Scores


class PruneStructured(StepSpec):
    """Structured pruning: remove the least important channels and neurons, in rounds of prune and retrain.

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
    layers: LayerSelector = Field(default_factory=LayerSelector, description="which layers may lose channels")

    @model_validator(mode="after")
    def _one_target(self) -> PruneStructured:
        if (self.macs_ratio is None) == (self.parameters_ratio is None):
            raise ValueError("give either macs_ratio or parameters_ratio")
        return self


def check(network: Network) -> Verdict:
    from compression.pruning.channels import map_channels

    channels = map_channels(network)
    frozen = [f"{name}: {channels.frozen_by[name]}" for name in channels.layers if name in channels.frozen_by]
    if not channels.layers:
        return Verdict(False, "the network has no convolution or linear layer that can be followed")
    if not any(channels.prunable(layer) for layer in channels.layers.values()):
        first = next(iter(channels.frozen_by))
        return Verdict(False, f"no channel can be removed: {channels.frozen_by[first]}", first, tuple(frozen))
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
    floors = {
        name: max(1, math.ceil(len(layer.outputs) * (1 - spec.max_layer_ratio))) for name, layer in start.layers.items()
    }
    before = getattr(cost_of(network), measure)

    def removable(current: Network, channels: ChannelMap, scores: Scores, target: float) -> list[int]:
        model = CostModel(channels, measure, elsewhere=0)
        model.elsewhere = int(getattr(cost_of(current), measure) - model.total())
        return choose(
            channels,
            scores,
            model,
            target,
            by_saving=spec.importance == "taylor",
            selected=selected,
            floors=floors,
            multiple_of=spec.multiple_of,
        )

    # A target out of reach is refused now, not after all but the last round.
    removable(network, start, np.zeros(len(start.classes)), before * ratio)

    def cut_once(current: Network, target: float) -> tuple[Network, dict[str, Any]]:
        channels = map_channels(current)
        scores = importance(current, channels, spec.importance, context, selected)
        removed = removable(current, channels, scores, target)
        record = {"step": "prune.structured", "importance": spec.importance, "removed": len(removed)}
        smaller = cut(current, channels, removed, reason=record)
        return smaller, {"removed": len(removed), measure: getattr(cost_of(smaller), measure)}

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
    widths = {name: [len(layer.outputs), _width(current, name)] for name, layer in start.layers.items()}
    return StepResult(current, {"rounds": rounds, "widths": widths, "left_alone": frozen})


def _selected(network: Network, spec: PruneStructured, channels: ChannelMap) -> set[str]:
    selected = spec.layers.select({name: type(module).__name__ for name, module in network.layers().items()})
    open_layers: Iterable[str] = (name for name, layer in channels.layers.items() if channels.prunable(layer))
    if not selected & set(open_layers):
        raise SpecError("none of the selected layers can lose channels", "/layers")
    return selected


def _width(network: Network, name: str) -> int:
    return int(dict(network.module.named_parameters())[f"{name}.weight"].shape[0])


def predict(cost: Cost, spec: PruneStructured) -> Cost:
    """The target is what the step stops at; the other figure is taken to fall alike, which is an estimate."""
    ratio = spec.macs_ratio or spec.parameters_ratio or 1.0
    return Cost(
        parameters=round(cost.parameters * ratio), macs=round(cost.macs * ratio), bytes=round(cost.bytes * ratio)
    )


def needs_data(spec: PruneStructured) -> bool:
    return spec.finetune is not None or spec.importance == "taylor"


METHOD = Method(spec=PruneStructured, check=check, apply=apply, predict=predict, needs_data=needs_data)
