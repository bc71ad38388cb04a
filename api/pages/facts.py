"""Facts of any kind, such as what a step tells of itself, made ready to be shown: by their form, not by their names.

A new method or metric is shown without anyone having heard of it: objects become lists of terms, lists of objects
become tables, and pairs of numbers by name become a table of before and after.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from api.pages.figures import number, span

MOST = 200
DEEPEST = 5


@dataclass(frozen=True)
class Text:
    text: str


@dataclass(frozen=True)
class Terms:
    entries: Sequence[tuple[str, Shown]]


@dataclass(frozen=True)
class Table:
    columns: Sequence[str]
    rows: Sequence[Sequence[Shown]]
    left_out: int = 0


Shown = Text | Terms | Table


def shown(value: Any, depth: int = 0) -> Shown:
    """What a value is shown as; below DEEPEST, and past MOST entries, it is only counted."""
    if isinstance(value, Mapping):
        return _mapping(value, depth)
    if isinstance(value, list):
        return _list(value, depth)
    return Text(plain(value))


def plain(value: Any) -> str:
    """A single value: numbers to six digits, a share with its interval."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def share(value: Any) -> str | None:
    """A share with its interval, or None for anything else."""
    middle, ends = number(value, "value"), span(value)
    if middle is None or ends is None:
        return None
    return f"{middle:.2%} (95 % {ends[0]:.2%} to {ends[1]:.2%})".replace("%", " %").replace("95  %", "95 %")


def label(key: str) -> str:
    """`left_alone` → "left alone"."""
    return key.replace("_", " ")


def _mapping(value: Mapping[str, Any], depth: int) -> Shown:
    if (known := share(value)) is not None:
        return Text(known)
    if not value:
        return Text("none")
    if depth >= DEEPEST:
        return Text(f"{len(value)} entries")
    if all(_pair(entry) for entry in value.values()):
        rows = [[Text(str(name)), *map(shown, pair)] for name, pair in value.items()]
        return Table(["", "before", "after"], rows[:MOST], max(0, len(rows) - MOST))
    terms = [(label(str(key)), shown(entry, depth + 1)) for key, entry in list(value.items())[:MOST]]
    more = [("…", Text(f"{len(value) - MOST} more"))] if len(value) > MOST else []
    return Terms([*terms, *more])


def _pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(number(entry) is not None for entry in value)


def _list(value: list[Any], depth: int) -> Shown:
    if not value:
        return Text("none")
    if depth >= DEEPEST:
        return Text(f"{len(value)} entries")
    if all(isinstance(entry, Mapping) for entry in value):
        columns = list(dict.fromkeys(key for entry in value for key in entry))
        rows = [[shown(entry.get(key), depth + 1) for key in columns] for entry in value[:MOST]]
        return Table([label(str(key)) for key in columns], rows, max(0, len(value) - MOST))
    if any(isinstance(entry, Mapping | list) for entry in value):
        return Table([""], [[shown(entry, depth + 1)] for entry in value[:MOST]], max(0, len(value) - MOST))
    more = f" and {len(value) - MOST} more" if len(value) > MOST else ""
    return Text(", ".join(plain(entry) for entry in value[:MOST]) + more)
