import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from store import jobs, uploads
from store.database import Database
from store.leases import claim_job
from store.objects import Objects, Stored, open_objects
from store.outcomes import succeed
from store.settings import Settings
from store.uploads import BlobVanished, InUse
from tests.store.rows import queue


@pytest.fixture
def folder(tmp_path: Path) -> Objects:
    return open_objects(Settings(data_dir=tmp_path))


def store(objects: Objects, data: bytes) -> Stored:
    async def chunks() -> AsyncIterator[bytes]:
        yield data

    return asyncio.run(objects.put_stream(chunks(), 1000))


def test_an_upload_waits_for_its_inspection(database: Database, folder: Objects) -> None:
    architecture = {"architecture": "lenet5", "arguments": {}}
    stored = store(folder, b"abc")
    id_ = uploads.add(
        database, folder, "model", stored, name="net", filename="net.safetensors", tags=["a"], architecture=architecture
    )
    assert id_.startswith("mdl_")
    row = uploads.find(database, "model", id_)
    assert row is not None
    assert (row["state"], row["attempt"], row["size"], row["sha256"]) == ("inspecting", 0, 3, stored.sha256)
    assert (row["tags"], row["architecture"]) == (["a"], architecture)
    assert row["rung_at"] is not None
    assert uploads.find(database, "dataset", id_) is None
    assert uploads.find(database, "model", id_, workspace="other") is None


def test_lists_go_from_new_to_old_in_pages(database: Database, folder: Objects) -> None:
    stored = store(folder, b"abc")
    ids = sorted(uploads.add(database, folder, "dataset", stored, name=str(n), filename="f") for n in range(5))
    page = uploads.listed(database, "dataset", limit=2)
    assert [row["id"] for row in page] == [ids[4], ids[3]]
    assert [row["id"] for row in uploads.listed(database, "dataset", limit=9, before=ids[3])] == ids[2::-1]
    assert uploads.listed(database, "dataset", limit=9, state="ready") == []
    assert uploads.listed(database, "dataset", limit=9, workspace="other") == []


def test_bytes_go_with_the_last_row_that_has_them(database: Database, folder: Objects) -> None:
    stored = store(folder, b"abc")
    model = uploads.add(database, folder, "model", stored, name="m", filename="f")
    dataset = uploads.add(database, folder, "dataset", store(folder, b"abc"), name="d", filename="f")
    assert uploads.remove(database, folder, "model", model, workspace="other") is False
    assert uploads.remove(database, folder, "model", model) is True
    assert folder.head(stored.key) == 3
    assert uploads.remove(database, folder, "dataset", dataset) is True
    assert folder.head(stored.key) is None
    assert uploads.remove(database, folder, "dataset", dataset) is False
    again = uploads.add(database, folder, "model", store(folder, b"abc"), name="m", filename="f")
    assert uploads.find(database, "model", again) is not None


def test_bytes_deleted_between_upload_and_row_are_noticed(database: Database, folder: Objects) -> None:
    first = uploads.add(database, folder, "model", store(folder, b"abc"), name="m", filename="f")
    late = store(folder, b"abc")  # found there, so not written
    uploads.remove(database, folder, "model", first)
    with pytest.raises(BlobVanished):
        uploads.add(database, folder, "model", late, name="m", filename="f")
    assert uploads.listed(database, "model", limit=9) == []


def test_no_row_is_ever_without_its_bytes(database: Database, folder: Objects) -> None:
    """The same bytes come and go in several threads at once; a row that was made has them, every time."""

    def come_and_go(number: int) -> int:
        made = 0
        for _ in range(12):
            stored = store(folder, b"abc")
            try:
                id_ = uploads.add(
                    database, folder, "model" if number % 2 else "dataset", stored, name="m", filename="f"
                )
            except BlobVanished:
                continue
            made += 1
            assert folder.head(stored.key) == 3
            assert uploads.remove(database, folder, "model" if number % 2 else "dataset", id_)
        return made

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(come_and_go, range(4))) > 0
    assert folder.list("blobs") == {}


def test_what_a_job_needs_is_not_deleted(database: Database, folder: Objects) -> None:
    stored = store(folder, b"abc")
    model = uploads.add(database, folder, "model", stored, name="m", filename="f")
    dataset = uploads.add(database, folder, "dataset", stored, name="d", filename="f")
    id_ = queue(database, model_id=model, dataset_id=dataset)
    with pytest.raises(InUse, match=id_):
        uploads.remove(database, folder, "model", model)
    with pytest.raises(InUse, match=id_):
        uploads.remove(database, folder, "dataset", dataset)
    lease = claim_job(database, id_, "w", "cpu", 45)
    assert lease is not None
    succeed(database, lease, [], {})
    assert uploads.remove(database, folder, "model", model)
    assert jobs.find(database, id_) is not None


def test_a_model_that_a_step_names_is_not_deleted(database: Database, folder: Objects) -> None:
    teacher = uploads.add(database, folder, "model", store(folder, b"abc"), name="m", filename="f")
    id_ = queue(database, other_models=[teacher])
    with pytest.raises(InUse, match=id_):
        uploads.remove(database, folder, "model", teacher)
    jobs.request_cancel(database, id_)
    assert uploads.remove(database, folder, "model", teacher)
