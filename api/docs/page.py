"""`/docs`: the OpenAPI document as a page. No script, and nothing from anywhere else."""

from __future__ import annotations

from typing import Any

from starlette.responses import HTMLResponse

from api.pages.site import page
from api.problems import every_problem

Json = dict[str, Any]
METHODS = ("get", "post", "put", "patch", "delete")
_EDGES = (("minimum", "≥ {}"), ("exclusiveMinimum", "> {}"), ("maximum", "≤ {}"), ("exclusiveMaximum", "< {}"))
_LENGTHS = (("minLength", "maxLength", "characters"), ("minItems", "maxItems", "entries"))


def render(document: Json) -> HTMLResponse:
    groups: dict[str, list[Json]] = {}
    for path, operations in document["paths"].items():
        for method in METHODS:
            if method in operations:
                operation = operations[method]
                groups.setdefault(operation["tags"][0], []).append({"method": method, "path": path, **operation})
    return page(
        "docs.html",
        here="/docs",
        info=document["info"],
        groups=groups,
        problems=every_problem(),
        schemas=sorted(document["components"]["schemas"].items()),
        limits=limits,
        alternatives=alternatives,
    )


def alternatives(schema: Json) -> list[Json]:
    """What a value may be: one schema, or several."""
    return [part for key in ("anyOf", "oneOf") for part in schema.get(key, ())] or [schema]


def limits(schema: Json) -> str:
    """The bounds of a value in words; of one that may be null, those that it has otherwise."""
    said = []
    for part in (schema, *schema.get("anyOf", ())):
        if "minimum" in part and "maximum" in part:
            said.append(f"{part['minimum']} to {part['maximum']}")
        else:
            said += [text.format(part[key]) for key, text in _EDGES if key in part]
        for least, most, unit in _LENGTHS:
            low, high = part.get(least), part.get(most)
            if high is not None:
                said.append(f"{low} to {high} {unit}" if low else f"up to {high} {unit}")
            elif low is not None:
                said.append(f"{low} or more {unit}")
    return ", ".join(said)
