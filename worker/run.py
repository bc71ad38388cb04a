"""One attempt at a job: claim, fetch, run the child, pass its events on, publish."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import RowMapping
from sqlalchemy.exc import DBAPIError

from store import jobs, outcomes
from store.leases import Device, Lease, LeaseLost, claim_job, let_go
from store.objects import ObjectsAway, ObjectsError
from store.outcomes import NewArtifact
from worker import artifacts, checkpoints, inputs
from worker.child import Child, Done, Ending, Failed, Reason, Stopped
from worker.files import Escape
from worker.heartbeat import Heartbeat, MustStop
from worker.inputs import InputGone
from worker.journal import Journal, Malformed
from worker.live_log import live_log
from worker.sandbox.box import engine_box, environment
from worker.service import Worker

Json = dict[str, Any]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Made:
    """What an attempt came to when the engine was done: files that lie in the object store, not yet seen by anyone."""

    files: Sequence[NewArtifact]
    report: Json


def run_job(worker: Worker, id_: str) -> None:
    """Runs a job to its end, if it is to be had. What fails on our side (database, object store) leaves the row to the
    sweeper, which gives it to another worker when the lease has run out."""
    settings = worker.settings
    device: Device = "cpu" if settings.device == "cpu" else "gpu"
    try:
        lease = claim_job(worker.database, id_, worker.name, device, settings.lease_seconds)
        if lease is None:
            return
        log.info("%s: attempt %d", id_, lease.attempt)
        with worker.job_folder() as folder:
            _Attempt(worker, lease, folder).run()
    except LeaseLost:
        log.warning("%s: the lease was lost, nothing is published", id_)
    except (ObjectsError, DBAPIError) as error:
        log.warning("%s: left to another attempt: %s", id_, error)


class _Attempt:
    def __init__(self, worker: Worker, lease: Lease, folder: Path) -> None:
        self.worker = worker
        self.lease = lease
        self.folder = folder
        self.log_tail = ""
        self.times = {"waiting": lease.waited}
        row = jobs.find(worker.database, lease.id, lease.workspace_id)
        if row is None:
            raise LeaseLost(lease.id)
        self.row: RowMapping = row
        self.journal = Journal(worker.database, lease, len(jobs.steps(worker.database, lease.id)))

    def run(self) -> None:
        outcome = self._under_lease()
        self.times |= self.journal.times
        times = {name: round(seconds, 3) for name, seconds in self.times.items()}
        database, lease = self.worker.database, self.lease
        if outcome in ("lease-lost", "shutdown"):
            log.warning("%s: attempt %d ends: %s", lease.id, lease.attempt, outcome)
            if outcome == "shutdown":
                let_go(database, lease)
            return
        self.journal.flush()
        if isinstance(outcome, Made):
            outcomes.succeed(database, lease, outcome.files, outcome.report, times)
        elif isinstance(outcome, Failed):
            outcomes.fail(database, lease, outcome.error, times)
        else:
            outcomes.cancel(database, lease, times)
        self.worker.objects.delete_all(checkpoints.prefix(lease.id))

    def _under_lease(self) -> Made | Failed | Reason:
        with Heartbeat(self.worker, self.lease, self.journal) as heartbeat:
            try:
                self._fetch(heartbeat)
                ending = self._compute(heartbeat)
                if isinstance(ending, Stopped):
                    return ending.reason
                return ending if isinstance(ending, Failed) else self._publish(ending, heartbeat)
            except MustStop as stop:
                return stop.reason
            except InputGone as error:
                return self._failed("input-gone", str(error))
            except (Escape, FileNotFoundError) as error:
                return self._failed("protocol", f"the engine's process did not leave what it should: {error}")

    def _failed(self, kind: str, message: str) -> Failed:
        return Failed({"kind": kind, "message": message, "where": "", "log_tail": self.log_tail})

    def _fetch(self, heartbeat: Heartbeat) -> None:
        """Model, data, spec and the checkpoints of earlier attempts into the job's folder."""
        began = time.monotonic()
        place, workspace = self.folder / "inputs", self.lease.workspace_id
        self.model = inputs.fetch(self.worker, self.row.model_id, workspace, place)
        heartbeat.check()
        self.data = None
        if self.row.dataset_id is not None:
            self.data = inputs.fetch(self.worker, self.row.dataset_id, workspace, place)
        heartbeat.check()
        models = {self.row.model_id: self.model}  # a step may name it too
        for id_ in jobs.other_models(self.worker.database, self.lease.id):
            models[id_] = inputs.fetch(self.worker, id_, workspace, place)
            heartbeat.check()
        self.models = inputs.list_models(models, place)
        place.joinpath("spec.json").write_text(json.dumps(self.row.spec))
        found = checkpoints.restore(self.worker.objects, self.lease.id, self.folder / "out")
        log.info("%s: %d checkpoints of earlier attempts", self.lease.id, len(found))
        heartbeat.check()
        self.times["fetching"] = time.monotonic() - began

    def _command(self) -> list[str]:
        settings, place = self.worker.settings, self.folder
        command = [*self.worker.engine, "run", str(place / "inputs/spec.json"), "--model", str(self.model.path)]
        if self.data is not None:
            command += ["--data", str(self.data.path)]
        if self.model.architecture is not None:
            command += ["--architecture", json.dumps(self.model.architecture)]
        command += ["--models", str(self.models)]
        device = "cpu" if settings.device == "cpu" else "cuda"  # it sees one GPU
        command += ["--out", str(place / "out"), "--device", device, "--threads", str(settings.threads)]
        return [*command, "--json", "--watch-stdin"]

    def _compute(self, heartbeat: Heartbeat) -> Ending:
        """Runs the child to its end, whatever that is."""
        worker, settings = self.worker, self.worker.settings
        outcomes.record(worker.database, self.lease, sandbox=worker.rung, device_used=settings.device)
        box = engine_box(worker.rung, self.folder, worker.limits, settings.device)
        variables = environment(self.folder, settings.threads, settings.device)
        log_key, log_path = f"jobs/{self.lease.id}/log", self.folder / "log"
        with (
            Child(self._command(), box, variables, log_path) as child,
            live_log(worker.objects, log_key, log_path, heartbeat),
        ):
            heartbeat.child(child)
            for event in child.events():
                try:
                    self.journal.note(event)
                    if event["event"] == "checkpoint":
                        self._save_checkpoint(event)
                except (Malformed, Escape) as error:
                    child.stop("protocol", f"the engine's process broke the rules: {error}")
            ending = child.ending()
            self.log_tail = child.log.tail()
        if ending not in (Stopped("lease-lost"), Stopped("shutdown")):
            worker.objects.put_file(log_key, log_path)
        return ending

    def _save_checkpoint(self, event: Json) -> None:
        name = event.get("path")
        if not isinstance(name, str):
            raise Malformed("a checkpoint without a path")
        try:
            checkpoints.save(self.worker.objects, self.lease.id, self.folder / "out", name, self.folder / "outgoing")
        except FileNotFoundError:
            log.info("%s: the checkpoint %s has been replaced or dropped meanwhile", self.lease.id, name)
        except ObjectsAway as error:
            log.warning("%s: the checkpoint %s is not stored: %s", self.lease.id, name, error)

    def _publish(self, done: Done, heartbeat: Heartbeat) -> Made:
        began = time.monotonic()
        inspection = done.event.get("inspection")
        files, report = artifacts.store(
            self.worker.objects,
            self.lease,
            self.folder / "out",
            self.folder / "outgoing",
            inspection if isinstance(inspection, dict) else None,
        )
        heartbeat.check()
        self.times["publishing"] = time.monotonic() - began
        return Made(files, report)
