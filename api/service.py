"""What every endpoint works with, opened once a process."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from celery import Celery
from fastapi import Depends, Request
from starlette.background import BackgroundTask

from api.events.watch import Watch
from store.database import Database, open_database
from store.doorbell import Ring, job_rings, open_doorbell, ring
from store.objects import Objects, open_objects
from store.roster import served_queues
from store.settings import Settings


@dataclass(frozen=True)
class Service:
    settings: Settings
    database: Database
    objects: Objects
    doorbell: Celery
    watch: Watch

    def ring_later(self, rings: Iterable[Ring]) -> BackgroundTask:
        """Rings once the answer is out: what it tells of is committed, and a broker that is away delays nobody."""
        return BackgroundTask(ring, self.doorbell, list(rings))

    def ring_for_job(self, id_: str, device: str) -> BackgroundTask:
        with self.database.read() as connection:
            served = served_queues(connection, self.settings.worker_seconds)
        return self.ring_later(job_rings(id_, device, served))

    def close(self) -> None:
        self.database.close()
        self.doorbell.close()


def open_service(settings: Settings) -> Service:
    database = open_database(settings)
    return Service(settings, database, open_objects(settings), open_doorbell(settings), Watch(database))


async def _service(request: Request) -> Service:  # async: a plain function would cost a thread's turn
    service: Service = request.app.state.service
    return service


InService = Annotated[Service, Depends(_service)]
