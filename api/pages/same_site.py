"""Refuses what another site makes a browser send here. Browsers say where a request comes from (`Sec-Fetch-Site`, Fetch
Metadata, W3C); programs don't send the header and are not touched."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from api.problems import FromAnotherSite

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
OURS = frozenset({b"same-origin", b"none"})


class SameSite:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in SAFE:
            said = next((value for name, value in scope["headers"] if name == b"sec-fetch-site"), b"none")
            if said not in OURS:
                refusal = FromAnotherSite("another site's page sent this; open Niwaki's own page and do it there")
                await refusal.render()(scope, receive, send)
                return
        await self._app(scope, receive, send)
