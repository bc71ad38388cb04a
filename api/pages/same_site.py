"""Refuses what another site makes a browser send here. Browsers say where a request comes from: by `Sec-Fetch-Site`
(Fetch Metadata, W3C) on HTTPS and loopback, and by `Origin` (RFC 6454) on plain HTTP, where it must name the host that
was asked. Programs send neither and are not touched."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.problems import FromAnotherSite

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
OURS = frozenset({"same-origin", "none"})


class SameSite:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in SAFE and _elsewhere(Headers(scope=scope)):
            refusal = FromAnotherSite("another site's page sent this; open Niwaki's own page and do it there")
            await refusal.render()(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _elsewhere(headers: Headers) -> bool:
    if (said := headers.get("sec-fetch-site")) is not None:
        return said not in OURS
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] != headers.get("host")
