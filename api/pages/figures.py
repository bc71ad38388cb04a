"""Figures out of a report or an event: JSON that another version of the engine may have written, so that nothing in it
is sure to be there. What isn't is None, or empty; a page leaves it out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]


def at(value: Any, *path: str | int) -> Any:
    """What lies at `path`, by keys and places, or None."""
    for key in path:
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list) and isinstance(key, int) and 0 <= key < len(value):
            value = value[key]
        else:
            return None
    return value


def number(value: Any, *path: str | int) -> float | None:
    found = at(value, *path)
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        return None
    return found


def text(value: Any, *path: str | int) -> str:
    found = at(value, *path)
    return found if isinstance(found, str) else ""


def mapping(value: Any, *path: str | int) -> Json:
    found = at(value, *path)
    return dict(found) if isinstance(found, Mapping) else {}


def entries(value: Any, *path: str | int) -> list[Json]:
    """The objects of the list at `path`."""
    found = at(value, *path)
    return [dict(entry) for entry in found if isinstance(entry, Mapping)] if isinstance(found, list) else []


def span(value: Any, low: str = "low", high: str = "high") -> tuple[float, float] | None:
    """An interval, where both of its ends are known."""
    ends = number(value, low), number(value, high)
    return None if ends[0] is None or ends[1] is None else (ends[0], ends[1])
