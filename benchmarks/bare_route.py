"""The peer of a status poll: a FastAPI route that does the same one-row SELECT with the bare driver, and nothing else.

`uvicorn --factory benchmarks.bare_route:create_app` with NIWAKI_DATABASE_URL and BARE_SQL, the poll's own statement.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from typing import Any

import psycopg
from fastapi import FastAPI
from psycopg.rows import dict_row
from starlette.responses import Response


def create_app() -> FastAPI:
    app = FastAPI()
    url = os.environ["NIWAKI_DATABASE_URL"]
    statement = os.environ["BARE_SQL"]
    local = threading.local()

    def connection() -> Any:
        if not hasattr(local, "connection"):
            if url.startswith("sqlite"):
                local.connection = sqlite3.connect(url.split("///", 1)[1])
                local.connection.row_factory = sqlite3.Row
            else:
                plain = url.replace("postgresql+psycopg", "postgresql")
                local.connection = psycopg.connect(plain, autocommit=True, row_factory=dict_row, prepare_threshold=5)
        return local.connection

    @app.get("/v1/jobs/{job_id}")
    def poll(job_id: str) -> Response:
        row = dict(connection().execute(statement, (job_id, "default")).fetchone())
        return Response(json.dumps(row, default=str), media_type="application/json")

    return app
