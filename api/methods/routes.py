"""`/v1/methods`: what can be done, generated from the methods' own files."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.responses import Response

from api.answer import answer
from api.problems import documented
from compression.json_schema import schema_of
from compression.registry import methods
from compression.zoo.catalog import ARCHITECTURES

Json = dict[str, Any]
router = APIRouter(tags=["methods"])


class MethodBody(BaseModel):
    name: str
    summary: str
    accepts: list[str] = Field(description="states of the network that a step with it can start from")
    leaves: str | None = Field(description="state that it leaves; null: the one it found")
    keeps_variants: bool
    schema_: Json = Field(alias="schema", description="JSON schema of a step with this method")


class MethodList(BaseModel):
    items: list[MethodBody]


class ArchitectureBody(BaseModel):
    name: str
    summary: str
    schema_: Json = Field(alias="schema", description="JSON schema of its arguments")


class ArchitectureList(BaseModel):
    items: list[ArchitectureBody]


@router.get("/v1/methods", summary="Compression methods", responses={200: {"model": MethodList}, **documented()})
def list_methods() -> Response:
    items = [
        {
            "name": name,
            "summary": method.summary,
            "accepts": sorted(method.accepts),
            "leaves": method.leaves,
            "keeps_variants": method.keeps_variants,
            "schema": schema_of(method.spec),
        }
        for name, method in methods().items()
    ]
    return answer({"items": items})


@router.get(
    "/v1/architectures",
    summary="Networks that are known by name, for weights without a graph",
    responses={200: {"model": ArchitectureList}, **documented()},
)
def list_architectures() -> Response:
    items = [
        {"name": name, "summary": known.summary, "schema": schema_of(known.arguments)}
        for name, known in ARCHITECTURES.items()
    ]
    return answer({"items": items})
