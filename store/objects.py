"""The object store: a local folder or an S3 bucket by URL. Everything is streamed, in constant memory.

ObjectsError
├── ObjectMissing     nothing lies under that key
├── UploadTooLarge    more bytes came than allowed; nothing was kept
└── ObjectsAway       the store can't be reached, or refuses us
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from store.settings import MIB, Settings

if TYPE_CHECKING:
    from obstore.store import S3Config

PIECE = MIB
PART = 5 * MIB  # S3's smallest; PARTS of them are in flight at once
PARTS = 2
ABANDONED_SECONDS = 24 * 3600


class ObjectsError(Exception):
    """The argument is the key, or what happened."""


class ObjectMissing(ObjectsError):
    pass


class UploadTooLarge(ObjectsError):
    pass


class ObjectsAway(ObjectsError):
    pass


@dataclass(frozen=True)
class Stored:
    """An object: its key, its bytes' SHA-256 in hex, and their number."""

    key: str
    sha256: str
    size: int


class Objects:
    """`store` is obstore's; uploads are spooled to files in `incoming`, which is `incoming/` of a local store."""

    def __init__(self, store: LocalStore | S3Store, incoming: Path) -> None:
        self.store = store
        self.incoming = incoming

    async def put_stream(self, chunks: AsyncIterator[bytes], limit: int) -> Stored:
        """Stores the bytes under `blobs/SHA256`, unless they lie there already.

        Nothing stays behind when the stream raises, is canceled, or has more than `limit` bytes (UploadTooLarge). A
        file comes first because the key is known last, and a copy within S3 ends at 5 GB.
        """
        self._clear_abandoned()
        spooled = self.incoming / uuid.uuid4().hex
        digest = hashlib.sha256()
        size = 0

        def write(file: IO[bytes], piece: bytes) -> None:
            digest.update(piece)
            file.write(piece)

        writing: asyncio.Future[None] | None = None
        try:
            with spooled.open("wb") as file:
                try:
                    async for piece in _pieces(chunks):
                        size += len(piece)
                        if size > limit:
                            raise UploadTooLarge(f"more than {limit} bytes")
                        if writing is not None:
                            await writing
                        # Hashed and written while the next piece comes in.
                        writing = asyncio.get_running_loop().run_in_executor(None, write, file, piece)
                finally:
                    if writing is not None:
                        await asyncio.wait([writing])
                if writing is not None:
                    writing.result()
            stored = Stored(f"blobs/{digest.hexdigest()}", digest.hexdigest(), size)
            with _typed(stored.key):
                if await asyncio.to_thread(self.head, stored.key) != size:
                    await self._adopt(spooled, stored.key)
            return stored
        finally:
            spooled.unlink(missing_ok=True)

    async def _adopt(self, spooled: Path, key: str) -> None:
        if isinstance(self.store, LocalStore):
            await obstore.rename_async(self.store, f"incoming/{spooled.name}", key)
        else:
            await obstore.put_async(self.store, key, spooled, chunk_size=PART, max_concurrency=PARTS)

    def _clear_abandoned(self) -> None:
        """Removes what uploads left whose process was killed."""
        for path in self.incoming.iterdir():
            try:
                if path.stat().st_mtime < time.time() - ABANDONED_SECONDS:
                    path.unlink()
            except FileNotFoundError:  # an upload beside this one has just ended
                continue

    def put_file(self, key: str, path: Path) -> Stored:
        """Stores a file that nobody writes to any more."""
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        with _typed(key):
            obstore.put(self.store, key, path, chunk_size=PART, max_concurrency=PARTS)
        return Stored(key, sha256, path.stat().st_size)

    def get_file(self, key: str, path: Path) -> None:
        """Writes an object to `path`, whose folder is made; `path` appears when it is whole."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        try:
            with _typed(key), partial.open("wb") as file:
                for piece in obstore.get(self.store, key).stream(min_chunk_size=PIECE):
                    file.write(piece)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    async def stream(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `start` to before `end` (none: to the last), as they come.

        Awaiting it opens the object, so that ObjectMissing comes before the first byte goes out. An object of no bytes
        has no range: leave both out.
        """
        with _typed(key):
            if end is not None:
                result = await obstore.get_async(self.store, key, options={"range": (start, end)})
            elif start:
                result = await obstore.get_async(self.store, key, options={"range": {"offset": start}})
            else:
                result = await obstore.get_async(self.store, key)

        async def pieces() -> AsyncIterator[bytes]:
            with _typed(key):
                async for piece in result.stream(min_chunk_size=PIECE):
                    yield bytes(piece)

        return pieces()

    def tail(self, key: str, size: int) -> bytes:
        """An object's last bytes, at most `size`. Raises ObjectMissing."""
        whole = self.head(key)
        if whole is None:
            raise ObjectMissing(key)
        if whole == 0:  # no range of it exists
            return b""
        with _typed(key):
            return bytes(obstore.get_range(self.store, key, start=max(0, whole - size), end=whole))

    def head(self, key: str) -> int | None:
        """The object's size in bytes, or None where there is none."""
        try:
            with _typed(key):
                return obstore.head(self.store, key)["size"]
        except ObjectMissing:
            return None

    def list(self, prefix: str) -> dict[str, int]:
        """Size by key, of every object whose key begins with the folder `prefix`."""
        with _typed(prefix):
            return {item["path"]: item["size"] for batch in obstore.list(self.store, prefix) for item in batch}

    def delete(self, key: str) -> None:
        """Deletes an object, or nothing where there is none."""
        try:
            with _typed(key):
                obstore.delete(self.store, key)
        except ObjectMissing:
            return

    def delete_all(self, prefix: str) -> None:
        """Deletes every object below the folder `prefix`."""
        for key in self.list(prefix):
            self.delete(key)


def open_objects(settings: Settings) -> Objects:
    """The store that `settings.objects_url` names; a local folder is made."""
    if not settings.objects_url.startswith("s3://"):
        root = Path(settings.objects_url)
        incoming = root / "incoming"
        incoming.mkdir(parents=True, exist_ok=True)
        return Objects(LocalStore(root), incoming)
    bucket, _, prefix = settings.objects_url.removeprefix("s3://").partition("/")
    incoming = settings.scratch / "incoming"
    incoming.mkdir(parents=True, exist_ok=True)
    config: S3Config = {"region": settings.s3_region}
    if settings.s3_endpoint is not None:
        config["endpoint"] = settings.s3_endpoint
    if settings.s3_access_key_id is not None and settings.s3_secret_access_key is not None:
        config["access_key_id"] = settings.s3_access_key_id.get_secret_value()
        config["secret_access_key"] = settings.s3_secret_access_key.get_secret_value()
    else:
        config["skip_signature"] = True
    plain = settings.s3_endpoint is not None and settings.s3_endpoint.startswith("http://")
    store = S3Store(bucket, prefix=prefix or None, config=config, client_options={"allow_http": plain})
    return Objects(store, incoming)


async def _pieces(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in pieces worth a thread's while."""
    waiting: list[bytes] = []
    size = 0
    async for chunk in chunks:
        waiting.append(chunk)
        size += len(chunk)
        if size >= PIECE:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


@contextmanager
def _typed(key: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise ObjectMissing(key) from error
    except BaseError as error:
        raise ObjectsAway(f"{key}: {error}") from error
