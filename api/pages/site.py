"""What every page is made with: templates, how figures are written, static files, the headers of an answer.

Pages are HTML from the server. A script may make one livelier, and none is needed to use it; so each address that a
form posts to answers with a page or with a redirect.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.background import BackgroundTask
from starlette.responses import HTMLResponse, RedirectResponse, Response

from api.pages import words
from api.problems import Problem

FOLDER = Path(__file__).parent
STATIC = FOLDER / "static"
HEADERS = {
    # Nothing from anywhere else, nothing inline: an uploaded name can't become code.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def page(template: str, *, status: int = 200, background: BackgroundTask | None = None, **context: Any) -> HTMLResponse:
    """The page that a template makes of its context. Half a character, which only escapes in JSON have, is shown as its
    escape."""
    text = _environment().get_template(template).render(context)
    return HTMLResponse(text.encode("utf-8", "backslashreplace"), status, HEADERS, background=background)


def go(address: str, background: BackgroundTask | None = None) -> RedirectResponse:
    """After a form's post: look there (303)."""
    return RedirectResponse(address, 303, HEADERS, background=background)


def problem_page(request: Request, problem: Problem) -> Response:
    """An error as a page, with its faults named."""
    answer = page("problem.html", status=problem.status, problem=problem, path=request.url.path)
    answer.headers.update(problem.headers)
    return answer


@cache
def static_address(name: str) -> str:
    """Where a static file is. Its content is part of the address, so that browsers may keep it for good."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]
    return f"/static/{name}?v={digest}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.do"],
    )
    environment.filters |= {
        "bytes": words.bytes_,
        "count": words.count,
        "short": words.short,
        "seconds": words.seconds,
        "percent": words.percent,
        "moment": words.moment,
        "readable": _readable,
    }
    environment.globals["static"] = static_address
    return environment


def _readable(value: Mapping[str, Any] | list[Any]) -> str:
    """JSON for people."""
    return json.dumps(value, indent=2, ensure_ascii=False)
