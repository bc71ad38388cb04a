"""Models that a job's steps name are fetched, and readable in the engine's box; or the job fails with the reason."""

from __future__ import annotations

import pytest

from store import jobs
from tests.worker.rows import upload
from tests.worker.standin import ENGINE
from worker.run import run_job
from worker.service import open_worker


@pytest.fixture
def embedded(embedded_settings):
    with open_worker(embedded_settings, ENGINE) as opened:
        yield opened


def test_the_engine_is_given_the_models_that_steps_name(embedded):
    database, objects = embedded.database, embedded.objects
    own = upload(database, objects, "model", b"own")
    weights = {"architecture": "lenet5"}
    teachers = [
        upload(database, objects, "model", b"first", architecture=weights),
        upload(database, objects, "model", b"second"),
    ]
    new = jobs.NewJob(own, None, {"play": ["work"]}, [("work", {})], 3, other_models=teachers)
    id_ = jobs.submit(database, new).id
    run_job(embedded, id_)
    row = jobs.find(database, id_)
    assert row.state == "succeeded", row.error
    listed = {own: ["own", None], teachers[0]: ["first", weights], teachers[1]: ["second", None]}
    assert row.report["models"] == listed


def test_a_step_may_name_the_jobs_own_model(embedded):
    database, objects = embedded.database, embedded.objects
    own = upload(database, objects, "model", b"own")
    id_ = jobs.submit(database, jobs.NewJob(own, None, {"play": ["work"]}, [("work", {})], 3, other_models=[own])).id
    run_job(embedded, id_)
    assert jobs.find(database, id_).report["models"] == {own: ["own", None]}


def test_bytes_that_are_gone_end_the_job(embedded):
    database, objects = embedded.database, embedded.objects
    own, teacher = (upload(database, objects, "model", content) for content in (b"own", b"teacher"))
    new = jobs.NewJob(own, None, {"play": ["work"]}, [("work", {})], 3, other_models=[teacher])
    id_ = jobs.submit(database, new).id
    objects.delete_all("blobs")
    run_job(embedded, id_)
    assert jobs.find(database, id_).error["kind"] == "input-gone"
