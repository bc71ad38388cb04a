"""A zip of stored files, written as it is sent: neither it nor any of its files is held in memory or on disk."""

from __future__ import annotations

import io
import zipfile
from collections.abc import AsyncIterator, Sequence

from sqlalchemy import RowMapping

from store.objects import Objects


class _Outgoing(io.RawIOBase):
    """What zipfile writes to: it can't seek, so that sizes and checksums come behind each file."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override] # zipfile gives bytes
        self._pieces.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        taken, self._pieces = b"".join(self._pieces), []
        return taken


async def zip_stream(objects: Objects, artifacts: Sequence[RowMapping]) -> AsyncIterator[bytes]:
    """The artifacts by name, uncompressed: weights hardly shrink, and figures of size shouldn't depend on it."""
    outgoing = _Outgoing()
    with zipfile.ZipFile(outgoing, "w", zipfile.ZIP_STORED) as archive:
        for row in artifacts:
            info = zipfile.ZipInfo(row["name"], row["created_at"].timetuple()[:6])
            info.external_attr = 0o644 << 16
            with archive.open(info, "w", force_zip64=row["size"] >= zipfile.ZIP64_LIMIT) as member:
                async for piece in await objects.stream(row["key"]):
                    member.write(piece)
                    yield outgoing.take()
    yield outgoing.take()
