"""States of jobs and uploads, and the one table that says which may follow which.

queued → running → succeeded | failed | canceled
queued → canceled            canceled before anyone took it
running → queued             by the sweeper alone, when a lease ran out or was let go
running → running            a worker takes over an expired lease; also counts as an attempt

inspecting → ready | rejected
"""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


class UploadState(StrEnum):
    INSPECTING = "inspecting"
    READY = "ready"
    REJECTED = "rejected"


class Action(StrEnum):
    """What moves a job. One that runs is claimed, expired or given up when its lease ran out."""

    CLAIM = "claim"
    SUCCEED = "succeed"
    FAIL = "fail"
    CANCEL = "cancel"
    EXPIRE = "expire"
    GIVE_UP = "give_up"


TRANSITIONS: dict[JobState, dict[Action, JobState]] = {
    JobState.QUEUED: {Action.CLAIM: JobState.RUNNING, Action.CANCEL: JobState.CANCELED},
    JobState.RUNNING: {
        Action.CLAIM: JobState.RUNNING,
        Action.SUCCEED: JobState.SUCCEEDED,
        Action.FAIL: JobState.FAILED,
        Action.CANCEL: JobState.CANCELED,
        Action.EXPIRE: JobState.QUEUED,
        Action.GIVE_UP: JobState.FAILED,
    },
    JobState.SUCCEEDED: {},
    JobState.FAILED: {},
    JobState.CANCELED: {},
}

FINISHED = frozenset(state for state, actions in TRANSITIONS.items() if not actions)


def follow(state: JobState, action: Action) -> JobState | None:
    """The state after `action`, or None where it isn't allowed."""
    return TRANSITIONS[state].get(action)


def sources(action: Action) -> tuple[JobState, ...]:
    """The states in which `action` is allowed."""
    return tuple(state for state, actions in TRANSITIONS.items() if action in actions)
