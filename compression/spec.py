"""The job spec: what a user asks for. Pydantic only: the API imports this, and no tensor library comes with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from compression.errors import SpecError
from compression.registry import StepSpec, methods, validate_chain

Export = Literal["onnx", "pt2", "safetensors", "nwk"]
READABLE = tuple(f".{export}" for export in get_args(Export))
"""What a job delivers, by its suffix, that can be another job's model."""
Name = Annotated[str, Field(min_length=1, max_length=200)]
Tag = Annotated[str, Field(min_length=1, max_length=50, pattern=r"^[\w.:-]+$")]

if TYPE_CHECKING:
    AnyStep = StepSpec
else:
    AnyStep = Annotated[Union[tuple(m.spec for m in methods().values())], Field(discriminator="method")]  # noqa: UP007


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Resize(Strict):
    """Images brought to the network's height × width, as Pillow resizes: an area filter where they get smaller."""

    size: list[Annotated[int, Field(ge=1, le=4096)]] | None = Field(
        None, min_length=2, max_length=2, description="[height, width]; none: the network's own, which it must equal"
    )
    method: Literal["bilinear", "bicubic", "nearest"] = Field("bilinear", description="interpolation")
    crop: Literal["none", "center"] = Field(
        "none", description="none: height and width are stretched; center: the short side fits, the middle is kept"
    )
    crop_fraction: float = Field(
        1.0,
        ge=0.1,
        le=1,
        allow_inf_nan=False,
        description="with crop: the share of the resized short side that is kept; 0.875 resizes to 256 and keeps 224",
    )

    @model_validator(mode="after")
    def _fraction_is_of_a_crop(self) -> Resize:
        if self.crop == "none" and self.crop_fraction != 1:
            raise ValueError("crop_fraction goes with crop: center")
        return self


class Preprocess(Strict):
    """Declared preprocessing of one input, in this order: the stored layout is undone, images are resized, then
    value × scale, − mean, ÷ std; at last the axes are put as the network has them."""

    layout: Literal["as-is", "NCHW", "NHWC"] = Field(
        "as-is", description="of stored arrays with four axes; as-is: the network's own. Image files have none"
    )
    resize: Resize | None = Field(None, description="of images; none: they must have the network's size")
    scale: float = Field(
        1.0, gt=0, le=1e6, allow_inf_nan=False, description="factor on the stored values, e.g. 1/255 for bytes"
    )
    mean: list[Annotated[float, Field(allow_inf_nan=False)]] = Field(
        [0.0], min_length=1, max_length=4096, description="subtracted after scaling; per channel, or one for all"
    )
    std: list[Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        [1.0], min_length=1, max_length=4096, description="divides at last; per channel, or one for all"
    )


class DataSpec(Strict):
    """How the data file is read: preprocessing by input name, the task, and the splits made where the file has none."""

    preprocess: dict[str, Preprocess] = Field(
        default_factory=dict, max_length=16, description="by the network's input names"
    )
    task: Literal["auto", "classification", "multilabel", "regression"] = Field(
        "auto",
        description="what labels are; auto: a vector of integers is class indices, a table of 0 and 1 is multi-label, "
        "floats are targets of a regression",
    )
    validation_fraction: float = Field(
        0.1, gt=0, lt=0.5, description="of the training samples, where the file has none"
    )
    test_fraction: float = Field(0.1, gt=0, lt=0.5, description="of all samples, where the file has no test split")
    split_seed: int = Field(
        0, ge=0, lt=2**31, description="of the splits made; keep it, or one job trains on what another is tested on"
    )


class JobSpec(Strict):
    """A compression job: steps applied in order to one network, and the files wanted at the end."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "mdl_…",
                    "dataset": "dst_…",
                    "seed": 0,
                    "steps": [
                        {"method": "prune.structured", "macs_ratio": 0.33, "rounds": 3, "finetune": {"epochs": 1}},
                        {"method": "finetune", "training": {"epochs": 2}},
                    ],
                    "exports": ["onnx", "pt2"],
                }
            ]
        }
    )

    model: str | None = Field(None, max_length=64, description="id of a model or of an artifact (in the service)")
    dataset: str | None = Field(None, max_length=64, description="id of a dataset (in the service)")
    name: Name | None = None
    tags: list[Tag] = Field(default_factory=list, max_length=20)
    seed: int = Field(0, ge=0, lt=2**31, description="of shuffling, dropout and every other draw but the splits")
    device: Literal["auto", "cpu", "gpu"] = Field("auto", description="which kind of worker may run the job")
    data: DataSpec = Field(default_factory=DataSpec)
    steps: list[AnyStep] = Field(min_length=1, max_length=32)
    exports: list[Export] = Field(default=["onnx", "pt2", "safetensors"], min_length=1, max_length=4)

    @model_validator(mode="before")
    @classmethod
    def _integers_travel_as_onnx(cls, value: Any) -> Any:
        """Where the chain leaves integer arithmetic and nothing is said of exports: the one format that holds it."""
        if not isinstance(value, dict) or "exports" in value or not isinstance(value.get("steps"), list):
            return value
        integer = {name for name, method in methods().items() if method.leaves == "integer"}
        named = (step.get("method") for step in value["steps"] if isinstance(step, dict))
        found = any(isinstance(name, str) and name in integer for name in named)
        return {**value, "exports": ["onnx"]} if found else value

    @model_validator(mode="after")
    def _chain_is_valid(self) -> JobSpec:
        left = validate_chain([step.method for step in self.steps])
        if left == "integer":
            for index, export in enumerate(self.exports):
                if export != "onnx":
                    raise SpecError(
                        f"a network that runs in integer arithmetic is one .onnx file: leave out {export}",
                        f"/exports/{index}",
                    )
        if len(set(self.exports)) != len(self.exports):
            raise SpecError("an export is named twice", "/exports")
        return self


def require_data(spec: JobSpec) -> None:
    """For a job without a dataset: a SpecError at the first step that needs one."""
    for index, step in enumerate(spec.steps):
        if methods()[step.method].needs_data(step):
            raise SpecError(f"{step.method} needs data here: give a dataset", f"/steps/{index}")


def parse_job(value: Any) -> JobSpec:
    """A JobSpec from parsed JSON, or SpecError with the JSON pointer of the first field at fault."""
    try:
        return JobSpec.model_validate(value)
    except ValidationError as error:
        first = field_errors(error)[0]
        raise SpecError(first["message"], first["pointer"]) from error


def field_errors(error: ValidationError) -> list[dict[str, str]]:
    """Each fault of a validation error as {"pointer", "message"}; the union's tag is left out of the pointer."""
    return [
        {"pointer": "".join(f"/{_escaped(part)}" for part in _without_tag(entry["loc"])), "message": entry["msg"]}
        for entry in error.errors(include_url=False, include_context=False)
    ]


def _without_tag(location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """("steps", 0, "finetune", "training") → ("steps", 0, "training"): a pointer into the document as it was sent."""
    tagged = len(location) > 2 and location[0] == "steps" and location[2] in methods()
    return location[:2] + location[3:] if tagged else location


def _escaped(part: int | str) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")  # RFC 6901, section 3
