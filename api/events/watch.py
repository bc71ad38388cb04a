"""Waits for jobs to change: one SELECT a tick for all streams of this process, however many there are."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import bindparam, select
from starlette.concurrency import run_in_threadpool

from store.database import Database
from store.tables import job

TICK_SECONDS = 0.2

_VERSIONS = select(job.c.id, job.c.version).where(job.c.id.in_(bindparam("ids", expanding=True)))


class _Waiter(NamedTuple):
    version: int
    changed: asyncio.Future[None]


class Watch:
    """Used from one event loop. Every write to a job, its events among them, makes its `version` grow."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[str, set[_Waiter]] = {}
        self._task: asyncio.Task[None] | None = None

    async def changed(self, id_: str, version: int, seconds: float) -> bool:
        """Waits until the job is at another version, or is gone; False where it still isn't after `seconds`."""
        waiter = _Waiter(version, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(id_, set()).add(waiter)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look())
        try:
            async with asyncio.timeout(seconds):
                await waiter.changed
        except TimeoutError:
            return False
        finally:
            self._waiting[id_].discard(waiter)
            if not self._waiting[id_]:
                del self._waiting[id_]
        return True

    async def _look(self) -> None:
        while self._waiting:
            await asyncio.sleep(TICK_SECONDS)
            versions = await run_in_threadpool(self._versions, list(self._waiting))
            for id_, waiters in self._waiting.items():
                for waiter in waiters:
                    if versions.get(id_) != waiter.version and not waiter.changed.done():
                        waiter.changed.set_result(None)

    def _versions(self, ids: Sequence[str]) -> dict[str, int]:
        with self._database.read() as connection:
            return {row.id: row.version for row in connection.execute(_VERSIONS, {"ids": ids})}
