"""A field of a form as the templates get it: with its value, its words, its place in the document and its faults."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

SHOWN = "shown"  # the name under which places are posted whose unticked boxes say something: browsers send none
AS_JSON = "json:"  # before the pointer of a place that is written as JSON
SELECTOR = "LayerSelector"  # an object that is shown as a list of layers
FIRST = 4  # so many fields of a group are in sight, in the order they are declared; the rest, asked less, is folded
_SIMPLE = frozenset({"switch", "integer", "number", "text", "mixed", "choice", "numbers", "words"})
_NESTED = frozenset({"group", "union", "rows", "map"})


@dataclass(frozen=True)
class Option:
    """`note` says more about it; `mark` what becomes of it, where that is known."""

    value: str
    label: str
    chosen: bool
    note: str = ""
    mark: str = ""


@dataclass(frozen=True)
class Field:
    """`value` is the text in the field, `on` whether a switch, or a group that may be off, is on; `empty` says what an
    empty field means; `changed`: it differs from its default. `faults` are of this place, not of those below."""

    pointer: str
    kind: str
    label: str
    help: str = ""
    limits: str = ""
    unit: str = ""
    value: str = ""
    empty: str = ""
    nullable: bool = False
    on: bool = True
    changed: bool = False
    title: str = ""
    options: tuple[Option, ...] = ()
    children: tuple[Field, ...] = ()
    faults: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return identifier(self.pointer)

    @property
    def name(self) -> str:
        return AS_JSON + self.pointer if self.kind == "json" else self.pointer

    @property
    def key(self) -> str:
        """The last part of its pointer."""
        return self.pointer.rpartition("/")[2].replace("~1", "/").replace("~0", "~")

    @property
    def nested(self) -> bool:
        return self.kind in _NESTED and not self.selector

    @property
    def selector(self) -> bool:
        return self.kind == "group" and self.title == SELECTOR

    @property
    def simple(self) -> tuple[Field, ...]:
        """Of a group: the fields that are in sight."""
        return tuple(child for child in self.children if child.kind in _SIMPLE)[:FIRST]

    @property
    def folded(self) -> tuple[Field, ...]:
        """Of a group: the fields that are folded; groups in it are neither."""
        groups = {id(child) for child in (*self.simple, *self.groups)}
        return tuple(child for child in self.children if id(child) not in groups)

    @property
    def digest(self) -> str:
        """What is in a group, in a few words."""
        if self.kind == "rows":
            return str(len(self.children))
        if not self.on:
            return "off"
        said = [(child.label.lower(), child.value) for child in self.simple if child.value and child.kind != "switch"]
        said += [(child.label.lower(), "") for child in self.simple if child.kind == "switch" and child.on]
        return ", ".join(f"{label} {value}".strip() for label, value in said)

    @property
    def groups(self) -> tuple[Field, ...]:
        return tuple(child for child in self.children if child.nested or child.selector)

    @property
    def faulty(self) -> bool:
        """Here or below."""
        return bool(self.faults) or any(child.faulty for child in self.children)

    def at(self, key: str) -> Field:
        """The child of this key."""
        return next(child for child in self.children if child.key == key)

    def summary(self, entry: str = "") -> Iterator[tuple[str, str]]:
        """(id, what is wrong) of all here and below, for the list at the top of a page. `entry`: of which list's."""
        within = ", ".join(filter(None, (entry, self.label if self.label != entry else "")))
        yield from ((self.id, f"{within}: {detail}" if within else detail) for detail in self.faults)
        for child in self.children:
            yield from child.summary(child.label if self.kind == "rows" else entry)


def identifier(place: str) -> str:
    """An HTML id for a JSON pointer."""
    return "f" + re.sub(r"[^\w-]", lambda found: "." if found[0] == "/" else f".{ord(found[0]):x}.", place)
