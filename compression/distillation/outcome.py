"""What came of a course, on the validation split: figures of student, control and teachers; biases put right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from compression.distillation import bias, findings
from compression.errors import SpecError
from compression.network import Network
from compression.training.evaluate import metrics_of

if TYPE_CHECKING:
    from compression.data import Dataset
    from compression.distillation.course import Course
    from compression.methods.distill import Distill

CORRECTED_BY = {
    "labels": "labelled validation samples",
    "teacher": "the teacher's mean probabilities on validation inputs",
    "none": "nothing",
}
HELD_OUT = (
    "recall_after is of the samples that the bias was chosen on; recall_held_out is of samples that didn't take part "
    "(five folds of the validation split)"
)


def judged(course: Course, trained: Network, control: Network | None, temperature: float) -> dict[str, Any]:
    """Student and control, as they are in the end, and teacher on the validation split."""
    data, lesson, split = course.data, course.lesson, course.data.validation
    teacher = course.teacher()
    networks = {"student": trained} | ({} if control is None else {"control": control})
    outputs = {"teacher": teacher} | {name: course.outputs(entry, split) for name, entry in networks.items()}
    scores = {
        name: metrics_of(value, split.labels, data.task, teacher, lesson.match) for name, value in outputs.items()
    }
    found: dict[str, Any] = {name: _shown(entry) for name, entry in scores.items()}
    if "control" in scores:
        found["gap_closed"] = findings.gap_closed(
            *(scores[name]["score"] for name in ("student", "control", "teacher"))
        )
    if len(lesson.teachers) > 1:
        found["teachers"] = [
            {"model": entry.name, "weight": entry.weight}
            | _shown(metrics_of(answers[-1], split.labels, data.task, teacher, lesson.match))
            for entry, answers in zip(lesson.teachers, course.heard, strict=True)
        ]
    if lesson.match != "softmax" or teacher.dim() != 2:
        return found
    for name, value in outputs.items():
        found[name]["agreement"] = findings.agreement(value, teacher)
        if data.task == "classification" and split.labels is not None:
            found[name]["calibration_error"] = findings.calibration_error(value, split.labels)
    both = (teacher, course.teacher(temperature))
    found["learned"] = findings.learned(both, outputs["student"], course.classes, temperature, data.classes)
    return found


def _shown(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name != "score"}


def correction(spec: Distill, data: Dataset) -> Literal["labels", "teacher", "none"]:
    """By what the biases are put right. SpecError: labels are asked for, and there are none."""
    if spec.bias_correction == "auto":
        return "labels" if data.task == "classification" else "teacher"
    if spec.bias_correction == "labels" and data.task != "classification":
        raise SpecError("the data has no class labels: correct by the teacher", "/bias_correction")
    return spec.bias_correction


def corrected(course: Course, trained: Network) -> tuple[Network, dict[str, Any]]:
    """The student with the biases of classes that it never saw put right, and recalls before and after: of the student
    as it is in the end, and cross-fitted, since the validation split chose the biases."""
    spec, data = course.spec, course.data
    if not course.excluded:
        return trained, {}
    by = correction(spec, data)
    teacher, classes = course.teacher(), course.classes
    before = course.outputs(trained, data.validation)
    after = held_out = before
    if by != "none":
        choose, known = (bias.by_labels, classes) if by == "labels" else (bias.by_prior, teacher)

        def fit(logits: Tensor, of_samples: Tensor) -> Tensor:
            return choose(logits, of_samples, course.excluded)

        trained = bias.with_added_bias(trained, fit(before, known), len(trained.signature.outputs) - 1)
        after, held_out = course.outputs(trained, data.validation), bias.cross_fitted(before, known, fit)
    names = data.classes or [str(index) for index in range(before.shape[1])]
    rows = [
        {
            "class": names[index],
            "added": float((after - before).double().mean(0)[index]),
            "recall_before": findings.recall(before, classes, index),
            "recall_after": findings.recall(after, classes, index),
            "recall_held_out": findings.recall(held_out, classes, index),
            "recall_teacher": findings.recall(teacher, classes, index),
        }
        for index in course.excluded
    ]
    told: dict[str, Any] = {
        "never_seen": rows,
        "bias_corrected_by": CORRECTED_BY[by],
        "recall_of": "labels" if data.task == "classification" else "the teacher's top-1",
    }
    if by != "none":
        told["recall_held_out"] = HELD_OUT
    return trained, told
