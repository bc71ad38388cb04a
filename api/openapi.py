"""The OpenAPI 3.1 document: FastAPI's, with the schemas of what we read and write by hand."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel

from api.events.routes import EventList
from api.problems import ProblemBody
from compression.json_schema import schema_of
from compression.spec import JobSpec

Json = dict[str, Any]
BY_HAND: dict[str, type[BaseModel]] = {"Problem": ProblemBody, "EventList": EventList, "JobSpec": JobSpec}
NOT_OURS = ("HTTPValidationError", "ValidationError")  # FastAPI's own errors, which no endpoint answers with


def document(app: FastAPI) -> Json:
    for route in app.routes:
        if isinstance(route, APIRoute):
            route.operation_id = route.name  # what a generated client calls its function
    described: Json = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes, openapi_version="3.1.0"
    )
    schemas = described.setdefault("components", {}).setdefault("schemas", {})
    for name, model in BY_HAND.items():
        schema = schema_of(model, "#/components/schemas/{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas[name] = schema
    for name in NOT_OURS:
        schemas.pop(name, None)
    return described
