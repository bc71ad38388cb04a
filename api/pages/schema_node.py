"""A JSON schema as pydantic writes it, seen as what a form can show: of which kind each place is, and its default.

Kinds: constant, switch (true or false), integer, number, text, mixed (a number or a word), choice (one of several),
choices (some of several), numbers, words and lines (lists), group (an object), map (objects by key), rows (a list of
objects), union (objects told apart by a tag), and json for all else: such a place is written as JSON.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
MISSING: Any = type("Missing", (), {"__repr__": lambda _: "MISSING"})()
LEAVES = frozenset({"switch", "integer", "number", "text", "mixed", "choice", "choices", "numbers", "words", "lines"})
_PLAIN = {"boolean": "switch", "integer": "integer", "number": "number", "string": "text"}


@dataclass(frozen=True)
class Node:
    """`schema` is resolved, and null is taken out of it. `default` is whole: MISSING where a value must be given."""

    kind: str
    schema: Json
    root: Json
    nullable: bool
    default: Any

    def children(self) -> dict[str, Node]:
        """Of a group. What this place's own default says of a child goes before the child's."""
        required = self.schema.get("required", ())
        given = self.default if isinstance(self.default, dict) else {}
        return {
            name: _node(schema, self.root, given.get(name, MISSING), required=name in required)
            for name, schema in self.schema["properties"].items()
        }

    def item(self) -> Node:
        """Of rows: each; of a map: each value; of lists: each entry."""
        inside = self.schema["additionalProperties"] if self.kind == "map" else self.schema["items"]
        return _node(inside, self.root)

    @property
    def tag(self) -> str:
        """Of a union: the field that tells which it is."""
        return str(self.schema["discriminator"]["propertyName"])

    @property
    def tags(self) -> list[str]:
        """Of a union: what its tag can be."""
        return list(self.schema["discriminator"]["mapping"])

    def variant(self, value: object) -> Node | None:
        """The group that a union's value is of, by its tag."""
        tag = value.get(self.tag) if isinstance(value, dict) else None
        reference = self.schema["discriminator"]["mapping"].get(tag) if isinstance(tag, str) else None
        return None if reference is None else _node({"$ref": reference}, self.root)

    def options(self) -> list[Any]:
        """What may be chosen."""
        schema = _resolved(self.schema["items"], self.root) if self.kind == "choices" else self.schema
        return [value for part in schema.get("anyOf", [schema]) for value in part.get("enum", [])]


def node_of(schema: Json) -> Node:
    """The root of a schema."""
    return _node(schema, schema)


def _node(schema: Json, root: Json, default: Any = MISSING, *, required: bool = False) -> Node:
    schema = _resolved(schema, root)
    alternatives = [_resolved(part, root) for part in schema.get("anyOf", ())]
    nullable = any(part.get("type") == "null" for part in alternatives)
    if nullable:
        others = [part for part in alternatives if part.get("type") != "null"]
        schema = {**schema, "anyOf": others}
    if len(schema.get("anyOf", ())) == 1:
        schema = {**_resolved(schema["anyOf"][0], root), **{key: schema[key] for key in schema if key != "anyOf"}}
    kind = _kind(schema, root)
    node = Node(kind, schema, root, nullable, schema.get("default", MISSING) if default is MISSING else default)
    return Node(kind, schema, root, nullable, _whole_default(node, required=required))


def _resolved(schema: Json, root: Json) -> Json:
    """Without `$ref`: what it points to, with what stands beside it on top."""
    while "$ref" in schema:
        target = root["$defs"][schema["$ref"].rpartition("/")[2]]
        schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
    return schema


def _kind(schema: Json, root: Json) -> str:
    if "const" in schema:
        return "constant"
    if "enum" in schema:
        return "choice" if all(isinstance(value, str) for value in schema["enum"]) else "json"
    if "discriminator" in schema:
        return "union" if "mapping" in schema["discriminator"] else "json"
    if alternatives := schema.get("anyOf"):
        kinds = {_kind(_resolved(part, root), root) for part in alternatives}
        return "mixed" if kinds <= {"integer", "number", "text", "choice", "constant"} else "json"
    if schema.get("type") == "array" and "items" in schema:
        return _list_kind(_resolved(schema["items"], root), root)
    if schema.get("type") == "object":
        return _object_kind(schema, root)
    return _PLAIN.get(schema.get("type", ""), "json")


def _list_kind(item: Json, root: Json) -> str:
    kind = _kind(item, root)
    if kind == "text":
        pattern = item.get("pattern")
        # Words may stand side by side where none of them can hold what parts them.
        parted = pattern is not None and not any(re.search(pattern, text) for text in ("a b", "a,b"))
        return "words" if parted else "lines"
    kinds = {"choice": "choices", "integer": "numbers", "number": "numbers", "group": "rows", "union": "rows"}
    return {**kinds, "mixed": "lines"}.get(kind, "json")


def _object_kind(schema: Json, root: Json) -> str:
    if "properties" in schema:
        return "group"
    values = schema.get("additionalProperties")
    return "map" if isinstance(values, dict) and _kind(_resolved(values, root), root) == "group" else "json"


def _whole_default(node: Node, *, required: bool) -> Any:
    """An object's with the defaults of its fields; of a place that needn't be given and has none, an empty list."""
    if node.kind == "constant":
        return node.schema["const"]
    if node.default is None or required:
        return node.default
    if node.kind == "group":
        return completed(node, {} if node.default is MISSING else node.default)
    if node.default is MISSING:
        made: Mapping[str, Any] = {"map": {}, "rows": [], "words": [], "lines": [], "numbers": [], "choices": []}
        return made.get(node.kind, MISSING)
    return node.default


def completed(node: Node, value: Any) -> Any:
    """The document with every default spelt out. What doesn't fit its place stays as it is."""
    if node.kind == "union":
        chosen = node.variant(value)
        return value if chosen is None else completed(chosen, value)
    if node.kind == "group" and isinstance(value, dict):
        own = Node(node.kind, node.schema, node.root, node.nullable, MISSING)  # its own defaults, not its place's
        known = {
            name: completed(child, value.get(name, child.default))
            for name, child in own.children().items()
            if name in value or child.default is not MISSING
        }
        return known | {name: value[name] for name in value if name not in known}
    if node.kind == "map" and isinstance(value, dict):
        return {key: completed(node.item(), entry) for key, entry in value.items()}
    if node.kind == "rows" and isinstance(value, list):
        return [completed(node.item(), entry) for entry in value]
    return value


def trimmed(node: Node, value: Any) -> Any:
    """The document with everything left out that says no more than its default: the same to whoever reads it."""
    if node.kind == "union" and (chosen := node.variant(value)) is not None:
        return {node.tag: value[node.tag]} | trimmed(chosen, value)
    if node.kind == "group" and isinstance(value, dict):
        own = Node(node.kind, node.schema, node.root, node.nullable, MISSING)
        children = own.children()
        return {
            name: trimmed(children[name], entry) if name in children else entry
            for name, entry in value.items()
            if name not in children or not same(completed(children[name], entry), children[name].default)
        }
    if node.kind == "map" and isinstance(value, dict):
        return {key: trimmed(node.item(), entry) for key, entry in value.items()}
    if node.kind == "rows" and isinstance(value, list):
        return [trimmed(node.item(), entry) for entry in value]
    return value


def same(one: Any, other: Any) -> bool:
    """Equal as JSON: true is not 1, and 2.0 is 2."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and one == other
