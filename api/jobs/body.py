"""A JSON request body, read with bounds: the one thing that clients send which this process parses."""

from __future__ import annotations

import json
import math
from typing import Annotated, Any

from fastapi import Depends, Request

from api.problems import BodyTooLarge, BodyUnreadable, MediaTypeUnsupported

MAX_BYTES = 1024**2


async def _json_body(request: Request) -> Any:
    """The parsed body: finite numbers and whole text only, which is what both databases keep."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise MediaTypeUnsupported("send the job as application/json")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BYTES:
            raise BodyTooLarge(f"a job has at most {MAX_BYTES} bytes", headers={"Connection": "close"})
    try:
        return json.loads(body, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise BodyUnreadable(f"not JSON: {error}") from error


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no finite number")
    return number


JsonBody = Annotated[Any, Depends(_json_body)]
