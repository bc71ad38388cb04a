"""JSON schemas of specs, as programs, forms and documentation get them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import DEFAULT_REF_TEMPLATE, GenerateJsonSchema
from pydantic_core import core_schema


class _WithMadeDefaults(GenerateJsonSchema):
    """Pydantic leaves out defaults that a function makes, and so all that a nested block means when it isn't given."""

    def get_default_value(self, schema: core_schema.WithDefaultSchema) -> Any:
        make = schema.get("default_factory")
        return super().get_default_value(schema) if make is None else make()  # type: ignore[call-arg]


def schema_of(model: type[BaseModel], ref_template: str = DEFAULT_REF_TEMPLATE) -> dict[str, Any]:
    """The model's JSON schema, with every default in it."""
    return model.model_json_schema(ref_template=ref_template, schema_generator=_WithMadeDefaults)
