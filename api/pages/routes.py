"""Every page. The order is the order in which addresses are looked at: `/jobs/new` before `/jobs/{id}`."""

from __future__ import annotations

from api.pages import home, static_files

ROUTERS = (home.router, static_files.router)
