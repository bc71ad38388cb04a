"""A distillation from its spec: teachers and student are found, the student is trained, and what came of it is told.

Everything is decided and judged on the validation split; the test split isn't read.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx

from compression.distillation import bias
from compression.distillation.alteration import alteration_for
from compression.distillation.cache import Answers
from compression.distillation.lesson import Distilling, Lesson, pairs_for
from compression.distillation.outcome import corrected, correction, judged
from compression.distillation.parties import student_of, teachers_of
from compression.distillation.teachers import check_fits
from compression.distillation.transfer import class_indices, classes_of, without
from compression.errors import MethodError, SpecError
from compression.network import Network
from compression.registry import StepResult
from compression.training.evaluate import outputs_of
from compression.training.loop import MakeObjective, train
from compression.training.losses import Match, match_for
from compression.training.spec import Training

if TYPE_CHECKING:
    from compression.context import Context
    from compression.data import Dataset, Split
    from compression.methods.distill import Distill

TEMPERATURES = (2.0, 4.0, 8.0)
ALPHAS = (0.5, 0.9)
TUNING_SHARE = 1 / 3
"""Of the epochs: each pair of T and α is tried so long."""


@dataclass
class Course:
    """One step on its way. `context` has the transfer set for data; `data` is the whole, and `heard` what the teachers
    say of its validation split."""

    spec: Distill
    context: Context
    data: Dataset
    lesson: Lesson
    student: Network
    excluded: list[int]
    objective: MakeObjective
    heard: Answers

    @property
    def labelled(self) -> bool:
        return self.data.task is not None

    def training(self, temperature: float, alpha: float, share: float = 1.0) -> Training:
        schedule = self.spec.training.model_dump() | {"epochs": self.spec.training.epochs * share}
        loss = "both" if self.labelled and self.spec.hard_labels else "teacher"
        return Training(**schedule, loss=loss, temperature=temperature, alpha=alpha)

    def teacher(self, temperature: float = 1.0) -> Tensor:
        """The last output of all teachers as one, on the validation split."""
        return self.lesson.combined(self.heard, temperature, len(self.student.signature.outputs))[-1]

    @property
    def classes(self) -> Tensor:
        """Of the validation samples: their labels, or else what the teachers take them for."""
        return classes_of(self.data, self.data.validation, self.teacher)

    def outputs(self, network: Network, split: Split) -> Tensor:
        """The last output, on the CPU."""
        module = network.module.to(self.context.device)
        found = outputs_of(module, split, self.context.device)[-1].cpu()
        module.to("cpu")
        return found


def distilled(network: Network, spec: Distill, context: Context) -> StepResult:
    """The trained student, and facts. Raises SpecError at the field at fault, MethodError."""
    data = context.require_data("distill")
    teachers = teachers_of(spec, context)
    student = student_of(network, teachers[0], spec, context)
    for index, teacher in enumerate(teachers):
        try:
            check_fits(teacher, student)
        except MethodError as error:
            raise SpecError(f"{error.where} can't teach here: {error.message}", f"/teachers/{index}") from error
    with tempfile.TemporaryDirectory(prefix="niwaki-teachers-") as folder:
        lesson = Lesson(
            teachers,
            Path(folder),
            _match(spec, data),
            spec.combine,
            spec.hints,
            pairs_for(teachers, student) if spec.hints else (),
            alteration_for(data, spec.shift, spec.noise, spec.mixup),
        )
        return _taught(_course(student, lesson, data, spec, context))


def _match(spec: Distill, data: Dataset) -> Match:
    match = match_for(data.task) if spec.loss == "auto" else spec.loss
    if match not in {"softmax", "sigmoid"} and spec.temperature == "auto":
        raise SpecError(f"outputs matched by {match} have no temperature", "/temperature")
    return match


def _course(student: Network, lesson: Lesson, data: Dataset, spec: Distill, context: Context) -> Course:
    if spec.control and data.task is None:
        raise SpecError("the control is trained on labels, and the data has none", "/control")
    heard = lesson.heard(data.validation, context.device)
    excluded, seen = _transfer(student, lesson, heard, spec, context)
    context = replace(context, data=seen)
    judge = lesson.heard(seen.validation, context.device) if excluded and data.task is None else heard

    @cache
    def given() -> Answers | None:
        return lesson.answers(seen.train, context.device)

    def objective(module: fx.GraphModule, training: Training, inner: Context) -> Distilling:
        return Distilling(module, training, inner, lesson, given(), judge)

    return Course(spec, context, data, lesson, student, excluded, objective, heard)


def _transfer(
    student: Network, lesson: Lesson, heard: Answers, spec: Distill, context: Context
) -> tuple[list[int], Dataset]:
    """The excluded classes, and the data without them."""
    data = context.require_data("distill")
    if not spec.exclude_classes:
        return [], data
    if lesson.match != "softmax" or heard[0][-1].dim() != 2:
        raise SpecError(
            "only classes can be excluded: of one output a sample and class, matched by softmax", "/exclude_classes"
        )

    def classes(split: Split, answers: Callable[[], Answers]) -> Tensor:
        outputs = len(student.signature.outputs)
        return classes_of(data, split, lambda: lesson.combined(answers(), 1.0, outputs)[-1])

    excluded = class_indices(spec.exclude_classes, data.classes, heard[0][-1].shape[1])
    if correction(spec, data) != "none":  # whether it can be done is known now, not after the training
        try:
            bias.with_added_bias(student, torch.zeros(heard[0][-1].shape[1]), len(student.signature.outputs) - 1)
        except MethodError as error:
            raise SpecError(f"{error.message}; with none it is left as it is", "/bias_correction") from error
    train_classes = classes(data.train, lambda: lesson.heard(data.train, context.device))
    return excluded, without(data, excluded, train_classes, classes(data.validation, lambda: heard))


def _taught(course: Course) -> StepResult:
    spec, context = course.spec, course.context
    grid = _grid(course)
    shares = [TUNING_SHARE] * len(grid) + [1.0] + [1.0] * spec.control
    spans = [(sum(shares[:i]) / sum(shares), sum(shares[: i + 1]) / sum(shares)) for i in range(len(shares))]
    temperature, alpha, tuning = _chosen(course, grid, spans)
    training = course.training(temperature, alpha)
    span = spans[len(grid)]
    trained, facts = train(course.student, training, context, stage="student", span=span, objective=course.objective)
    control = None
    if spec.control:
        plain = training.model_copy(update={"loss": "labels"})
        control, _ = train(course.student, plain, context, stage="control", span=spans[-1], objective=course.objective)
        control, _ = corrected(course, control)
    trained, put_right = corrected(course, trained)
    record = {
        "step": "distill",
        "teachers": [teacher.name for teacher in course.lesson.teachers],
        "student": spec.student.kind,
        "temperature": temperature,
        "alpha": alpha,
    }
    found = {
        **_described(course, temperature, alpha, tuning, facts),
        **judged(course, trained, control, temperature),
        **put_right,
    }
    return StepResult(trained.replaced(provenance=(*trained.provenance, record)), found)


def _grid(course: Course) -> list[tuple[float, float]]:
    """The T and α to be tried."""
    if course.spec.temperature != "auto":
        return []
    alphas = ALPHAS if course.labelled and course.spec.hard_labels else (course.spec.alpha,)
    return [(temperature, alpha) for temperature in TEMPERATURES for alpha in alphas]


def _chosen(
    course: Course, grid: list[tuple[float, float]], spans: list[tuple[float, float]]
) -> tuple[float, float, list[dict[str, Any]]]:
    """T and α: those of the spec, or those of the grid whose short run is best on validation."""
    if course.spec.temperature != "auto":
        return course.spec.temperature, course.spec.alpha, []
    trials = []
    for index, (temperature, alpha) in enumerate(grid):
        _, facts = train(
            course.student,
            course.training(temperature, alpha, TUNING_SHARE),
            course.context,
            stage=f"trial-{index}",
            span=spans[index],
            objective=course.objective,
        )
        best = next(entry for entry in facts["history"] if entry["epoch"] == facts["best_epoch"])
        trials.append({"temperature": temperature, "alpha": alpha, **{k: v for k, v in best.items() if k != "epoch"}})
    best = max(trials, key=lambda trial: (trial["score"], -trial.get("loss", 0.0)))
    shown = [{name: value for name, value in trial.items() if name != "score"} for trial in trials]
    return best["temperature"], best["alpha"], shown


def _described(
    course: Course, temperature: float, alpha: float, tuning: list[dict[str, Any]], facts: dict[str, Any]
) -> dict[str, Any]:
    seen = course.context.require_data("distill").train
    described: dict[str, Any] = {
        "judged_on": "the validation split",
        "transfer_samples": len(seen),
        "match": course.lesson.match,
        "alpha": alpha if facts["loss"] == "both" else 1.0,
        "training": facts,
    }
    if course.lesson.match in {"softmax", "sigmoid"}:
        described["temperature"] = temperature
    if tuning:
        described["tuning"] = tuning
    if course.lesson.pairs:
        described["hints"] = [{"student": pair.student, "teacher": pair.teacher} for pair in course.lesson.pairs]
    return described
