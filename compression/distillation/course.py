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

from compression.distillation import bias, findings
from compression.distillation.cache import Answers
from compression.distillation.lesson import Distilling, Lesson, pairs_for
from compression.distillation.student import adopted, narrower
from compression.distillation.teachers import Teacher, check_fits
from compression.distillation.transfer import class_indices, without
from compression.errors import MethodError, SpecError
from compression.measure.cost import cost_of
from compression.network import Network
from compression.registry import StepResult
from compression.training.evaluate import metrics_of, outputs_of
from compression.training.loop import MakeObjective, train
from compression.training.losses import Match, match_for
from compression.training.spec import Training
from compression.zoo.catalog import zoo_network

if TYPE_CHECKING:
    from compression.context import Context
    from compression.data import Dataset, Split
    from compression.methods.distill import Distill, Student

TEMPERATURES = (2.0, 4.0, 8.0)
ALPHAS = (0.5, 0.9)
TUNING_SHARE = 1 / 3
"""Of the epochs: each pair of T and α is tried so long."""


@dataclass
class Course:
    """One step on its way. `context` has the transfer set for data; `data` is the whole."""

    spec: Distill
    context: Context
    data: Dataset
    lesson: Lesson
    student: Network
    excluded: list[int]
    given: Callable[[], Answers | None]
    objective: MakeObjective

    @property
    def labelled(self) -> bool:
        return self.data.task is not None

    def training(self, temperature: float, alpha: float, share: float = 1.0) -> Training:
        schedule = self.spec.training.model_dump() | {"epochs": self.spec.training.epochs * share}
        loss = "both" if self.labelled and self.spec.hard_labels else "teacher"
        return Training(**schedule, loss=loss, temperature=temperature, alpha=alpha)

    def outputs(self, network: Network, split: Split) -> Tensor:
        """The last output, on the CPU."""
        module = network.module.to(self.context.device)
        found = outputs_of(module, split, self.context.device)[-1].cpu()
        module.to("cpu")
        return found


def distilled(network: Network, spec: Distill, context: Context) -> StepResult:
    """The trained student, and facts. Raises SpecError at the field at fault, MethodError."""
    data = context.require_data("distill")
    teachers = _teachers(spec, context)
    student = _student(network, teachers[0], spec, context)
    for index, teacher in enumerate(teachers):
        try:
            check_fits(teacher, student)
        except MethodError as error:
            raise SpecError(f"{error.where} can't teach here: {error.message}", f"/teachers/{index}") from error
    with tempfile.TemporaryDirectory(prefix="niwaki-teachers-") as folder:
        lesson = Lesson(teachers, Path(folder), _match(spec, data), spec.combine, spec.hints, spec.noise, spec.mixup)
        return _taught(_course(network, student, lesson, data, spec, context))


def _teachers(spec: Distill, context: Context) -> tuple[Teacher, ...]:
    total = sum(entry.weight for entry in spec.teachers)
    return tuple(
        Teacher(
            entry.model or "the uploaded model",
            context.model(entry.model) if entry.model else context.original,
            entry.weight / total,
        )
        for entry in spec.teachers
    )


def _student(network: Network, first: Teacher, spec: Distill, context: Context) -> Network:
    try:
        student = _named_student(first, spec.student, context)
        return network if student is None else adopted(student, network)
    except MethodError as error:
        raise SpecError(error.message, "/student") from error


def _named_student(first: Teacher, wanted: Student, context: Context) -> Network | None:
    """None: the network as it stands."""
    if wanted.architecture is not None:
        return zoo_network(wanted.architecture, wanted.arguments, context.seed)
    if wanted.model is not None:
        model = context.model(wanted.model)
        if not isinstance(model, Network):
            raise MethodError(f"it can't be trained: {model.stopped_by.why}", model.stopped_by.node)
        return model
    if wanted.macs_ratio is not None:
        if not isinstance(first.model, Network):
            raise MethodError("the first teacher is opaque: it can't be copied", "macs_ratio")
        return narrower(first.model, wanted.macs_ratio, context.seed)
    return None


def _match(spec: Distill, data: Dataset) -> Match:
    match = match_for(data.task) if spec.loss == "auto" else spec.loss
    if match not in {"softmax", "sigmoid"} and spec.temperature == "auto":
        raise SpecError(f"outputs matched by {match} have no temperature", "/temperature")
    return match


def _course(
    network: Network, student: Network, lesson: Lesson, data: Dataset, spec: Distill, context: Context
) -> Course:
    if spec.control and data.task is None:
        raise SpecError("the control is trained on labels, and the data has none", "/control")
    excluded, seen = _transfer(network, lesson, data, spec, context)
    context = replace(context, data=seen)
    pairs = pairs_for(lesson, student)

    @cache
    def given() -> Answers | None:
        return None if lesson.alters else lesson.answers(seen.train, context.device, "transfer")

    def objective(module: fx.GraphModule, training: Training, inner: Context) -> Distilling:
        return Distilling(module, training, inner, lesson, pairs, given())

    return Course(spec, context, data, lesson, student, excluded, given, objective)


def _transfer(
    network: Network, lesson: Lesson, data: Dataset, spec: Distill, context: Context
) -> tuple[list[int], Dataset]:
    """The excluded classes, and the data without them."""
    if not spec.exclude_classes:
        return [], data
    if lesson.match != "softmax":
        raise SpecError("only classes can be excluded: the loss here isn't softmax", "/exclude_classes")
    with torch.no_grad():
        shape = network.module(*network.example(2))
    count = (shape[-1] if isinstance(shape, tuple | list) else shape).shape[1]
    excluded = class_indices(spec.exclude_classes, data.classes, count)
    return excluded, without(
        data, excluded, _classes(lesson, data.train, context), _classes(lesson, data.validation, context)
    )


def _classes(lesson: Lesson, split: Split, context: Context) -> Tensor:
    """Of each sample: its label, or else what the teachers take it for."""
    return split.labels if split.labels is not None else lesson.taught(split, context.device, 1.0, 1)[-1].argmax(1)


def _taught(course: Course) -> StepResult:
    spec, context = course.spec, course.context
    shares = [TUNING_SHARE] * _trials(course) + [1.0] + [1.0] * spec.control
    spans = [(sum(shares[:i]) / sum(shares), sum(shares[: i + 1]) / sum(shares)) for i in range(len(shares))]
    temperature, alpha, tuning = _chosen(course, spans)
    training = course.training(temperature, alpha)
    span = spans[_trials(course)]
    trained, facts = train(course.student, training, context, stage="student", span=span, objective=course.objective)
    control = None
    if spec.control:
        plain = training.model_copy(update={"loss": "labels"})
        control, _ = train(course.student, plain, context, stage="control", span=spans[-1])
    trained, corrected = _corrected(course, trained)
    record = {
        "step": "distill",
        "teachers": [teacher.name for teacher in course.lesson.teachers],
        "student": spec.student.kind,
        "temperature": temperature,
        "alpha": alpha,
    }
    found = {
        **_described(course, temperature, alpha, tuning, facts),
        **_judged(course, trained, control, temperature),
        **corrected,
    }
    return StepResult(trained.replaced(provenance=(*trained.provenance, record)), found)


def _trials(course: Course) -> int:
    if course.spec.temperature != "auto":
        return 0
    return len(TEMPERATURES) * (len(ALPHAS) if course.labelled and course.spec.hard_labels else 1)


def _chosen(course: Course, spans: list[tuple[float, float]]) -> tuple[float, float, list[dict[str, Any]]]:
    """T and α: those of the spec, or those whose short run is best on validation."""
    spec = course.spec
    if spec.temperature != "auto":
        return spec.temperature, spec.alpha, []
    alphas = ALPHAS if course.labelled and spec.hard_labels else (spec.alpha,)
    grid = [(temperature, alpha) for temperature in TEMPERATURES for alpha in alphas]
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
    cost = cost_of(course.student)
    seen = course.context.require_data("distill").train
    described: dict[str, Any] = {
        "judged_on": "the validation split",
        "student": {"kind": course.spec.student.kind, "parameters": cost.parameters, "macs": cost.macs},
        "transfer_samples": len(seen),
        "match": course.lesson.match,
        "alpha": alpha if facts["loss"] == "both" else 1.0,
        "training": facts,
    }
    if course.lesson.match in {"softmax", "sigmoid"}:
        described["temperature"] = temperature
    if tuning:
        described["tuning"] = tuning
    pairs = pairs_for(course.lesson, course.student)
    if pairs:
        described["hints"] = [{"student": pair.student, "teacher": pair.teacher} for pair in pairs]
    return described


def _judged(course: Course, trained: Network, control: Network | None, temperature: float) -> dict[str, Any]:
    """Student, control and teacher on the validation split."""
    data, lesson = course.data, course.lesson
    split, device = data.validation, course.context.device
    teacher, soft = (lesson.taught(split, device, t, 1)[-1] for t in (1.0, temperature))
    networks = {"student": trained} | ({} if control is None else {"control": control})
    outputs = {"teacher": teacher} | {name: course.outputs(entry, split) for name, entry in networks.items()}
    judged = {name: metrics_of(value, split.labels, data.task, teacher) for name, value in outputs.items()}
    found: dict[str, Any] = {
        name: {key: value for key, value in entry.items() if key != "score"} for name, entry in judged.items()
    }
    if "control" in judged:
        found["gap_closed"] = findings.gap_closed(
            *(judged[name]["score"] for name in ("student", "control", "teacher"))
        )
    if lesson.match != "softmax" or teacher.dim() != 2:
        return found
    for name, value in outputs.items():
        found[name]["agreement"] = findings.agreement(value, teacher)
        if data.task == "classification" and split.labels is not None:
            found[name]["calibration_error"] = findings.calibration_error(value, split.labels)
    classes = _classes(lesson, split, course.context)
    found["learned"] = findings.learned((teacher, soft), outputs["student"], classes, temperature, data.classes)
    return found


def _corrected(course: Course, trained: Network) -> tuple[Network, dict[str, Any]]:
    """The student with the biases of classes that it never saw put right, and recalls before and after."""
    spec, data = course.spec, course.data
    if not course.excluded:
        return trained, {}
    split, labels = data.validation, data.validation.labels
    by = ("labels" if labels is not None else "teacher") if spec.bias_correction == "auto" else spec.bias_correction
    if by == "labels" and labels is None:
        raise SpecError("the data has no labels: correct by the teacher", "/bias_correction")
    teacher = course.lesson.taught(split, course.context.device, 1.0, 1)[-1]
    classes = _classes(course.lesson, split, course.context)
    before = course.outputs(trained, split)
    after = before
    if by != "none":
        added = (
            bias.by_labels(before, classes, course.excluded)
            if by == "labels"
            else bias.by_prior(before, teacher, course.excluded)
        )
        trained = bias.with_added_bias(trained, added, len(trained.signature.outputs) - 1)
        after = course.outputs(trained, split)
    names = data.classes or [str(index) for index in range(before.shape[1])]
    rows = [
        {
            "class": names[index],
            "added": float((after - before).double().mean(0)[index]),
            "recall_before": findings.recall(before, classes, index),
            "recall_after": findings.recall(after, classes, index),
            "recall_teacher": findings.recall(teacher, classes, index),
        }
        for index in course.excluded
    ]
    how = {"labels": "labelled validation samples", "teacher": "the teacher's mean probabilities on validation inputs"}
    seen = "labels" if labels is not None else "the teacher's top-1"
    return trained, {"never_seen": rows, "bias_corrected_by": how.get(by, "nothing"), "recall_of": seen}
