"""JSON from strangers: one meaning, and bounds on what it takes to hold it."""

from __future__ import annotations

import json
from typing import Any

from compression.errors import IntakeError

MOST_PARTS = 400_000
"""Objects and lists in one text: parsed and checked, each takes up to 1 KiB."""
MOST_VALUES = 4_000_000


def parse_json(text: bytes | str, where: str) -> Any:
    """Parsed JSON; a key that comes twice, NaN, nesting without end or a bomb is an IntakeError."""
    data = text.encode(errors="surrogatepass") if isinstance(text, str) else text
    if data.count(b"{") + data.count(b"[") > MOST_PARTS:
        raise IntakeError(f"more than {MOST_PARTS} objects and lists", where, "model-unsafe")
    if data.count(b",") > MOST_VALUES:
        raise IntakeError(f"more than {MOST_VALUES} values", where, "model-unsafe")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a key comes twice")
        return found

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise IntakeError(f"not valid JSON: {str(error)[:200]}", where) from error
