"""JSON as people write and read it in a text area."""

from __future__ import annotations

import json
import math
from typing import Any

WIDTH = 44  # lists of plain values stay on one line up to here
DEEPEST = 32


class Unreadable(ValueError):
    """The text is no JSON; the message says where."""


def parsed(text: str) -> Any:
    """The value. Unreadable: no JSON, a number that isn't finite, nested too deep, or half a character."""
    try:
        value = json.loads(text, parse_float=_finite, parse_constant=_finite)
    except json.JSONDecodeError as error:
        raise Unreadable(f"not JSON at line {error.lineno}, column {error.colno}: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"not JSON: {error}") from error
    level = [value]
    for _ in range(DEEPEST):
        level = [inner for entry in level for inner in _inside(entry)]
    if level:
        raise Unreadable(f"nested deeper than {DEEPEST} levels")
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise Unreadable("a text holds half of a surrogate pair") from error
    return value


def _inside(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no finite number")
    return number


def printed(value: Any, indent: int = 0) -> str:
    """Two spaces a level; objects and lists of plain values on one line where they are short."""
    inner = " " * (indent + 2)
    if isinstance(value, dict) and value:
        entries = [
            f"{json.dumps(key, ensure_ascii=False)}: {printed(entry, indent + 2)}" for key, entry in value.items()
        ]
    elif isinstance(value, list) and value:
        entries = [printed(entry, indent + 2) for entry in value]
    else:
        return json.dumps(value, ensure_ascii=False)
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    plain = not any(isinstance(entry, dict | list) for entry in (value.values() if isinstance(value, dict) else value))
    line = ", ".join(entries)
    if plain and indent + len(line) < WIDTH and (indent or isinstance(value, list)):
        return f"{opening}{line}{closing}"
    return f"{opening}\n{inner}" + f",\n{inner}".join(entries) + f"\n{' ' * indent}{closing}"
