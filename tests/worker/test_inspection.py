"""Inspections of uploads, with a stand-in engine in a real box."""

from __future__ import annotations

import pytest

from store.leases import claim_upload
from tests.worker.rows import row, upload
from tests.worker.standin import ENGINE
from worker.inspection import inspect_upload
from worker.service import open_worker


@pytest.fixture
def worker(settings):
    with open_worker(settings, ENGINE) as opened:
        yield opened


@pytest.mark.parametrize(("kind", "said"), [("model", "model"), ("dataset", "data")])
def test_an_upload_becomes_ready(worker, kind, said):
    id_ = upload(worker.database, worker.objects, kind, b"12345")
    inspect_upload(worker, kind, id_)
    found = row(worker.database, kind, id_)
    assert found.state == "ready", found.problem
    assert found.inspection == {"kind": said, "bytes": 5, "name": "net.pt2"}


@pytest.mark.parametrize(
    ("filename", "seen"),
    [("lénet 2.pt2", "lénet 2.pt2"), ("-o", "-o"), ("spec.json", "spec.json"), ("..", "file"), ("é" * 150, "file")],
)
def test_the_engine_sees_the_users_own_file_name(worker, filename, seen):
    id_ = upload(worker.database, worker.objects, "model", b"12345", filename=filename)
    inspect_upload(worker, "model", id_)
    assert row(worker.database, "model", id_).inspection["name"] == seen


@pytest.mark.parametrize(
    ("content", "kind"), [(b"bad", "model-unreadable"), (b"crash", "crashed"), (b"silent", "protocol")]
)
def test_an_upload_is_rejected_with_the_reason(worker, content, kind):
    id_ = upload(worker.database, worker.objects, "model", content)
    inspect_upload(worker, "model", id_)
    found = row(worker.database, "model", id_)
    assert found.state == "rejected"
    assert found.problem["kind"] == kind


def test_an_upload_in_other_hands_is_left_alone(worker):
    id_ = upload(worker.database, worker.objects, "model", b"12345")
    assert claim_upload(worker.database, "model", id_, "another", 60, 3)
    inspect_upload(worker, "model", id_)
    assert row(worker.database, "model", id_).state == "inspecting"
