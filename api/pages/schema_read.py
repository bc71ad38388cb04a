"""What a posted form says: the document that `schema_form` made its fields from, as it was changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from api.pages.form_field import AS_JSON, SHOWN
from api.pages.json_text import Unreadable, parsed
from api.pages.schema_node import LEAVES, MISSING, Json, Node, completed, node_of, same
from api.pages.schema_text import misread, read_leaf
from api.problems import Fault, fault, pointer

Posted = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Reading:
    """The document with its defaults spelt out; what couldn't be read of it, by pointer; and, by pointer, what the
    fields of groups that are off say, so that whoever switches them on again finds it there."""

    document: Any
    faults: list[Fault] = field(default_factory=list)
    off: Json = field(default_factory=dict)


def read(schema: Json, posted: Posted, at: str = "") -> Reading:
    """From the fields' texts by name. A field that wasn't posted at all has its default."""
    reader, node = _Reader(posted), node_of(schema)
    document = reader.value(node, at)
    told = {entry["pointer"] for entry in reader.faults}
    more = [entry for entry in unread(node, document, at) if entry["pointer"] not in told]
    return Reading(document, reader.faults + more, reader.off)


def unread(node: Node, value: Any, at: str = "") -> Iterator[Fault]:
    """Texts in a document that should be numbers, and values that are missing."""
    if node.kind in LEAVES:
        yield from (fault(at + pointer(*place), detail) for place, detail in misread(node, value))
    elif node.kind == "union":
        chosen = node.variant(value)
        if chosen is not None:
            yield from unread(chosen, value, at)
    elif isinstance(value, dict) and node.kind == "group":
        for name, child in node.children().items():
            if child.kind in LEAVES or name in value:
                yield from unread(child, value.get(name, child.default), at + pointer(name))
    elif isinstance(value, dict) and node.kind == "map":
        for key, entry in value.items():
            yield from unread(node.item(), entry, at + pointer(key))
    elif isinstance(value, list) and node.kind == "rows":
        for place, entry in enumerate(value):
            yield from unread(node.item(), entry, f"{at}/{place}")


class _Reader:
    def __init__(self, posted: Posted) -> None:
        self.posted = posted
        self.shown = frozenset(posted.get(SHOWN, ()))
        self.faults: list[Fault] = []
        self.off: Json = {}
        places = [name.removeprefix(AS_JSON) for name in (*posted, *posted.get(SHOWN, ()))]
        self.below: dict[str, dict[str, None]] = {}  # the parts that follow each pointer
        for place in places:
            parts = place.split("/")
            for depth in range(1, len(parts)):
                self.below.setdefault("/".join(parts[:depth]), {})[parts[depth]] = None

    def value(self, node: Node, at: str) -> Any:
        if AS_JSON + at in self.posted:
            return self._json(node, at)
        if node.kind in LEAVES:
            return self._leaf(node, at)
        match node.kind:
            case "constant":
                return node.default
            case "group":
                return self._optional(node, at) if node.nullable else self._group(node, at)
            case "union":
                return self._union(node, at)
            case "map":
                item = node.item()
                entries = {_unescaped(part): self.value(item, f"{at}/{part}") for part in self.below.get(at, ())}
                return {key: entry for key, entry in entries.items() if not same(entry, item.default)}
            case "rows" if at in self.shown:
                places = sorted(int(part) for part in self.below.get(at, ()) if part.isdecimal())
                return [self.value(node.item(), f"{at}/{place}") for place in places]
        return node.default

    def _json(self, node: Node, at: str) -> Any:
        text = self.posted[AS_JSON + at][-1].replace("\r\n", "\n")
        if not text.strip():
            return node.default
        try:
            return completed(node, parsed(text))
        except Unreadable as error:
            self.faults.append(fault(at, str(error)))
            return text

    def _leaf(self, node: Node, at: str) -> Any:
        if at not in self.posted and at not in self.shown:
            return node.default
        return read_leaf(node, [text.replace("\r\n", "\n") for text in self.posted.get(at, ())])

    def _optional(self, node: Node, at: str) -> Any:
        if at not in self.shown:
            return node.default
        own = replace(node, default=MISSING) if node.default is None else node
        if any(self.posted.get(at, ())):
            return self._group(own, at)
        aside = _Reader(self.posted)
        self.off[at] = aside._group(own, at)
        return None

    def _group(self, node: Node, at: str) -> Json:
        children = node.children()
        found = {name: self.value(child, at + pointer(name)) for name, child in children.items()}
        unknown = Node("json", {}, {}, nullable=False, default=MISSING)
        for part in self.below.get(at, ()):
            if _unescaped(part) not in children and f"{AS_JSON}{at}/{part}" in self.posted:
                found[_unescaped(part)] = self.value(unknown, f"{at}/{part}")
        return {name: value for name, value in found.items() if value is not MISSING}

    def _union(self, node: Node, at: str) -> Any:
        tags = self.posted.get(at + pointer(node.tag), ())
        if not tags:
            return node.default
        chosen = node.variant({node.tag: tags[-1]})
        return {node.tag: tags[-1]} if chosen is None else self._group(chosen, at)


def _unescaped(part: str) -> str:
    return part.replace("~1", "/").replace("~0", "~")
