"""Every error that leaves an endpoint becomes a problem: ours, the framework's, the store's and the drivers'."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from http import HTTPStatus

import psycopg
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route

from api.pages.site import problem_page
from api.problems import (
    BodyTooLarge,
    BodyUnreadable,
    InUseByJob,
    MethodNotAllowed,
    NotFound,
    Problem,
    RequestInvalid,
    Unavailable,
    Unexpected,
    UploadAgain,
    UploadIncomplete,
    fault,
    pointer,
)
from store.objects import ObjectsAway, UploadTooLarge
from store.uploads import BlobVanished, InUse


def install(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Every error that leaves an endpoint becomes a problem. `routes` are looked at for the methods of an address."""

    async def problem(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException) and error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            # The framework names the methods of the first route with this path; others may have the same one.
            allowed = ", ".join(sorted(_methods(routes, request)))
            told: Problem = MethodNotAllowed(f"it takes {allowed}", headers={"Allow": allowed})
        else:
            told = translate(error)
        return problem_page(request, told) if _wants_page(request) else told.render()

    for kind in (
        *(Problem, RequestValidationError, HTTPException, InUse, BlobVanished, UploadTooLarge, ObjectsAway),
        *(OperationalError, sqlite3.OperationalError, psycopg.OperationalError, ClientDisconnect, Exception),
    ):
        app.add_exception_handler(kind, problem)


def _wants_page(request: Request) -> bool:
    """A browser at a page's address; the addresses of programs answer them alike whoever asks."""
    return not request.url.path.startswith("/v1/") and "text/html" in request.headers.get("accept", "")


def translate(error: Exception) -> Problem:
    """The problem that an exception is told as."""
    match error:
        case Problem():
            return error
        case RequestValidationError():
            return _validation(error)
        case HTTPException():
            return _http(error)
        case InUse():
            return InUseByJob(f"{error} needs it and isn't finished: cancel that job first, or wait")
        case BlobVanished():
            return UploadAgain("send the same upload once more")
        case UploadTooLarge():
            return BodyTooLarge(str(error), headers={"Connection": "close"})
        case ObjectsAway():
            return Unavailable("the object store can't be reached; try again", headers={"Retry-After": "5"})
        case OperationalError() | sqlite3.OperationalError() | psycopg.OperationalError():
            return Unavailable("the database can't be reached; try again", headers={"Retry-After": "5"})
        case ClientDisconnect():
            return UploadIncomplete("the connection was closed before the body's end; nothing was kept")
        case _:
            return Unexpected("the service's log tells more")


def _validation(error: RequestValidationError) -> Problem:
    faults = []
    for entry in error.errors():
        where, *path = entry["loc"]
        faults.append(fault(pointer(*path), entry["msg"], str(where)))
    if all(entry["in"] == "path" for entry in faults):
        return NotFound("no such id")
    return RequestInvalid("; ".join(f"{entry['pointer'][1:]}: {entry['detail']}" for entry in faults), faults)


def _methods(routes: Sequence[BaseRoute], request: Request) -> set[str]:
    matching = (route for route in routes if route.matches(request.scope)[0] is not Match.NONE)
    return {method for route in matching if isinstance(route, Route) for method in route.methods or ()}


def _http(error: HTTPException) -> Problem:
    """What the framework itself refuses."""
    if error.status_code == HTTPStatus.NOT_FOUND:
        return NotFound("no such address; /docs lists them")
    return BodyUnreadable(str(error.detail), headers=error.headers)
