"""Losses and validation metrics. All outputs of a network count alike: exits trained together are several outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation uses
from torch import Tensor

from compression.training.spec import Training

Task = Literal["classification", "multilabel", "regression"]
LossKind = Literal["labels", "teacher", "both"]
Match = Literal["softmax", "sigmoid", "mse", "cosine"]


def label_loss(output: Tensor, labels: Tensor, task: Task) -> Tensor:
    """Cross-entropy of logits (N × C) with class indices (N); of each logit's sigmoid with its own label, 0 or 1
    (multi-label, mean over N × C); or mean squared error with targets of the same shape."""
    if task == "classification":
        return F.cross_entropy(output, labels)
    if task == "multilabel":
        return F.binary_cross_entropy_with_logits(output, labels.to(output.dtype))
    return F.mse_loss(output.reshape(labels.shape), labels)


def soft_label_loss(output: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL(teacher ‖ student) of probabilities softened by T, times T² so that gradients keep their size as T varies
    (Hinton et al. 2015, section 2). Logits N × C, in nats, mean over N."""
    student = F.log_softmax(output / temperature, dim=-1)
    target = F.log_softmax(teacher / temperature, dim=-1)
    return F.kl_div(student, target, reduction="batchmean", log_target=True) * temperature**2


def soft_sigmoid_loss(output: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """The same for sigmoid outputs: each logit z is a softmax over its own two classes (z, 0). Mean over N × C."""
    student, target = output / temperature, teacher / temperature
    yes = F.logsigmoid(target).exp() * (F.logsigmoid(target) - F.logsigmoid(student))
    no = F.logsigmoid(-target).exp() * (F.logsigmoid(-target) - F.logsigmoid(-student))
    return (yes + no).mean() * temperature**2


def cosine_loss(output: Tensor, teacher: Tensor) -> Tensor:
    """1 − cosine similarity of each sample's outputs, mean over N; blind to their length."""
    return 1 - F.cosine_similarity(output.flatten(1), teacher.flatten(1), dim=1).mean()


def teacher_loss(output: Tensor, teacher: Tensor, match: Match, temperature: float) -> Tensor:
    """One output against the teacher's; the temperature counts for softmax and sigmoid alone."""
    if match == "softmax":
        return soft_label_loss(output, teacher, temperature)
    if match == "sigmoid":
        return soft_sigmoid_loss(output, teacher, temperature)
    return cosine_loss(output, teacher) if match == "cosine" else F.mse_loss(output, teacher)


def match_for(task: Task | None) -> Match:
    """Without a task of logits the teacher's outputs are matched by mean squared error: nothing says that they are
    logits, and for logits this is the high-temperature limit of the soft labels."""
    if task == "classification":
        return "softmax"
    return "sigmoid" if task == "multilabel" else "mse"


def training_loss(
    outputs: Sequence[Tensor],
    teacher: Sequence[Tensor] | None,
    labels: Tensor | None,
    task: Task | None,
    spec: Training,
    match: Match | None = None,
) -> Tensor:
    """The loss of one batch, averaged over outputs: labels, teacher, or (1 − α) labels + α teacher.

    `match`: how the teacher's outputs are met; none: as the task says (`match_for`).
    """
    losses = []
    for index, output in enumerate(outputs):
        from_labels = label_loss(output, labels, task) if labels is not None and task is not None else None
        from_teacher = None
        if teacher is not None:
            from_teacher = teacher_loss(output, teacher[index], match or match_for(task), spec.temperature)
        if from_labels is not None and from_teacher is not None:
            losses.append((1 - spec.alpha) * from_labels + spec.alpha * from_teacher)
        else:
            only = from_labels if from_labels is not None else from_teacher
            if only is None:
                raise ValueError("a loss needs labels or a teacher")
            losses.append(only)
    return sum(losses[1:], losses[0]) / len(losses)
