"""A form's texts: how a value is written in its field and read back, and a field's name, bounds and help in words."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from api.pages.schema_node import MISSING, Json, Node, same

_WHOLE = re.compile(r"[+-]?[0-9]{1,40}")
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # what a field would swallow or a page can't hold
_PARTING = re.compile(r"[\s,;]+")
_SPELT = {"macs": "MACs"}
_SHARES = 1024  # below: 1/3 is written as a fraction, as people write it


def seen(text: str) -> bool:
    """Whether a text area shows all of the text, and gives the same back."""
    return text == text.strip() != "" and not _UNSEEN.search(text.replace("\n", ""))


def spoken(name: str) -> str:
    """A field's name in words: macs_ratio → "MACs ratio"."""
    words = " ".join(_SPELT.get(word, word) for word in name.replace("-", " ").split("_"))
    return words[:1].upper() + words[1:]


def limits(node: Node) -> str:
    """The bounds of a number, a text or a list in words: "above 0, below 1"; "1 to 50"."""
    schema = node.schema
    if node.kind in {"numbers", "words", "lines", "choices", "rows"}:
        count = _span(schema.get("minItems") or None, schema.get("maxItems"), whole=True)
        each = limits(node.item()) if node.kind == "numbers" else ""
        few = count and (node.kind == "numbers" or schema.get("minItems", 0) > 1) and node.kind != "choices"
        return "; ".join(filter(None, (f"{count} values" if few else "", f"each {each}" if each else "")))
    if node.kind == "mixed":
        return " or ".join(filter(None, (limits(_part(node, part)) for part in schema["anyOf"])))
    lowest, highest = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if node.kind == "integer":
        lowest, above = (above + 1, None) if above is not None else (lowest, None)
        highest, below = (below - 1, None) if below is not None else (highest, None)
    if above is None and below is None:
        return _span(lowest, highest, whole=node.kind == "integer")
    low = (
        f"above {_figure(above)}" if above is not None else f"at least {_figure(lowest)}" if lowest is not None else ""
    )
    high = (
        f"below {_figure(below)}" if below is not None else f"at most {_figure(highest)}" if highest is not None else ""
    )
    return ", ".join(filter(None, (low, high)))


def _part(node: Node, schema: Json) -> Node:
    return Node("integer" if schema.get("type") == "integer" else "number", schema, node.root, False, MISSING)


def _span(lowest: float | None, highest: float | None, *, whole: bool) -> str:
    if lowest is not None and highest is not None:
        return f"{_figure(lowest)}" if lowest == highest else f"{_figure(lowest)} to {_figure(highest)}"
    if lowest is not None:
        return f"{_figure(lowest)} or more"
    return (
        f"up to {_figure(highest)}"
        if highest is not None and whole
        else (f"at most {_figure(highest)}" if highest is not None else "")
    )


def _figure(value: float) -> str:
    return f"{int(value):,}" if float(value).is_integer() else number(value)


def number(value: float) -> str:
    """As people write it: 2.0 → "2", 0.00392156862745098 → "1/255"."""
    if float(value).is_integer() and abs(value) < 1e15:
        return str(int(value))
    text = repr(value)
    if len(text) > 8 and 1 / _SHARES < abs(value) < 1 and 1 / round(1 / value) == value:
        return f"1/{round(1 / value)}"
    return text


def _number(text: str, *, whole: bool) -> Any:
    """The number that a text is, a fraction such as 1/255 too; else the text."""
    text = text.strip()
    if _WHOLE.fullmatch(text):
        return int(text)
    if whole:
        return text
    parts = [part.strip() for part in text.split("/")]
    if len(parts) > 2 or not all(_DECIMAL.fullmatch(part) for part in parts):
        return text
    values = [float(part) for part in parts]
    if len(values) == 2 and values[1] == 0:
        return text
    value = values[0] / values[1] if len(values) == 2 else values[0]
    return value if math.isfinite(value) else text


def _entry(value: object) -> str:
    return number(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def written(node: Node, value: Any) -> list[str]:
    """The texts of a leaf's field: one, but for choices."""
    if value is None or value is MISSING:
        return [] if node.kind == "choices" else [""]
    if node.kind == "switch":
        return ["on"] if value else []
    if node.kind in {"choices", "numbers", "words", "lines"}:
        if not isinstance(value, list):
            return [str(value)]
        texts = [_entry(entry) for entry in value]
        return texts if node.kind == "choices" else [("\n" if node.kind == "lines" else ", ").join(texts)]
    return [_entry(value)]


def read_leaf(node: Node, texts: Sequence[str]) -> Any:
    """The value that a leaf's texts say. What is no number stays text; nothing means null, or else the default."""
    if node.kind == "switch":
        return any(texts)
    if node.kind == "choices":
        return list(dict.fromkeys(text for text in texts if text))
    if node.kind == "lines":
        entries = dict.fromkeys(line.strip() for text in texts for line in text.splitlines())
        mixed = node.item().kind == "mixed"
        return _list(node, [_either(node.item(), entry) if mixed else entry for entry in entries if entry])
    if node.kind in {"words", "numbers"}:
        parts = [part for text in texts for part in _PARTING.split(text) if part]
        whole = node.kind == "numbers" and node.item().kind == "integer"
        return _list(node, parts if node.kind == "words" else [_number(part, whole=whole) for part in parts])
    text = (texts[-1] if texts else "").strip()
    if not text:
        return None if node.nullable else node.default
    if node.kind in {"integer", "number"}:
        return _number(text, whole=node.kind == "integer")
    return _either(node, text) if node.kind == "mixed" else text


def _either(node: Node, text: str) -> Any:
    """A number where the text is one, else the text."""
    return _number(text, whole=all(part.get("type") != "number" for part in node.schema["anyOf"]))


def _list(node: Node, entries: list[Any]) -> Any:
    return None if not entries and node.nullable else entries


def fits(node: Node, value: Any) -> bool:
    """Whether a leaf's field can hold the value, so that reading it gives the same again."""
    if value is MISSING:
        return node.default is MISSING and not node.nullable
    texts = written(node, value)
    if any(_UNSEEN.search(text.replace("\n", "") if node.kind == "lines" else text) for text in texts):
        return False
    again = read_leaf(node, texts)
    if node.kind == "choices" and isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        return isinstance(again, list) and sorted(again) == sorted(value)  # some of several: in no order
    return same(again, value)


def misread(node: Node, value: Any) -> list[tuple[tuple[int, ...], str]]:
    """(place in the value, what is wrong) of texts where numbers are wanted, and of a value that is missing."""
    wanted = (
        "a whole number"
        if "integer" in {node.kind, *([node.item().kind] if node.kind == "numbers" else [])}
        else "a number"
    )
    if node.kind in {"integer", "number"} and isinstance(value, str):
        return [((), f"write {wanted}, not “{value}”")]
    if node.kind == "numbers" and isinstance(value, list):
        return [
            ((place,), f"write {wanted}, not “{entry}”") for place, entry in enumerate(value) if isinstance(entry, str)
        ]
    return [((), "a value is needed")] if value is MISSING else []
