"""How the teachers take part in training: what they say of a batch, what is asked of it, and what hints are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, fx, nn

from compression.context import Context
from compression.data import Split
from compression.distillation.alteration import Alteration
from compression.distillation.cache import MAX_BYTES, Answers, cached
from compression.distillation.hints import Pair, Regressors, match, tapped
from compression.distillation.teachers import Combination, Runner, Teacher, as_many, combine, outputs_on
from compression.errors import SpecError
from compression.network import Network, as_tuple
from compression.training.losses import LossKind, Match, training_loss
from compression.training.objective import loss_kind, outputs_in_training
from compression.training.spec import Training


@dataclass(frozen=True)
class Lesson:
    """`hints`: the weight of the hints' loss, between these `pairs`; `folder`: scratch for the teachers' outputs."""

    teachers: tuple[Teacher, ...]
    folder: Path
    match: Match = "softmax"
    combination: Combination = "probabilities"
    hints: float = 0.0
    pairs: Sequence[Pair] = ()
    alteration: Alteration = field(default_factory=Alteration)
    max_bytes: int = MAX_BYTES

    def runners(self, split: Split, device: torch.device) -> list[Runner]:
        return [Runner(teacher, list(split.inputs), device) for teacher in self.teachers]

    def combined(self, answers: Sequence[Sequence[Tensor]], temperature: float, count: int) -> list[Tensor]:
        """The teachers' answers as one teacher's, for each of `count` outputs of the student."""
        weights = [teacher.weight for teacher in self.teachers]
        each = [as_many(outputs, count) for outputs in answers]
        return [combine(parts, weights, self.combination, self.match, temperature) for parts in zip(*each, strict=True)]

    def answers(self, split: Split, device: torch.device) -> Answers | None:
        """What every teacher says of the transfer set, kept in files; None if it is too much to keep, or changes."""
        return None if self.alteration else cached(self.runners(split, device), split, self.folder, self.max_bytes)

    def heard(self, split: Split, device: torch.device) -> Answers:
        """What every teacher says of a split that fits into memory, on the CPU. SpecError: it isn't finite."""
        found = [outputs_on(runner, split) for runner in self.runners(split, device)]
        for index, outputs in enumerate(found):
            if not all(bool(torch.isfinite(value).all()) for value in outputs):
                name = self.teachers[index].name
                raise SpecError(f"{name} can't teach here: it gives NaN or infinite values", f"/teachers/{index}")
        return found


class Distilling:
    """One run's objective (`compression.training.objective.Objective`): what the teachers say, with labels or without;
    or for the control labels alone, of the same samples, altered alike."""

    def __init__(
        self,
        module: fx.GraphModule,
        spec: Training,
        context: Context,
        lesson: Lesson,
        given: Answers | None,
        judge: Answers,
    ) -> None:
        """`given`: the teachers' answers on the transfer set, none: they are asked in each step; `judge`: those on the
        validation split, by which a student without labels is judged."""
        data = context.require_data("distill")
        self.module, self.spec, self.lesson, self.context = module, spec, lesson, context
        self.match: Match = lesson.match
        self.task = data.task
        self.kind: LossKind = loss_kind(spec, data.task is not None)
        taught = self.kind != "labels"
        pairs = lesson.pairs if taught else ()
        self.extra: nn.Module = Regressors(pairs, context.seed) if pairs else nn.Module()
        self.runner = tapped(module, [pair.student for pair in pairs]) if pairs else module
        self.guide = _guide(lesson, pairs, list(data.train.inputs), context.device) if pairs else None
        self.given = given
        self.runners = lesson.runners(data.train, context.device) if given is None and taught else []
        self.reference: Tensor | None = None
        self.outputs = _outputs(module)
        if data.task is None:
            # At T = 1, so that trials at several temperatures are judged alike.
            self.reference = lesson.combined(judge, 1.0, self.outputs)[-1].to(context.device)

    def loss(self, chosen: Tensor, batch: Split) -> Tensor:
        device = self.context.device
        batch = self.lesson.alteration(batch, mixed=self.kind != "labels")
        if self.kind == "labels":
            return training_loss(
                outputs_in_training(self.module, batch, device), None, batch.labels, self.task, self.spec
            )
        inputs = list(batch.inputs.values())
        if self.given is not None:
            places = chosen.cpu()
            answers = [[value[places].to(device) for value in outputs] for outputs in self.given]
        else:
            answers = [list(runner(inputs)) for runner in self.runners]
        teacher = self.lesson.combined(answers, self.spec.temperature, self.outputs)
        found = outputs_in_training(self.runner, batch, device)
        labels = batch.labels if self.kind == "both" else None
        heads, features = found[: self.outputs], found[self.outputs :]
        loss = training_loss(heads, teacher, labels, self.task, self.spec, self.lesson.match)
        if self.guide is None or not isinstance(self.extra, Regressors):
            return loss
        return loss + self.lesson.hints * self.extra.loss(features, self.guide(inputs))


class _Guide:
    """The features of the teacher that gives hints, for a batch of inputs."""

    def __init__(self, runner: Runner, nodes: Sequence[str]) -> None:
        self.runner, self.outputs = runner, _outputs(runner.module)
        runner.module = tapped(runner.module, nodes).eval()

    def __call__(self, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        return self.runner(inputs)[self.outputs :]


def _outputs(module: fx.GraphModule) -> int:
    return len(as_tuple(module.graph.output_node().args[0]))


def _guide(lesson: Lesson, pairs: Sequence[Pair], names: Sequence[str], device: torch.device) -> _Guide:
    return _Guide(Runner(guide_of(lesson.teachers), names, device), [pair.teacher for pair in pairs])


def guide_of(teachers: Sequence[Teacher]) -> Teacher:
    """The first that can be looked into. SpecError: none can."""
    for teacher in teachers:
        if isinstance(teacher.model, Network):
            return teacher
    raise SpecError("no teacher can be looked into for hints: all are opaque", "/hints")


def pairs_for(teachers: Sequence[Teacher], student: Network) -> list[Pair]:
    guide = guide_of(teachers).model
    assert isinstance(guide, Network)  # noqa: S101 - what guide_of looks for
    return match(student, guide)
