"""`/static/NAME`: our own few scripts, styles and pictures, read once. Their address changes with their content."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.conditional import etag, matches
from api.pages.site import STATIC, static_address
from api.problems import NotFound

TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
router = APIRouter(include_in_schema=False)


@router.get("/static/{name}")
def static(request: Request, name: str) -> Response:
    path = STATIC / name
    if path.suffix not in TYPES or not path.is_file() or path.parent != STATIC:
        raise NotFound(f"no file is called {name}")
    address = static_address(name)
    tag = etag(address.rpartition("=")[2])
    kept = "public, max-age=31536000, immutable" if str(request.url).endswith(address) else "no-cache"
    headers = {"Cache-Control": kept, "ETag": tag, "X-Content-Type-Options": "nosniff"}
    if matches(request.headers.get("if-none-match"), tag):
        return Response(status_code=304, headers=headers)
    return Response(path.read_bytes(), headers=headers, media_type=TYPES[path.suffix])
