"""`distill`: a student learns what its teachers say, not the label alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from compression.errors import SpecError
from compression.model_ids import ModelId
from compression.registry import Cost, Method, StepResult, StepSpec, Verdict
from compression.training.spec import Schedule

if TYPE_CHECKING:
    from compression.context import Context
    from compression.network import Network


class Teacher(BaseModel):
    """One teacher; of several, each with its weight."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    model: ModelId | None = Field(
        None, description="a model or an artifact, of any architecture and format; none: the uploaded model itself"
    )
    weight: float = Field(1.0, ge=0.001, le=1000, description="its share among several teachers")


class Student(BaseModel):
    """Who learns."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["current", "architecture", "model", "auto"] = Field(
        "current",
        description="current: the network as the steps before left it; architecture: a named one, drawn anew; model: "
        "another model, with the weights that it has; auto: a narrower copy of the first teacher, drawn anew",
    )
    architecture: str | None = Field(None, max_length=50, description="with architecture: its name, e.g. resnet20")
    arguments: dict[str, Any] = Field(
        default_factory=dict, max_length=20, description="with architecture: its arguments, e.g. channels"
    )
    model: ModelId | None = Field(None, description="with model: the id of the model or artifact")
    macs_ratio: float | None = Field(
        None, gt=0, lt=1, description="with auto: MACs of the copy, as a share of the teacher's"
    )

    @model_validator(mode="after")
    def _fields_go_with_the_kind(self) -> Student:
        for kind, name in (("architecture", "architecture"), ("model", "model"), ("auto", "macs_ratio")):
            if (getattr(self, name) is not None) != (self.kind == kind):
                raise ValueError(
                    f"{name} goes with the kind {kind}" + ("" if self.kind != kind else ", which needs it")
                )
        if self.arguments and self.kind != "architecture":
            raise ValueError("arguments go with the kind architecture")
        if self.architecture is not None:
            from compression.zoo.catalog import parse

            try:
                parse(self.architecture, self.arguments)
            except SpecError as error:
                raise ValueError(f"{error.where}: {error.message}") from error
        return self


class Distill(StepSpec):
    """Distillation: the network or a new student learns the outputs of one teacher or several (Hinton et al. 2015)."""

    method: Literal["distill"] = "distill"
    teachers: list[Teacher] = Field(
        default=[Teacher()], min_length=1, max_length=16, description="the uploaded model, others, or several together"
    )
    combine: Literal["probabilities", "logits"] = Field(
        "probabilities", description="of several teachers: the mean of their softened probabilities, or of their logits"
    )
    student: Student = Field(default_factory=Student)
    temperature: Annotated[float, Field(gt=0, le=100)] | Literal["auto"] = Field(
        2.0,
        description="of the softened probabilities; auto: 2, 4 or 8, and alpha 0.5 or 0.9, by validation. A higher one "
        "wants a smaller learning rate and more epochs",
    )
    alpha: float = Field(
        0.5, ge=0, le=1, description="the teacher's share of the loss, where labels count too; auto replaces it"
    )
    hard_labels: bool = Field(True, description="labels count too, where there are any")
    loss: Literal["auto", "softmax", "sigmoid", "mse", "cosine"] = Field(
        "auto",
        description="how outputs are matched. auto: softmax (KL) for classes, sigmoid for multi-label, else the mean "
        "squared error; say softmax where unlabelled data is for a classifier",
    )
    hints: float = Field(
        0.0, ge=0, le=1000, description="weight of inner layers matched with the teacher's (FitNets); 0: none"
    )
    noise: float = Field(
        0.0,
        ge=0,
        le=10,
        description="added to the inputs, in units of their standard deviation; the teacher sees it too",
    )
    mixup: float = Field(
        0.0, ge=0, le=10, description="α of mixup; 0: none. Mixed samples have no label: the teacher alone counts"
    )
    shift: int = Field(
        0,
        ge=0,
        le=64,
        description="pixels that images are moved by at most, in any direction, anew in each step; the teacher sees it "
        "too. For few samples, where a class survives being moved",
    )
    exclude_classes: list[int | Annotated[str, Field(max_length=200)]] = Field(
        default=[], max_length=1000, description="classes (index or name) that the student never sees"
    )
    bias_correction: Literal["auto", "labels", "teacher", "none"] = Field(
        "auto",
        description="of excluded classes: by labelled validation samples, or by the teacher's mean probabilities on "
        "unfiltered ones; auto: labels where there are any",
    )
    control: bool = Field(
        False, description="also train the same student on hard labels alone, as long, and report the gap closed"
    )
    training: Schedule = Field(default_factory=lambda: Schedule(epochs=5))

    @model_validator(mode="after")
    def _mixed_samples_have_no_label(self) -> Distill:
        if self.mixup and self.hard_labels:
            raise ValueError("mixed samples have no label: with mixup, hard_labels is false")
        return self


def check(network: Network) -> Verdict:
    if not any(parameter.is_floating_point() for parameter in network.module.parameters()):
        return Verdict(False, "the network has no parameter to train")
    return Verdict(True)


def apply(network: Network, spec: Distill, context: Context) -> StepResult:
    from compression.distillation.course import distilled

    return distilled(network, spec, context)


def predict(cost: Cost, spec: Distill) -> Cost:
    """A named architecture's and another model's figures aren't known here: they are left as they were."""
    ratio = spec.student.macs_ratio or 1.0
    return Cost(round(cost.parameters * ratio), round(cost.macs * ratio), round(cost.bytes * ratio))


METHOD = Method(spec=Distill, check=check, apply=apply, predict=predict, needs_data=lambda _: True)
