"""A form made from a JSON schema: its fields, with the values of a document; `schema_read` is the way back.

    form = field_of(schema, document, faults=…)      {% import "fields.html" as fields %} {{ fields.inside(form) }}
    reading = read(schema, posted)                    reading.document, reading.faults

A field's name is the JSON pointer of its place in the document. The document is the whole truth: what can't be a number
stays in it as the text that was typed, with a fault; what fits no field of its place is shown as JSON. So for every
document, reading the form that shows it gives that document again, with its defaults spelt out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from api.pages.form_field import Field, Option
from api.pages.schema_node import LEAVES, MISSING, Json, Node, completed, node_of, same
from api.pages.schema_text import fits, limits, seen, spoken, written
from api.problems import Fault, pointer

Pick = tuple[str, str, str, str]  # an option's value, label, note and mark


@dataclass(frozen=True)
class Offered:
    """What a form knows beyond its schema: keys to show in a map, by pointer; entries to pick for the lists of an
    object, by its title and from its value; (value, label) for texts of a format; and, by pointer, what the fields of
    a group that is off say."""

    keys: Mapping[str, Sequence[str]] = field(default_factory=dict)
    formats: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)
    picks: Mapping[str, Callable[[Json], Sequence[Pick]]] = field(default_factory=dict)
    off: Mapping[str, Any] = field(default_factory=dict)


def field_of(
    schema: Json, document: Any, at: str = "", *, faults: Sequence[Fault] = (), offered: Offered | None = None
) -> Field:
    """The form of a document. A fault is told at the field nearest to its pointer; `at` is the root's pointer."""
    node = node_of(schema)
    root = _field(node, completed(node, document), at, offered or Offered())
    places = set(_pointers(root))
    told: dict[str, list[str]] = {}
    for entry in faults:
        place = entry["pointer"]
        while place not in places and place:
            place = place.rpartition("/")[0]
        told.setdefault(place if place in places else at, []).append(entry["detail"])
    return _with_faults(root, told)


def _pointers(shown: Field) -> Iterator[str]:
    yield shown.pointer
    for child in shown.children:
        yield from _pointers(child)


def _with_faults(shown: Field, told: Mapping[str, list[str]]) -> Field:
    children = tuple(_with_faults(child, told) for child in shown.children)
    return replace(shown, children=children, faults=tuple(dict.fromkeys(told.get(shown.pointer, ()))))


def _field(node: Node, value: Any, at: str, offered: Offered, label: str | None = None) -> Field:
    shown = Field(
        at,
        node.kind,
        spoken(at.rpartition("/")[2]) if label is None else label,
        help=node.schema.get("description", ""),
        limits=limits(node),
        unit=node.schema.get("unit", ""),
        nullable=node.nullable,
        changed=not same(value, node.default),
        title=node.schema.get("title", ""),
    )
    if not _showable(node, value):
        return replace(shown, kind="json", value=_json_text(value))
    if node.kind in LEAVES:
        return _leaf(shown, node, value, offered)
    on = value is not None
    if not on:
        own = replace(node, default=MISSING)
        value = offered.off.get(at, node.default) or completed(own, {})
    match node.kind:
        case "group":
            children = _children(node, value, at, offered)
            if shown.title in offered.picks:
                picks = offered.picks[shown.title](value)
                children = [_picked(child, picks) for child in children]
        case "union":
            chosen = node.variant(value)
            children = [] if chosen is None else _children(chosen, value, at, offered)
            tag = value.get(node.tag) if value else ""
            options = tuple(Option(name, spoken(name), name == tag) for name in node.tags)
            shown = replace(shown, options=options, value=tag, title=node.tag)
        case "map":
            keys = dict.fromkeys([*value, *offered.keys.get(at, ())])
            item = node.item()
            children = [
                _field(item, value.get(key, item.default), at + pointer(key), offered, label=key) for key in keys
            ]
        case _:
            item = node.item()
            one = shown.label.removesuffix("s")
            children = [
                _field(item, entry, f"{at}/{place}", offered, f"{one} {place + 1}") for place, entry in enumerate(value)
            ]
    return replace(shown, on=on, children=tuple(children))


def _children(node: Node, value: Json, at: str, offered: Offered) -> list[Field]:
    """A group's fields; keys that it doesn't have are shown as JSON, so that nothing is dropped unseen."""
    known = node.children()
    shown = [
        _field(child, value.get(name, child.default), at + pointer(name), offered, spoken(name))
        for name, child in known.items()
        if child.kind != "constant" or not same(value.get(name, child.default), child.default)
    ]
    unknown = Node("json", {}, {}, nullable=False, default=MISSING)
    return shown + [
        _field(unknown, value[name], at + pointer(name), offered, name) for name in value if name not in known
    ]


def _showable(node: Node, value: Any) -> bool:
    """Whether the fields of this kind can hold the value."""
    if node.kind in LEAVES:
        return fits(node, value)
    if value is None:
        return node.nullable and node.kind == "group"
    if node.kind == "union":
        return node.variant(value) is not None
    return isinstance(value, {"group": dict, "map": dict, "rows": list}.get(node.kind, ()))


def _leaf(shown: Field, node: Node, value: Any, offered: Offered) -> Field:
    texts = written(node, value)
    if node.kind == "switch":
        return replace(shown, on=bool(value))
    default = ", ".join(written(node, node.default))
    empty = "none" if node.nullable else default
    options = []
    known = offered.formats.get(node.schema.get("format", "")) if node.kind == "text" else None
    if known is not None:
        shown = replace(shown, kind="choice")
        others = [(text, text) for text in texts if text and text not in dict(known)]
        options = [Option(text, label, text in texts) for text, label in [*known, *others]]
    elif node.kind in {"choice", "choices", "mixed"}:
        kept = [text for text in texts if text and text not in node.options() and node.kind != "mixed"]
        options = [Option(text, text.replace("_", " "), text in texts) for text in [*node.options(), *kept]]
    return replace(shown, value="" if node.kind == "choices" else texts[0], empty=empty, options=tuple(options))


def _picked(shown: Field, picks: Sequence[Pick]) -> Field:
    """A list with entries to tick; what isn't among them stays in the text."""
    if shown.kind != "lines":
        return shown
    entries = shown.value.split("\n")
    options = tuple(Option(value, label, value in entries, note, mark) for value, label, note, mark in picks)
    known = {option.value for option in options}
    return replace(shown, value="\n".join(entry for entry in entries if entry not in known), options=options)


def _json_text(value: Any) -> str:
    """The value as JSON; a text that was no JSON as it was typed."""
    if value is MISSING:
        return ""
    if isinstance(value, str) and seen(value):
        try:
            json.loads(value)
        except ValueError:
            return value
    return json.dumps(value, indent=2)
