"""Who teaches: networks and opaque models alike, and how several become one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation uses
from torch import Tensor

from compression.data import Split
from compression.distillation.student import input_order
from compression.errors import MethodError
from compression.network import Network, as_tuple
from compression.opaque import SECONDS, OpaqueOnnx
from compression.training.losses import Match

Combination = Literal["probabilities", "logits"]
BATCH = 256


@dataclass(frozen=True)
class Teacher:
    """`weight`: its share; those of all teachers sum to one."""

    name: str
    model: Network | OpaqueOnnx
    weight: float


class Runner:
    """A teacher at work: outputs of a batch of inputs, given in the order of the data's inputs (`names`)."""

    def __init__(self, teacher: Teacher, names: Sequence[str], device: torch.device) -> None:
        self.device = device
        self.model = teacher.model
        model = teacher.model
        wanted = [entry.name for entry in (model.signature.inputs if isinstance(model, Network) else model.inputs)]
        if len(wanted) != len(names):
            raise MethodError(f"it has {len(wanted)} inputs, the job's model has {len(names)}", teacher.name)
        self.order = input_order(wanted, names)
        if isinstance(self.model, Network):
            self.module = self.model.copy().module.to(device).eval()
        else:
            from compression.intake.onnx.runtime import open_reference

            self.session = open_reference(self.model.path)

    def __call__(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        ordered = [inputs[place] for place in self.order]
        with torch.no_grad():
            if isinstance(self.model, Network):
                return tuple(value.float() for value in as_tuple(self.module(*ordered)))
            return tuple(value.to(self.device) for value in self._run_opaque(self.model, ordered))

    def on(self, split: Split, start: int) -> tuple[Tensor, ...]:
        """Outputs of the samples from `start` on, at most `BATCH`."""
        return self([value.to(self.device) for value in split.tensors(start, start + BATCH)])

    def _run_opaque(self, model: OpaqueOnnx, inputs: Sequence[Tensor]) -> list[Tensor]:
        """A file whose batch axis is fixed is run piece by piece; the last piece is filled up with its own samples."""
        from compression.intake.onnx.runtime import ORT_ERRORS, run_bounded

        count = len(inputs[0])
        first = next((entry.shape[0] for entry in model.inputs if entry.shape), None) or count
        pieces: list[list[Tensor]] = []
        for start in range(0, count, first):
            rows = torch.arange(start, start + first).remainder(count)
            feed = {
                entry.name: value[rows.to(value.device)].cpu().numpy()
                for entry, value in zip(model.inputs, inputs, strict=True)
            }
            try:
                found = run_bounded(self.session, feed, SECONDS)
            except ORT_ERRORS as error:
                raise MethodError(f"the teacher fails on this data: {str(error)[:300]}", model.path.name) from error
            pieces.append([torch.from_numpy(value)[: count - start].float() for value in found])
        return [torch.cat(parts) for parts in zip(*pieces, strict=True)]


def check_fits(teacher: Teacher, student: Network) -> None:
    """MethodError (`where` = the teacher): it doesn't run on the student's inputs, or its outputs have other shapes."""
    example = student.example(2)
    names = [entry.name for entry in student.signature.inputs]
    try:
        found = Runner(teacher, names, torch.device("cpu"))(example)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise MethodError(f"it doesn't run on the job's inputs: {str(error)[:300]}", teacher.name) from error
    with torch.no_grad():
        outputs = as_tuple(student.module(*example))
    if len(found) not in {1, len(outputs)}:
        raise MethodError(f"it has {len(found)} outputs, the student has {len(outputs)}", teacher.name)
    for value, output in zip(as_many(found, len(outputs)), outputs, strict=True):
        if value.shape != output.shape:
            shapes = f"outputs of {list(value.shape[1:])}, the student's are {list(output.shape[1:])}"
            raise MethodError(f"it has {shapes}", teacher.name)


def as_many(outputs: Sequence[Tensor], count: int) -> Sequence[Tensor]:
    """A teacher with one output teaches each of the student's."""
    return list(outputs) * count if len(outputs) == 1 else outputs


def combine(outputs: Sequence[Tensor], weights: Sequence[float], how: Combination, match: Match, t: float) -> Tensor:
    """Several teachers' outputs as one teacher's logits (or values): their softmax at temperature `t` is the weighted
    mean of the teachers' softened probabilities, or they are the weighted mean of the logits themselves.

    Hinton et al. 2015, section 1, average either way (arithmetic or geometric mean of the distributions).
    """
    if len(outputs) == 1:
        return outputs[0]
    if how == "logits" or match in {"mse", "cosine"}:
        return torch.stack([weight * value for weight, value in zip(weights, outputs, strict=True)]).sum(0)
    shares = torch.tensor([math.log(weight) for weight in weights], dtype=outputs[0].dtype, device=outputs[0].device)
    shares = shares.reshape(-1, *[1] * outputs[0].dim())
    soft = torch.stack([value / t for value in outputs])
    if match == "softmax":
        return t * torch.logsumexp(F.log_softmax(soft, -1) + shares, 0)
    yes = torch.logsumexp(F.logsigmoid(soft) + shares, 0)
    return t * (yes - torch.logsumexp(F.logsigmoid(-soft) + shares, 0))


def outputs_on(runner: Runner, split: Split) -> tuple[Tensor, ...]:
    """Every output over a whole split, on the CPU."""
    collected = [[value.cpu() for value in runner.on(split, start)] for start in range(0, len(split), BATCH)]
    return tuple(torch.cat(parts) for parts in zip(*collected, strict=True))
