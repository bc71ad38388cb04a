"""Byte ranges of one file (RFC 9110, section 14)."""

from __future__ import annotations

import re

from api.problems import RangeUnsatisfiable

_ONE = re.compile(r"bytes=\s*(?P<first>\d{0,19})\s*-\s*(?P<last>\d{0,19})\s*", re.IGNORECASE)


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """(start, end) with `end` behind the last byte, or None for the whole file.

    What isn't one range of bytes is ignored, as the RFC allows: several ranges get the whole file.
    """
    match = _ONE.fullmatch(header or "")
    if match is None or not (match["first"] or match["last"]):
        return None
    if match["first"]:
        start = int(match["first"])
        end = min(int(match["last"]) + 1, size) if match["last"] else size
        if match["last"] and int(match["last"]) < start:
            return None
    else:
        start, end = max(size - int(match["last"]), 0), size
    if start >= end:
        raise RangeUnsatisfiable(f"the file has {size} bytes", headers={"Content-Range": f"bytes */{size}"})
    return start, end
