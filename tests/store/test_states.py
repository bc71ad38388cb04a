"""The transition table, and a random walk through the real leases that must agree with it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import delete

from store import jobs, outcomes
from store.database import Database
from store.leases import Lease, LeaseLost, claim_job, renew
from store.settings import Settings
from store.states import FINISHED, Action, JobState, follow, sources
from store.sweep import sweep
from store.tables import job
from tests.store.rows import PAST, queue
from tests.store.test_outcomes import ERROR, ONNX

MAX_ATTEMPTS = 2


@given(st.lists(st.sampled_from(Action)))
def test_no_way_leads_out_of_a_finished_state(actions: list[Action]) -> None:
    state, path = JobState.QUEUED, [JobState.QUEUED]
    for action in actions:
        following = follow(state, action)
        assert (following is not None) == (state in sources(action))
        if following is not None:
            assert state not in FINISHED
            state = following
            path.append(state)
    for before, after in pairwise(path):
        assert after != JobState.QUEUED or before == JobState.RUNNING
        assert after not in {JobState.SUCCEEDED, JobState.FAILED} or before == JobState.RUNNING


def test_the_finished_states() -> None:
    assert {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED} == FINISHED


class Walk(RuleBasedStateMachine):
    """One job, workers that come and go and write late; the model is five plain values."""

    database: Database
    settings: Settings

    @initialize()
    def begin(self) -> None:
        self.id = queue(self.database, max_attempts=MAX_ATTEMPTS)
        self.state, self.attempt, self.expired, self.cancel = JobState.QUEUED, 0, False, False
        self.leases: list[Lease] = []
        self.version = 0

    def teardown(self) -> None:
        with self.database.write() as connection:
            connection.execute(delete(job))

    def row(self) -> Any:
        row = jobs.find(self.database, self.id)
        assert row is not None
        return row

    @rule(expired=st.booleans())
    def claim(self, expired: bool) -> None:
        lease = claim_job(self.database, self.id, f"w{len(self.leases)}", "cpu", PAST if expired else 45)
        free = self.state == JobState.QUEUED or (self.state == JobState.RUNNING and self.expired)
        assert (lease is not None) == (free and self.attempt < MAX_ATTEMPTS and not self.cancel)
        if lease is not None:
            self.leases.append(lease)
            self.state, self.attempt, self.expired = JobState.RUNNING, self.attempt + 1, expired
            assert lease.attempt == self.attempt

    def write(self, data: st.DataObject, call: Any) -> bool:
        """Whether a write under one of the leases so far went through; it must, exactly where the lease is current."""
        assume(self.leases)
        lease = data.draw(st.sampled_from(self.leases))
        current = self.state == JobState.RUNNING and lease.attempt == self.attempt
        if not current:
            with pytest.raises(LeaseLost):
                call(lease)
        else:
            call(lease)
        return current

    @rule(data=st.data(), expired=st.booleans())
    def renew(self, data: st.DataObject, expired: bool) -> None:
        if self.write(data, lambda lease: renew(self.database, lease, PAST if expired else 45)):
            self.expired = expired

    @rule(data=st.data())
    def report(self, data: st.DataObject) -> None:
        self.write(data, lambda lease: outcomes.record(self.database, lease, [("progress", {})], progress={"x": 1}))

    @rule(data=st.data(), end=st.sampled_from([Action.SUCCEED, Action.FAIL, Action.CANCEL]))
    def end(self, data: st.DataObject, end: Action) -> None:
        calls = {
            Action.SUCCEED: lambda lease: outcomes.succeed(self.database, lease, [ONNX], {}),
            Action.FAIL: lambda lease: outcomes.fail(self.database, lease, ERROR),
            Action.CANCEL: lambda lease: outcomes.cancel(self.database, lease),
        }
        if self.write(data, calls[end]):
            self.move(end)

    def move(self, action: Action) -> None:
        following = follow(self.state, action)
        assert following is not None
        self.state = following

    @rule()
    def request_cancel(self) -> None:
        jobs.request_cancel(self.database, self.id)
        if self.state not in FINISHED:
            self.cancel = True
        if self.state == JobState.QUEUED:
            self.move(Action.CANCEL)

    @precondition(lambda self: self.state == JobState.RUNNING)
    @rule()
    def sweep(self) -> None:
        sweep(self.database, self.settings)
        if self.expired:
            last = Action.GIVE_UP if self.attempt == MAX_ATTEMPTS else Action.EXPIRE
            self.move(Action.CANCEL if self.cancel else last)

    @invariant()
    def agrees(self) -> None:
        row = self.row()
        assert (row["state"], row["attempt"]) == (self.state, self.attempt)
        assert row["cancel_requested"] == self.cancel
        assert bool(jobs.artifacts(self.database, self.id)) == (self.state == JobState.SUCCEEDED)
        assert (row["finished_at"] is not None) == (self.state in FINISHED)
        assert row["version"] >= self.version
        self.version = row["version"]
        states = [e["data"]["state"] for e in jobs.events(self.database, self.id) if e["kind"] == "state"]
        assert states[-1] == self.state


def test_leases_agree_with_the_table_whatever_happens(database: Database, tmp_path: Any) -> None:
    walk = type("Walk", (Walk,), {"database": database, "settings": Settings(data_dir=tmp_path)})
    run_state_machine_as_test(
        walk,
        settings=settings(
            max_examples=40,
            stateful_step_count=15,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
