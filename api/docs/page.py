"""`/docs`: the OpenAPI document as one page of plain HTML. No script, and nothing from anywhere else."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from api.problems import every_problem

Json = dict[str, Any]
METHODS = ("get", "post", "put", "patch", "delete")
STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h2 { margin-top: 3rem; border-bottom: 1px solid #8888 } summary { cursor: pointer; padding: .3rem 0 }
summary b { display: inline-block; min-width: 4.5rem } code, pre { font: 14px/1.4 ui-monospace, monospace }
pre { overflow-x: auto; padding: .7rem; border: 1px solid #8888; border-radius: 4px }
table { border-collapse: collapse; margin: .5rem 0 }
td, th { text-align: left; padding: .2rem .8rem .2rem 0; vertical-align: top }
"""


def render(document: Json) -> str:
    info = document["info"]
    groups: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method in METHODS:
            if method in operations:
                operation = operations[method]
                groups.setdefault(operation["tags"][0], []).append(_operation(method, path, operation))
    parts = [
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>",
        f"<p>{escape(info['description'])} The same for programs: <a href='/openapi.json'>openapi.json</a>.</p>",
        *(f"<h2>{escape(name)}</h2>{''.join(shown)}" for name, shown in groups.items()),
        _problems(),
        "<h2>schemas</h2>",
        *(_schema(name, schema) for name, schema in sorted(document["components"]["schemas"].items())),
    ]
    head = (
        f"<meta charset=utf-8><meta name=viewport content='width=device-width'><title>{escape(info['title'])}</title>"
    )
    return f"<!doctype html><html lang=en><head>{head}<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>"


def _operation(method: str, path: str, operation: Json) -> str:
    answers = [
        [status, _linked(answer), answer["description"]] for status, answer in sorted(operation["responses"].items())
    ]
    body = operation.get("requestBody", {}).get("content", {})
    parts = [
        f"<p>{escape(operation['description'])}</p>" if "description" in operation else "",
        _table(["parameter", "in", "", "meaning"], [_parameter(entry) for entry in operation.get("parameters", [])]),
        _table(["body", ""], [[kind, _reference(content["schema"])] for kind, content in body.items()]),
        _table(["status", "", "meaning"], answers),
    ]
    title = f"<b>{method.upper()}</b> <code>{escape(path)}</code> {escape(operation['summary'])}"
    return f"<details><summary>{title}</summary>{''.join(parts)}</details>"


def _parameter(entry: Json) -> list[str]:
    needed = "required" if entry.get("required") else ""
    return [entry["name"], entry["in"], needed, entry.get("description") or entry["schema"].get("description", "")]


def _linked(answer: Json) -> str:
    return ", ".join(_reference(content["schema"]) or kind for kind, content in answer.get("content", {}).items())


def _reference(schema: Json) -> str:
    return str(schema.get("$ref", "")).rpartition("/")[2]


def _table(heads: list[str], rows: list[list[str]]) -> str:
    """Names of schemas become links to them."""
    if not rows:
        return ""
    cells = "".join(
        f"<tr>{''.join(f'<td>{_cell(text, heads[place])}</td>' for place, text in enumerate(row))}</tr>" for row in rows
    )
    return f"<table><tr>{''.join(f'<th>{escape(head)}</th>' for head in heads)}</tr>{cells}</table>"


def _cell(text: str, head: str) -> str:
    shown = escape(str(text))
    return f"<a href='#{shown}'>{shown}</a>" if head == "" and shown[:1].isupper() and shown.isalnum() else shown


def _problems() -> str:
    rows = [[f"/problems/{kind.slug}", str(kind.status), kind.title] for kind in every_problem()]
    said = "<p>Every error is an <code>application/problem+json</code> (RFC 9457); go by its <code>type</code>.</p>"
    return f"<h2 id=problems>problems</h2>{said}{_table(['type', 'status', 'meaning'], rows)}"


def _schema(name: str, schema: Json) -> str:
    text = escape(json.dumps(schema, indent=2, ensure_ascii=False))
    return f"<details id='{escape(name)}'><summary><code>{escape(name)}</code></summary><pre>{text}</pre></details>"
