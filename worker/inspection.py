"""The inspection of an upload: what the engine's child finds in it becomes the row's, `ready` or `rejected`."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from sqlalchemy.exc import DBAPIError

from store import outcomes
from store.leases import Lease, LeaseLost, UploadKind, claim_upload
from store.objects import ObjectsError
from worker import inputs
from worker.child import Child, Done, Ending, Failed, Stopped
from worker.heartbeat import Heartbeat, MustStop
from worker.inputs import InputGone
from worker.sandbox.box import engine_box, environment
from worker.service import Worker

INSPECT_SECONDS = 600

Json = dict[str, Any]

log = logging.getLogger(__name__)


def inspect_upload(worker: Worker, kind: UploadKind, id_: str) -> None:
    """Inspects a model or a dataset, if it waits for that. What fails on our side leaves the row to the sweeper."""
    settings = worker.settings
    try:
        lease = claim_upload(worker.database, kind, id_, worker.name, settings.lease_seconds, settings.max_attempts)
        if lease is not None:
            with worker.job_folder() as folder:
                _inspect(worker, lease, kind, folder)
    except LeaseLost:
        log.warning("%s: deleted or taken over while it was inspected", id_)
    except MustStop as stop:
        log.warning("%s: the inspection ends: %s", id_, stop.reason)
    except (ObjectsError, DBAPIError) as error:
        log.warning("%s: left to another attempt: %s", id_, error)


def _inspect(worker: Worker, lease: Lease, kind: UploadKind, folder: Path) -> None:
    with Heartbeat(worker, lease) as heartbeat:
        try:
            ending = _look(worker, lease, kind, folder, heartbeat)
        except InputGone as error:
            ending = Failed({"kind": "input-gone", "message": str(error), "where": ""})
        heartbeat.check()
    if isinstance(ending, Stopped):
        return
    inspection = ending.event.get("inspection") if isinstance(ending, Done) else None
    if isinstance(ending, Failed):
        outcomes.rejected(worker.database, lease, ending.error)
    elif isinstance(inspection, dict):
        outcomes.inspected(worker.database, lease, inspection)
    else:
        said = {"kind": "protocol", "message": "the engine's process said nothing about the file", "where": ""}
        outcomes.rejected(worker.database, lease, said)


def _look(worker: Worker, lease: Lease, kind: UploadKind, folder: Path, heartbeat: Heartbeat) -> Ending:
    given = inputs.fetch(worker, lease.id, lease.workspace_id, folder / "inputs")
    command = [*worker.engine, "inspect", str(given.path), "--kind", "model" if kind == "model" else "data"]
    if given.architecture is not None:
        command += ["--architecture", json.dumps(given.architecture)]
    command += ["--json", "--watch-stdin"]
    box = engine_box(worker.rung, folder, worker.limits)
    with Child(command, box, environment(folder, worker.settings.threads), folder / "log", INSPECT_SECONDS) as child:
        heartbeat.child(child)
        for _ in child.events():
            heartbeat.check()
        return child.ending()
