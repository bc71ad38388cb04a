"""What a client says about an upload, in the query or in the form's fields."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from api.paging import PRINTABLE, UNPRINTABLE
from api.problems import RequestInvalid, fault, pointer
from compression.errors import SpecError
from compression.spec import Tag
from compression.zoo.catalog import parse


class DatasetFacts(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str | None = Field(
        None, min_length=1, max_length=200, pattern=PRINTABLE, description="for people; none: the file's name"
    )
    filename: str | None = Field(
        None, max_length=200, pattern=PRINTABLE, description="none: as Content-Disposition or the form says"
    )
    tag: list[Tag] = Field(default_factory=list, max_length=20, description="may be given several times")

    @field_validator("filename")
    @classmethod
    def _last_part(cls, value: str | None) -> str | None:
        """A name alone: what comes before the last separator is the client's own folder."""
        return value.replace("\\", "/").rpartition("/")[2] or None if value is not None else None


class ModelFacts(DatasetFacts):
    architecture: str | None = Field(
        None,
        max_length=10_000,
        description="JSON: what weights without a graph (.safetensors) belong to; or lengths, without the batch, for "
        "axes that an .onnx file leaves free",
        examples=['{"architecture": "resnet20", "arguments": {"classes": 10}}', '{"inputs": {"x": [3, 48, 192]}}'],
    )

    @field_validator("architecture")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                described = json.loads(value)
                if isinstance(described, dict) and described.keys() == {"inputs"}:
                    _check_shapes(described["inputs"])
                    return value
                if not isinstance(described, dict) or not described.keys() <= {"architecture", "arguments"}:
                    raise ValueError('an object with "architecture" and "arguments", or with "inputs", is wanted')
                parse(str(described.get("architecture")), described.get("arguments", {}))
            except (SpecError, RecursionError) as error:
                raise ValueError(str(error)) from error
        return value


def _check_shapes(inputs: Any) -> None:
    if not isinstance(inputs, dict) or len(inputs) > 64:
        raise ValueError('"inputs" gives a list of lengths for each input by name')
    if any(UNPRINTABLE.search(name) for name in inputs):
        raise ValueError("no input's name has control characters, or half a character")
    for shape in inputs.values():
        if not isinstance(shape, list) or len(shape) > 8 or not all(type(n) is int and 0 < n < 2**31 for n in shape):
            raise ValueError("a shape is a list of up to 8 positive lengths, without the batch")


def architecture_of(facts: DatasetFacts) -> dict[str, Any] | None:
    """The parsed architecture, where one was given."""
    text = facts.architecture if isinstance(facts, ModelFacts) else None
    described: dict[str, Any] | None = None if text is None else json.loads(text)
    return described if described is None or "inputs" in described else {"arguments": {}, **described}


def with_fields(facts: DatasetFacts, fields: dict[str, list[str]]) -> DatasetFacts:
    """`facts` of the query with those of a form's fields over them."""
    given: dict[str, Any] = {name: values if name == "tag" else values[-1] for name, values in fields.items()}
    try:
        return type(facts).model_validate({**facts.model_dump(), **given})
    except ValidationError as error:
        faults = [
            fault(pointer(*entry["loc"]), entry["msg"], "form")
            for entry in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        raise RequestInvalid("; ".join(entry["detail"] for entry in faults), faults) from error
