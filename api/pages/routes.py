"""Every page. The order is the order in which addresses are looked at: `/jobs/new` before `/jobs/{id}`."""

from __future__ import annotations

from api.pages import compare, compose, deletion, home, lists, static_files, upload, uploads, watch

ROUTERS = (
    home.router,
    lists.router,
    deletion.router,
    upload.router,
    uploads.router,
    compose.router,
    watch.router,
    compare.router,
    static_files.router,
)
