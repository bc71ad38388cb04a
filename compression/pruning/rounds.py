"""When weights go: in rounds with training after each, at once, or while one training runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from compression.network import Network
from compression.pruning.gradual import Gradual
from compression.pruning.masks import Aim
from compression.pruning.schedules import geometric
from compression.pruning.weights import masked, masked_shares
from compression.training.loop import train

if TYPE_CHECKING:
    from compression.context import Context
    from compression.methods.prune.weights import PruneWeights

ROUNDS_SHARE = 0.5
"""Of the step's progress, where it is pruned at once for comparison, too."""


def in_rounds(
    network: Network, names: Sequence[str], aim: Aim, spec: PruneWeights, context: Context
) -> tuple[Network, dict[str, Any]]:
    """Masks in rounds of equal factors and trains after each; one round is pruning at once."""
    count = 1 if spec.schedule == "one-shot" else spec.rounds
    share = ROUNDS_SHARE if spec.compare else 1.0
    first, current = masked_shares(network, names), network
    rounds: list[dict[str, Any]] = []
    for number in range(1, count + 1):
        wanted, source = aim.at(geometric(number / count), first), current

        def mask_once() -> tuple[Network, dict[str, Any]]:
            pruned = masked(source, names, wanted)  # noqa: B023
            return pruned, {"sparsity": masked_shares(pruned, names)[""]}

        stage = f"round-{number}"
        current, facts = context.checkpoints.stage(f"{stage}-mask", mask_once)
        if spec.finetune is not None:
            span = (share * (number - 1) / count, share * number / count)
            current, training = train(current, spec.finetune, context, stage=stage, field="/finetune", span=span)
            facts = {**facts, "training": training}
        rounds.append({"round": number, **facts})
        context.progress(share * number / count, f"round {number} of {count}")
    return current, {"rounds": rounds}


def gradually(
    network: Network, names: Sequence[str], aim: Aim, spec: PruneWeights, context: Context
) -> tuple[Network, dict[str, Any]]:
    """Masks every few steps of one training run."""
    assert spec.finetune is not None  # noqa: S101 - the validator of the spec holds this
    tightening = Gradual(tuple(names), aim, spec.every, masked_shares(network, names))
    current, training = train(
        network, spec.finetune, context, stage="gradual", field="/finetune", tightening=tightening
    )
    return current, {"sparsity": masked_shares(current, names)[""], "training": training}


def at_once(
    network: Network, names: Sequence[str], aim: Aim, spec: PruneWeights, context: Context
) -> list[dict[str, Any]]:
    """The control of rounds: for each round the network that the step was given, masked at once as far as that round
    had come, and trained in one run for as many epochs as the rounds so far."""
    assert spec.finetune is not None  # noqa: S101 - the validator of the spec holds this
    first, found = masked_shares(network, names), []
    done, whole = 0, spec.rounds * (spec.rounds + 1) / 2
    for number in range(1, spec.rounds + 1):
        pruned = masked(network, names, aim.at(geometric(number / spec.rounds), first))
        training = spec.finetune.model_copy(update={"epochs": spec.finetune.epochs * number})
        done += number
        ends = [ROUNDS_SHARE + (1 - ROUNDS_SHARE) * part / whole for part in (done - number, done)]
        stage = f"at-once-{number}"
        _, facts = train(pruned, training, context, stage=stage, field="/finetune", span=(ends[0], ends[1]))
        best = next(entry for entry in facts["history"] if entry["epoch"] == facts["best_epoch"])
        metrics = {name: value for name, value in best.items() if name not in {"epoch", "score"}}
        zeros = masked_shares(pruned, names)[""]
        found.append({"round": number, "sparsity": zeros, "epochs": training.epochs, **metrics})
    return found
