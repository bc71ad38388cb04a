"""Where a job's time went: waiting apart from running, and running by phase, from its events as they come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

# What begins with an event of which kind. Publishing has no event of its own: the worker tells its time at the end.
BEGINS = {
    "started": "starting",
    "loading": "loading",
    "step_started": "steps",
    "exporting": "exporting",
    "measuring": "measuring",
}
ORDER = ("fetching", "starting", "loading", "steps", "exporting", "measuring", "ending", "publishing")
WORDS = {
    "fetching": "fetching the files",
    "starting": "starting the engine",
    "loading": "reading model and data",
    "steps": "the steps",
    "exporting": "writing the files",
    "measuring": "measuring",
    "ending": "ending",
    "publishing": "publishing",
}


@dataclass(frozen=True)
class Phase:
    """`seconds` so far, where it goes on (`going`); None: still to come."""

    name: str
    seconds: float | None
    going: bool


@dataclass(frozen=True)
class Times:
    """`waited`: from the job's making to its first claim; `ran`: from then on. Phases are of the latest attempt."""

    waited: float
    ran: float | None
    phases: Sequence[Phase]


def times(row: Mapping[str, Any], events: Sequence[Mapping[str, Any]], now: datetime) -> Times:
    """`row`: a job's; `events`: those of this attempt that begin phases, oldest first; `now`: the database's clock."""
    created, started, end = row["created_at"], row["started_at"], row["finished_at"] or now
    if started is None:
        return Times(max(0.0, (end - created).total_seconds()), None, ())
    waited, ran = (started - created).total_seconds(), (end - started).total_seconds()
    told = row["times"]
    if row["state"] == "succeeded" and told:
        return Times(waited, ran, [_phase(name, told[name]) for name in ORDER if told.get(name)])
    # What the worker tells of a job that broke off lacks the phase that it broke off in.
    return Times(waited, ran, _from_events(events, end, going=row["state"] == "running"))


def _phase(name: str, seconds: float | None, *, going: bool = False) -> Phase:
    return Phase(WORDS[name], seconds, going)


def _from_events(events: Sequence[Mapping[str, Any]], end: datetime, *, going: bool) -> list[Phase]:
    spent: dict[str, float] = {}
    name, since = "", None
    for event in events:
        if event["kind"] == "state":  # claimed
            begun = "fetching"
        elif event["kind"] in BEGINS:
            begun = BEGINS[event["kind"]]
        else:
            continue
        if since is not None:
            spent[name] = spent.get(name, 0.0) + (event["at"] - since).total_seconds()
        name, since = begun, event["at"]
    if since is not None:
        spent[name] = spent.get(name, 0.0) + max(0.0, (end - since).total_seconds())
    to_come = [key for key in ORDER if key in BEGINS.values() or key in {"fetching", "publishing"}] if going else []
    return [_phase(key, spent.get(key), going=going and key == name) for key in ORDER if key in spent or key in to_come]
