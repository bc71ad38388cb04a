"""Other models that a step names beside the job's own: teachers, a student, weights to start from.

A method marks such a field by its type, `ModelId`, wherever in its spec it stands. No more: the API checks the model
and holds it, the worker fetches it, and `context.model(id)` gives it (docs/decisions/0012).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

LONGEST = 1024


class ModelId(str):
    """In the service the id of a model or an artifact, on the command line the path of a file."""

    __slots__ = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        text = core_schema.str_schema(min_length=1, max_length=LONGEST)
        return core_schema.no_info_after_validator_function(
            cls, text, serialization=core_schema.plain_serializer_function_ser_schema(str, return_schema=text)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "format": "model", "minLength": 1, "maxLength": LONGEST}


def referenced_models(spec: BaseModel) -> dict[str, str]:
    """The ids of all models that a spec names, each by the JSON pointer of its field ("/steps/1/teachers/0/model")."""
    return {"".join(f"/{part}" for part in path): str(id_) for path, id_ in _found(spec, ())}


def _found(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], ModelId]]:
    if isinstance(value, ModelId):
        yield path, value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _found(getattr(value, name), (*path, name))
    elif isinstance(value, list | tuple):
        for index, entry in enumerate(value):
            yield from _found(entry, (*path, index))
