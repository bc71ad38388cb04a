"""The one training loop of all engines: labels, teacher or both; encodings honoured at every step; best weights chosen
on validation; resumable at any step, with the same outcome as an undisturbed run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from compression.context import Context
from compression.encodings import Learned
from compression.errors import SpecError
from compression.network import Network
from compression.training.objective import FromOriginal
from compression.training.progress import ruined
from compression.training.run import Course, Diverged, Keep, MakeObjective, Run
from compression.training.spec import Training
from compression.training.tightening import Tightening

__all__ = ["Keep", "MakeObjective", "train"]


def train(
    network: Network,
    spec: Training,
    context: Context,
    *,
    stage: str,
    field: str = "/training",
    span: tuple[float, float] = (0.0, 1.0),
    objective: MakeObjective = FromOriginal,
    keep: Keep = "best",
    learned: Mapping[str, Learned] = MappingProxyType({}),
    tightening: Tightening | None = None,
) -> tuple[Network, dict[str, Any]]:
    """A trained copy of `network`, and facts: the history by epoch and the epoch kept (0 = the weights it came with).

    `stage` names its checkpoints, unique within the step; `field` is where `spec` stands in the step's own;
    `span` is the part of the step's progress that this is; `objective` makes what is minimised. `learned`: by name,
    parameters that come to have another encoding, which is trained along.

    A run that ruins the network, or diverges, is repeated from its start with a tenth of the learning rate,
    `spec.second_chances` times at most; `given_up` in the facts are the rates that were too high, with their histories.
    What training can bear differs by orders of magnitude: gradients grow with the outputs' unit, and with every
    batch norm that an exporter folded into its convolution. With `tightening` weights are masked meanwhile; the
    best ones are then of the epochs after that, and the network returned has the masks.
    """
    course = Course(spec, stage, span, objective, keep, learned, tightening)

    def attempt(number: int) -> tuple[Network, dict[str, Any]]:
        name = f"{stage}-slower-{number}" if number else stage
        slower = spec.model_copy(update={"learning_rate": spec.learning_rate / 10**number})
        try:
            trained = context.checkpoints.stage(
                name, lambda: Run(network, replace(course, spec=slower, stage=name), context).run()
            )
        except SpecError as error:
            raise SpecError(error.message, f"{field}{error.where}") from error
        except Diverged:
            context.checkpoints.drop(f"{name}-running")
            raise
        context.checkpoints.drop(f"{name}-running")
        return trained

    given_up: list[dict[str, Any]] = []
    judged = keep == "best" and tightening is None  # where weights go meanwhile, the start is no measure of the end
    samples = len(context.require_data(stage).validation)
    while True:
        chances = spec.second_chances - len(given_up)
        try:
            trained, facts = attempt(len(given_up))
        except Diverged as error:
            if not chances:
                raise
            history = error.history
        else:
            if not (chances and judged and ruined(facts["history"], samples)):
                break
            history = facts["history"]
        rate = spec.learning_rate / 10 ** len(given_up)
        given_up.append({"learning_rate": rate, "history": history})
        context.progress(span[0], f"{stage}: a learning rate of {rate:g} ruins it; a tenth now")
    if given_up:
        facts = {**facts, "learning_rate": spec.learning_rate / 10 ** len(given_up), "given_up": given_up}
    return trained, facts
