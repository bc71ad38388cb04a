"""What is known of a value while a graph is imported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor, dtype, fx

from compression.errors import IntakeError

LARGEST_VALUE = 2**28
"""Elements of one value at the larger of the tried batches: 1 GB of float32."""

Argument: TypeAlias = Any  # a Value, a Length, a number, a list or tuple of such


class CannotLift(Exception):
    """The operator is none that is lifted, or not in this form. `why` is for people."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True)
class Length:
    """A whole number that may depend on the batch: its value at each tried batch."""

    at: tuple[int, ...]


@dataclass(frozen=True)
class Value:
    """A tensor: `trials` holds it once per tried batch, as a meta tensor where `node` computes it, with its numbers
    where it is known (`node` is None). `name` is the stored tensor it is, "" for what was computed."""

    trials: tuple[Tensor, ...]
    node: fx.Node | None = None
    name: str = ""

    @property
    def known(self) -> bool:
        return self.node is None

    @property
    def constant(self) -> bool:
        """Whether it is known and doesn't depend on the batch."""
        return self.node is None and all(trial is self.trials[0] for trial in self.trials)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(trial.shape) for trial in self.trials)

    @property
    def shape(self) -> tuple[int, ...]:
        """At the first tried batch."""
        return tuple(self.trials[0].shape)

    @property
    def rank(self) -> int:
        return self.trials[0].dim()

    @property
    def dtype(self) -> dtype:
        return self.trials[0].dtype

    def length(self, axis: int) -> Length:
        return Length(tuple(trial.shape[axis] for trial in self.trials))

    def number(self) -> float | int | bool:
        """The one number of a constant. CannotLift: it isn't one."""
        if not self.constant or self.trials[0].numel() != 1:
            raise CannotLift("a number that is computed from the input")
        number: float | int | bool = self.trials[0].item()
        return number


def bound_elements(part: Tensor) -> None:
    """IntakeError (model-unsafe): the tensor would be too large."""
    if part.numel() > LARGEST_VALUE:
        raise IntakeError(f"a value of {part.numel()} elements: too large", kind="model-unsafe")


def values_in(entries: Sequence[Argument]) -> list[Value]:
    """The values among a call's arguments, those in lists too."""
    found: list[Value] = []
    for entry in entries:
        if isinstance(entry, Value):
            found.append(entry)
        elif isinstance(entry, list | tuple):
            found += values_in(entry)
    return found


def varies(entries: Sequence[Argument]) -> bool:
    """Whether a length that depends on the batch is among the arguments."""
    return any(
        len(set(entry.at)) > 1 if isinstance(entry, Length) else isinstance(entry, list | tuple) and varies(entry)
        for entry in entries
    )
