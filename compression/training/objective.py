"""What one training run minimises: labels, a teacher's outputs, or both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, fx, nn

from compression.context import Context
from compression.data import Split
from compression.device import mixed_precision
from compression.errors import SpecError
from compression.network import as_tuple
from compression.training.evaluate import outputs_of
from compression.training.losses import LossKind, Match, match_for, training_loss
from compression.training.spec import Training


class Objective(Protocol):
    """`extra` is trained and saved beside the network and dropped afterwards; `reference`: the outputs by which a
    validation without labels is judged, as they are matched in training (`match`); `kind`: what it learns from, for the
    record."""

    extra: nn.Module
    reference: Tensor | None
    match: Match
    kind: LossKind

    def loss(self, chosen: Tensor, batch: Split) -> Tensor:
        """Of one step, in which the network is in training mode; `batch` are the samples `chosen` of its split."""
        ...


class FromOriginal:
    """Labels as the training spec says, and the original's outputs, computed once: nothing changes the samples."""

    def __init__(self, module: fx.GraphModule, spec: Training, context: Context) -> None:
        data = context.require_data("training")
        self.module, self.spec, self.task, self.device = module, spec, data.task, context.device
        self.extra: nn.Module = nn.Module()
        self.kind: LossKind = loss_kind(spec, data.task is not None)
        self.teacher: tuple[Tensor, ...] | None = None
        self.reference: Tensor | None = None
        self.match: Match = match_for(data.task)
        if self.kind == "labels":
            return
        original = context.original.module.to(context.device)
        self.teacher = outputs_of(original, data.train, context.device)
        if data.task is None:
            self.reference = outputs_of(original, data.validation, context.device)[-1]
        original.to("cpu")

    def loss(self, chosen: Tensor, batch: Split) -> Tensor:
        teacher = None if self.teacher is None else [value[chosen] for value in self.teacher]
        labels = batch.labels if self.kind != "teacher" else None
        return training_loss(
            outputs_in_training(self.module, batch, self.device), teacher, labels, self.task, self.spec
        )


def outputs_in_training(module: nn.Module, batch: Split, device: torch.device) -> Sequence[Tensor]:
    """Outputs in float32, computed in the device's training precision."""
    with mixed_precision(device):
        outputs = as_tuple(module(*batch.inputs.values()))
    return tuple(value.float() for value in outputs)


def loss_kind(spec: Training, labelled: bool) -> LossKind:
    """What `auto` means for this data; asking for labels that aren't there is an error."""
    if spec.loss == "auto":
        return "both" if labelled else "teacher"
    if spec.loss != "teacher" and not labelled:
        raise SpecError(f"the loss {spec.loss!r} needs labels, and the data has none", "/loss")
    return spec.loss
