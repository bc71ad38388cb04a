"""The doorbell: Celery without tasks of its own. A message says "look at this row" and nothing else.

Nothing depends on its arrival: it is acknowledged on receipt, and whatever gets lost the sweeper rings for again.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from celery import Celery
from kombu.entity import Queue
from kombu.exceptions import KombuError

from store.leases import UploadKind
from store.mailbox import SCHEME
from store.settings import Queue as QueueName
from store.settings import Settings

RUN_JOB = "niwaki.run_job"  # one argument: the job's id
INSPECT = "niwaki.inspect"  # two arguments: "model" or "dataset", and its id

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ring:
    """One message: the task's name and its arguments, on a queue."""

    queue: QueueName
    task: str
    arguments: tuple[str, ...]


def job_rings(id_: str, device: str, served: Collection[str]) -> list[Ring]:
    """For a job that wants `device`. "auto" rings on every queue that a worker serves, and the claim decides; where
    none is `served`, on both: whoever comes first. Messages that nobody ever takes would pile up."""
    both: tuple[QueueName, ...] = ("cpu", "gpu")
    wanted = both if device == "auto" else both[1:] if device == "gpu" else both[:1]
    queues = [queue for queue in wanted if queue in served] or wanted
    return [Ring(queue, RUN_JOB, (id_,)) for queue in queues]


def upload_ring(kind: UploadKind, id_: str) -> Ring:
    return Ring("inspect", INSPECT, (kind, id_))


def open_doorbell(settings: Settings) -> Celery:
    """The Celery app: for the worker to put tasks on, and for everyone to `ring`."""
    app = Celery("niwaki", set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        task_acks_late=False,
        task_serializer="json",
        accept_content=["json"],
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,  # cancel goes by the database
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # a worker outlives its broker
        broker_connection_timeout=4,
        task_publish_retry=False,  # the sweeper is the retry
        task_queues=[_queue(name) for name in ("cpu", "gpu", "inspect")],
        task_default_queue="cpu",
        task_create_missing_queues=False,
        **_broker(settings),
    )
    return app


def _queue(name: str) -> Queue:
    # Messages go to a queue by its name (the default exchange), so that no table of bindings is needed.
    return Queue(name, routing_key=name)  # type: ignore[no-untyped-call]


def _broker(settings: Settings) -> dict[str, object]:
    if not settings.broker_url.startswith("filesystem://"):
        # A request must not wait for a broker that is away: one more try, at once.
        options = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "socket_connect_timeout": 2}
        return {"broker_url": settings.broker_url, "broker_transport_options": options}
    folder = Path(settings.broker_url.removeprefix("filesystem://"))
    messages, control = folder / "messages", folder / "control"
    for path in (messages, control):
        path.mkdir(parents=True, exist_ok=True)
    return {
        "broker_url": f"{SCHEME}://localhost",
        "broker_transport_options": {
            "data_folder_in": str(messages),
            "data_folder_out": str(messages),
            "control_folder": str(control),
            "polling_interval": settings.broker_poll_seconds,
        },
    }


def ring(app: Celery, rings: Iterable[Ring]) -> bool:
    """Sends messages, after the commit of what they tell of; False, and a line in the log, where the broker is away."""
    try:
        for item in rings:
            app.send_task(item.task, args=item.arguments, queue=item.queue)
    except (KombuError, OSError) as error:
        log.warning("the broker is away, the sweeper will ring again: %s", error)
        return False
    return True
