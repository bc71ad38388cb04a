"""What changes while a job goes on: state, steps, times, curves, the log's tail, its place in the queue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, func, or_, select

from api.pages.curves import curves
from api.pages.figures import Json, number, text
from api.pages.phases import BEGINS, times
from api.service import Service
from compression.registry import methods
from store import jobs
from store.clock import now
from store.objects import ObjectMissing, ObjectsAway
from store.roster import served_queues
from store.states import FINISHED, JobState
from store.tables import DEFAULT_WORKSPACE, event, job

TAIL_LINES = 40
TAIL_BYTES = 16 * 1024
MOST_PROGRESS = 400  # a long training tells of its progress for hours: so many of these events are drawn
RETRY = "It may have been chance: retry the job. If it fails again, the end of the log says more."
CHANGE = "The same job would fail again: compose it with changes."
ADVICE = {
    "spec-invalid": CHANGE,
    "method-inapplicable": CHANGE,
    "model-unreadable": "Export the model again as its page says, upload it, and compose the job with it.",
    "data-invalid": "Mend the data file, upload it, and compose the job with it.",
    "input-gone": "Upload the file again, then compose the job with it.",
    "verification-failed": "The original stands untouched. Leave the layer out of the step, or ask for less.",
    "out-of-memory": "Compose it with a smaller batch size, or run a worker that has more memory.",
    "killed": "See whether the machine ran out of memory; then retry it, or compose it with a smaller batch size.",
    "time-limit": "Compose it with fewer epochs, or give the worker a higher limit.",
    "worker_lost": "Its worker died each time: see what the worker's own output says, then retry the job.",
}


def live(service: Service, row: Mapping[str, Any]) -> Json:
    """All that changes while a job goes on."""
    steps = jobs.steps(service.database, row["id"])
    summaries = {name: method.summary for name, method in methods().items()}
    at, begun, trained, last = _events(service, row["id"], row["attempt"])
    return {
        "job": row,
        "finished": row["state"] in FINISHED,
        "now": at,
        "last_event": last,
        "steps": [_step(step, row["progress"], summaries) for step in steps],
        "said": _said(row, steps),
        "times": times(row, begun, at),
        "curves": curves(trained, [step["method"] for step in steps]),
        "log": _log_tail(service, row["id"]) or text(row["error"], "log_tail"),
        "advice": ADVICE.get(text(row["error"], "kind"), RETRY),
        "queue": _queue(service, row) if row["state"] == JobState.QUEUED else None,
    }


def _step(step: RowMapping, progress: Any, summaries: Mapping[str, str]) -> Json:
    """A step's row; while it runs with how far it is, as a share, and its own words for that."""
    here = step["state"] == "running" and number(progress, "index") == step["index"]
    return {
        "index": step["index"],
        "method": step["method"],
        "summary": summaries.get(step["method"], ""),
        "state": step["state"],
        "seconds": step["seconds"],
        "fraction": min(1.0, max(0.0, number(progress, "fraction") or 0.0)) if here else 0.0,
        "message": text(progress, "message") if here else "",
    }


def _said(row: Mapping[str, Any], steps: Sequence[RowMapping]) -> str:
    """What a screen reader is told, when it changes: states and steps, not every figure."""
    if row["state"] != JobState.RUNNING:
        verb = "has" if row["state"] in (JobState.SUCCEEDED, JobState.FAILED) else "is"
        return f"The job {verb} {row['state']}."
    if row["cancel_requested"]:
        return "The job is being canceled."
    running = next((step for step in steps if step["state"] == "running"), None)
    if running is None:
        done = all(step["state"] == "finished" for step in steps)
        return "The steps are done; the result is being written and measured." if done else "The job is starting."
    return f"Step {running['index'] + 1} of {len(steps)} is running: {running['method']}."


def _events(service: Service, id_: str, attempt: int) -> tuple[datetime, list[Any], list[Any], int]:
    """The database's time; this attempt's events that begin phases; metrics of all attempts with some of the progress
    between them; the id of the last event."""
    mine, begins = event.c.job_id == id_, event.c.kind.in_(("state", *BEGINS))
    with service.database.read() as connection:
        at = connection.execute(select(now())).scalar_one()
        progress = select(func.count()).where(mine, event.c.kind == "progress")
        count = connection.execute(progress).scalar_one()
        last = connection.execute(select(func.max(event.c.id)).where(mine)).scalar_one() or 0
        every = count // MOST_PROGRESS + 1
        shown: ColumnElement[bool] = (event.c.kind == "progress") & (event.c.id % every == 0)
        phases = select(event).where(mine, event.c.attempt == attempt, begins).order_by(event.c.id)
        trained = select(event).where(mine, or_(event.c.kind == "metric", shown)).order_by(event.c.id)
        begun = [row for row in connection.execute(phases).mappings() if row["data"].get("state") in (None, "running")]
        return at, begun, list(connection.execute(trained).mappings()), last


def _queue(service: Service, row: Mapping[str, Any]) -> Json:
    """How many jobs the same workers would take first, and whether such a worker is there."""
    wanted = ("cpu", "gpu") if row["device"] == "auto" else (row["device"],)
    with service.database.read() as connection:
        served = served_queues(connection, service.settings.worker_seconds)
        takes = [device for device in wanted if device in served] or wanted
        earlier = select(func.count()).where(
            job.c.workspace_id == DEFAULT_WORKSPACE,
            job.c.state == JobState.QUEUED,
            job.c.id < row["id"],  # ids go by time
            job.c.device.in_(("auto", *takes)),
        )
        before = connection.execute(earlier).scalar_one()
    return {"before": before, "served": any(device in served for device in wanted), "device": row["device"]}


def _log_tail(service: Service, id_: str) -> str:
    """The last lines of what the engine wrote, as far as the worker has stored them."""
    try:
        written = service.objects.tail(f"jobs/{id_}/log", TAIL_BYTES)
    except ObjectMissing:
        return ""
    except ObjectsAway:
        return "(The log can't be read now: the object store can't be reached.)"
    return "\n".join(written.decode("utf-8", "replace").splitlines()[-TAIL_LINES:])
