"""Teachers and student, as a spec names them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compression.distillation.student import adopted, narrower
from compression.distillation.teachers import Teacher
from compression.errors import MethodError, SpecError
from compression.network import Network
from compression.zoo.catalog import zoo_network

if TYPE_CHECKING:
    from compression.context import Context
    from compression.methods.distill import Distill, Student


def teachers_of(spec: Distill, context: Context) -> tuple[Teacher, ...]:
    total = sum(entry.weight for entry in spec.teachers)
    return tuple(
        Teacher(
            entry.model or "the uploaded model",
            context.model(entry.model) if entry.model else context.original,
            entry.weight / total,
        )
        for entry in spec.teachers
    )


def student_of(network: Network, first: Teacher, spec: Distill, context: Context) -> Network:
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
