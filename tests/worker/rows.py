"""Uploads and jobs that the worker's tests begin with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from sqlalchemy import Row

from store import jobs, uploads
from store.database import Database
from store.leases import UPLOADS, UploadKind
from store.objects import Objects


async def _one(content: bytes) -> AsyncIterator[bytes]:
    yield content


def upload(database: Database, objects: Objects, kind: UploadKind, content: bytes, **changes) -> str:
    """A row that waits for its inspection, its bytes stored as the API stores them."""
    stored = asyncio.run(objects.put_stream(_one(content), 1 << 20))
    return uploads.add(database, objects, kind, stored, name="net", **{"filename": "net.pt2", **changes})


def submit(database: Database, model: str, *play: str, dataset: str | None = None, max_attempts: int = 3) -> str:
    """A queued job whose stand-in engine plays these acts, one a step."""
    steps = [(act, {}) for act in play]
    new = jobs.NewJob(
        model_id=model, dataset_id=dataset, spec={"play": list(play)}, steps=steps, max_attempts=max_attempts
    )
    return jobs.submit(database, new).id


def row(database: Database, kind: UploadKind, id_: str) -> Row[Any]:
    """The upload as it is now."""
    table = UPLOADS[kind]
    with database.read() as connection:
        return connection.execute(table.select().where(table.c.id == id_)).one()
