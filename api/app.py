"""The HTTP service, for programs (`/v1`) and for people: `uvicorn --factory api.app:create_app`, any number of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.responses import Response

from api import translation
from api.artifacts import routes as artifacts
from api.compare import routes as compare
from api.docs.page import render
from api.events import routes as events
from api.health import routes as health
from api.jobs import routes as jobs
from api.methods import routes as methods
from api.openapi import document
from api.pages.routes import ROUTERS as PAGES
from api.pages.same_site import SameSite
from api.service import open_service
from api.uploads import routes as uploads
from store.settings import Settings


def create_app(settings: Settings | None = None) -> FastAPI:
    """Opens database, object store and broker; the tables must be there (`python -m store migrate`)."""
    service = open_service(settings or Settings())

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(
        title="Niwaki",
        version="0.1.0",
        description="Compresses trained neural networks: upload a model, say what to do, download a smaller one.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    app.add_middleware(SameSite)
    routers = [feature.router for feature in (jobs, uploads, methods, events, artifacts, compare, health)]
    routers += PAGES
    for router in routers:
        # Not include_router: its routes are matched router by router, a tenth of a status poll's time.
        app.router.routes.extend(router.routes)
    translation.install(app, [route for router in routers for route in router.routes])
    described = document(app)
    app.openapi = lambda: described  # type: ignore[method-assign] # FastAPI's own way to replace it
    page = render(described)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return page

    return app
