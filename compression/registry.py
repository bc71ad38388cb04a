"""What a compression method is, and how its file is found.

A method is one file below `compression/methods/`, named as the method (`prune/structured.py` → `prune.structured`),
that binds `METHOD`. There is no central list: every file there is a method, and one that binds none is an error.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, Literal

from pydantic import BaseModel, ConfigDict
from typing_extensions import TypeVar

import compression.methods
from compression.errors import SpecError

if TYPE_CHECKING:
    from compression.context import Context
    from compression.integer import IntegerOnnx
    from compression.network import Network

State = Literal["float", "encoded", "integer", "coded"]
"""Of a network between steps: as trained; restricted by encodings (training honours them); run in integer arithmetic,
as one `.onnx` file, or ready to be delivered: after both nothing may follow."""
Form = Literal["lifted", "opaque"]
"""A `Network`, or a model that only runs in ONNX Runtime (`OpaqueOnnx`)."""


class StepSpec(BaseModel):
    """A step of a job: a frozen model with a literal `method` field; every field bounded and described."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    method: str


@dataclass(frozen=True)
class Verdict:
    """Whether a method can run on a network; if not, what stands in the way and where."""

    applicable: bool
    reason: str = ""
    where: str = ""
    details: tuple[str, ...] = ()  # parts that stay as they are, named, though the method runs

    def as_dict(self) -> dict[str, Any]:
        return {
            "applicable": self.applicable,
            "reason": self.reason,
            "where": self.where,
            "details": list(self.details),
        }


@dataclass(frozen=True)
class Cost:
    """What a network costs: parameters, MACs at batch 1, bytes of its parameters as they are stored."""

    parameters: int
    macs: int
    bytes: int


Left = TypeVar("Left", bound="Network | IntegerOnnx", default="Network", covariant=True)


@dataclass(frozen=True)
class StepResult(Generic[Left]):
    """A method's outcome: the new network, or the file that runs in integers, and facts for the step's record (JSON
    values)."""

    network: Left
    facts: dict[str, Any]


@dataclass(frozen=True)
class Method:
    """One compression method.

    `accepts` and `leaves` are network states: a chain of steps is valid when each step accepts what the one before left
    (`leaves=None`: unchanged). `predict(cost, spec)` estimates the cost after the step, for a dry run;
    `needs_data(spec)` says whether the step, so configured, can't do without a dataset. `forms` are those it takes;
    `check` and `apply` are given no other.
    """

    spec: type[StepSpec]
    check: Callable[[Any], Verdict]
    apply: Callable[[Any, Any, Context], StepResult[Any]]
    predict: Callable[[Cost, Any], Cost]
    needs_data: Callable[[Any], bool]
    accepts: frozenset[State] = frozenset({"float", "encoded"})
    leaves: State | None = None
    keeps_variants: bool = True
    forms: frozenset[Form] = frozenset({"lifted"})

    @property
    def name(self) -> str:
        return str(self.spec.model_fields["method"].default)

    @property
    def summary(self) -> str:
        return (self.spec.__doc__ or "").strip().splitlines()[0]


@cache
def methods() -> dict[str, Method]:
    """Every method by name, sorted; imports the method files, which import neither torch nor numpy."""
    found: dict[str, Method] = {}
    package = compression.methods
    for info in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if info.ispkg:
            continue
        module = importlib.import_module(info.name)
        method: Method = module.METHOD
        if method.name != info.name.removeprefix(package.__name__ + "."):
            raise TypeError(f"{info.name} holds the method {method.name!r}: name the file as the method")
        found[method.name] = method
    return dict(sorted(found.items()))


def validate_chain(names: list[str], state: State = "float") -> State:
    """The state that a chain of steps leaves, or a SpecError at the first step that can't follow."""
    for index, name in enumerate(names):
        method = methods()[name]
        if state not in method.accepts:
            wanted = " or ".join(sorted(method.accepts))
            raise SpecError(
                f"{name} takes a network that is {wanted}, but here it is {state}; move the step or leave it out",
                f"/steps/{index}/method",
            )
        state = method.leaves or state
    return state
