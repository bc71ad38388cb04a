import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from store.objects import ABANDONED_SECONDS, ObjectMissing, Objects, ObjectsAway, UploadTooLarge, open_objects
from store.settings import Settings
from tests.servers import free_ports

MIB = 1024**2


async def chunks(*values: bytes) -> AsyncIterator[bytes]:
    for value in values:
        yield value


def put(objects: Objects, *values: bytes, limit: int = 100 * MIB):
    return asyncio.run(objects.put_stream(chunks(*values), limit))


def read(objects: Objects, key: str, start: int = 0, end: int | None = None) -> bytes:
    async def collect() -> bytes:
        return b"".join([piece async for piece in await objects.stream(key, start, end)])

    return asyncio.run(collect())


def left_over(objects: Objects) -> list[str]:
    return [path.name for path in objects.incoming.iterdir()] + list(objects.list("incoming"))


def test_a_stream_is_stored_under_its_hash(objects: Objects) -> None:
    stored = put(objects, b"ab", b"", b"c")
    assert stored.sha256 == hashlib.sha256(b"abc").hexdigest()
    assert (stored.key, stored.size) == (f"blobs/{stored.sha256}", 3)
    assert objects.head(stored.key) == 3
    assert read(objects, stored.key) == b"abc"
    assert left_over(objects) == []


def test_an_empty_stream_is_an_object_too(objects: Objects) -> None:
    stored = put(objects)
    assert stored.size == 0
    assert read(objects, stored.key) == b""


def test_a_large_stream_goes_in_parts_and_comes_back_whole(objects: Objects, tmp_path: Path) -> None:
    pieces = [os.urandom(MIB) for _ in range(17)]
    stored = put(objects, *pieces)
    assert stored.sha256 == hashlib.sha256(b"".join(pieces)).hexdigest()
    objects.get_file(stored.key, tmp_path / "new" / "file")
    assert (tmp_path / "new" / "file").read_bytes() == b"".join(pieces)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


def test_the_same_bytes_again_are_not_written_again(objects: Objects) -> None:
    import obstore

    first = put(objects, b"same")
    before = obstore.head(objects.store, first.key)["last_modified"]
    time.sleep(1.1)  # S3 tells whole seconds
    assert put(objects, b"sa", b"me") == first
    assert obstore.head(objects.store, first.key)["last_modified"] == before
    assert objects.list("blobs") == {first.key: 4}


@pytest.mark.parametrize("limit", [9, 10])
def test_the_limit_is_exact_and_leaves_nothing_above_it(objects: Objects, limit: int) -> None:
    if limit == 10:
        assert put(objects, b"12345", b"67890", limit=limit).size == 10
        return
    with pytest.raises(UploadTooLarge):
        put(objects, b"12345", b"67890", limit=limit)
    assert objects.list("blobs") == {}
    assert left_over(objects) == []


def test_an_upload_that_breaks_off_leaves_nothing(objects: Objects) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 2 * MIB
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        asyncio.run(objects.put_stream(broken(), 10 * MIB))
    assert objects.list("blobs") == {}
    assert left_over(objects) == []


def test_an_upload_that_is_canceled_leaves_nothing(objects: Objects) -> None:
    async def cancel() -> None:
        begun = asyncio.Event()

        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 2 * MIB
                begun.set()

        task = asyncio.create_task(objects.put_stream(endless(), 1024 * MIB))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert objects.list("blobs") == {}
    assert left_over(objects) == []


def test_what_killed_uploads_left_is_cleared_after_a_day(objects: Objects) -> None:
    for name, age in (("old", ABANDONED_SECONDS + 60), ("new", 60)):
        (objects.incoming / name).write_bytes(b"x")
        os.utime(objects.incoming / name, (time.time() - age,) * 2)
    put(objects, b"y")
    assert [path.name for path in objects.incoming.iterdir()] == ["new"]


@pytest.mark.parametrize(
    ("start", "end", "wanted"), [(0, None, b"0123456789"), (4, None, b"456789"), (0, 1, b"0"), (2, 5, b"234")]
)
def test_ranges(objects: Objects, start: int, end: int | None, wanted: bytes) -> None:
    assert read(objects, put(objects, b"0123456789").key, start, end) == wanted


@pytest.mark.parametrize(("size", "wanted"), [(4, b"6789"), (10, b"0123456789"), (99, b"0123456789")])
def test_the_tail_is_the_last_bytes_or_all(objects: Objects, size: int, wanted: bytes) -> None:
    assert objects.tail(put(objects, b"0123456789").key, size) == wanted
    assert objects.tail(put(objects).key, size) == b""
    with pytest.raises(ObjectMissing):
        objects.tail("jobs/none/log", size)


def test_files_are_put_listed_and_deleted(objects: Objects, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(b"{}")
    stored = objects.put_file("jobs/J/1/report.json", path)
    assert (stored.sha256, stored.size) == (hashlib.sha256(b"{}").hexdigest(), 2)
    objects.put_file("jobs/J/checkpoints/a/b c+é.json", path)
    objects.put_file("jobs/JJ/1/x", path)
    assert objects.list("jobs/J") == {"jobs/J/1/report.json": 2, "jobs/J/checkpoints/a/b c+é.json": 2}
    objects.delete_all("jobs/J")
    assert objects.list("jobs") == {"jobs/JJ/1/x": 2}
    objects.delete("jobs/JJ/1/x")
    objects.delete("jobs/JJ/1/x")
    assert objects.head("jobs/JJ/1/x") is None


def test_what_is_missing_is_told(objects: Objects, tmp_path: Path) -> None:
    with pytest.raises(ObjectMissing, match="nowhere"):
        objects.get_file("nowhere", tmp_path / "x")
    with pytest.raises(ObjectMissing, match="nowhere"):
        read(objects, "nowhere")
    assert [path for path in tmp_path.iterdir() if path.name.startswith("x")] == []


def test_wrong_keys_are_told_without_showing_them(s3_server, tmp_path: Path) -> None:
    wrong = Settings(
        data_dir=tmp_path,
        objects_url="s3://niwaki",
        s3_endpoint=s3_server.endpoint,
        s3_access_key_id=s3_server.access_key_id,
        s3_secret_access_key="made up",  # noqa: S106
    )
    with pytest.raises(ObjectsAway, match="403") as caught:
        put(open_objects(wrong), b"x")
    assert "made up" not in str(caught.value)


def test_a_server_that_is_away_is_told_soon(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    away = Settings(data_dir=tmp_path, objects_url="s3://niwaki", s3_endpoint=f"http://127.0.0.1:{port}")
    begun = time.monotonic()
    with pytest.raises(ObjectsAway):
        open_objects(away).head("x")
    assert time.monotonic() - begun < 30
