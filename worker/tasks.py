"""The Celery side of a worker: two tasks whose messages carry an id, and the process that takes them one at a time."""

from __future__ import annotations

import logging
import warnings
from typing import Any

from celery import signals
from celery.exceptions import SecurityWarning

from store.doorbell import INSPECT, RUN_JOB
from store.leases import UploadKind
from worker.inspection import inspect_upload
from worker.run import run_job
from worker.service import Worker
from worker.sweeper import sweeping


def serve_queues(worker: Worker) -> None:
    """Takes messages from the queues of `worker.settings` until SIGTERM or SIGINT, which also end the running child.

    Tasks run in the main thread (Celery's solo pool): no message is fetched while a job runs, so none waits behind a
    long job while another worker is free; and the thread that starts a child outlives it, as PDEATHSIG wants.
    """
    app = worker.doorbell
    app.conf.update(worker_hijack_root_logger=False, worker_redirect_stdouts=False)

    @app.task(name=RUN_JOB)  # type: ignore[untyped-decorator]
    def run(id_: str) -> None:
        run_job(worker, id_)

    @app.task(name=INSPECT)  # type: ignore[untyped-decorator]
    def inspect(kind: UploadKind, id_: str) -> None:
        inspect_upload(worker, kind, id_)

    def stop(**_: Any) -> None:
        worker.stopping.set()

    signals.worker_shutting_down.connect(stop)
    # Celery warns root of messages that run code; ours are JSON ids, and the engine is in its box.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    logging.getLogger(__name__).info(
        "%s takes from %s, sandbox %s", worker.name, ", ".join(worker.settings.queues), worker.rung
    )
    with sweeping(worker):
        app.Worker(
            pool="solo",
            concurrency=1,
            queues=list(worker.settings.queues),
            hostname=worker.name,
            quiet=True,
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
        ).start()
