"""Archive tricks, in the zip of a model, of arrays and of images."""

from __future__ import annotations

import stat
import struct
import zipfile
from collections.abc import Callable

from tests.hostile.case import Cases
from tests.hostile.raw_zip import Entry, raw_zip, zeros_deflated
from tests.hostile.valid import MODEL, archive_members, archive_of, images, npy, npz, png, pt2, zip_of

CASES = Cases()
MODEL_KINDS = ("model-unsafe", "model-unreadable")
DATA_KINDS = ("data-unsafe", "data-unreadable", "data-invalid")


def _entries() -> list[Entry]:
    return [Entry(f"model/{name}".encode(), content) for name, content in archive_members().items()]


def _model(name: str, *kinds: str) -> Callable[[Callable[[], bytes]], Callable[[], bytes]]:
    def adding(build: Callable[[], bytes]) -> Callable[[], bytes]:
        CASES.add(name, "model.pt2", *(kinds or MODEL_KINDS))(lambda _: build())
        return build

    return adding


def _with(entry: Entry) -> bytes:
    return raw_zip([*_entries(), entry])


ODD_NAMES = {
    "a path upwards": b"model/../../../tmp/evil",
    "an absolute path": b"/etc/cron.d/evil",
    "a Windows path": b"model\\..\\evil",
    "a drive": b"C:/model/evil",
    "a path with a NUL": b"model/a\0b",
    "a name of control characters": b"model/\x1b[2J\r\n",
    "an empty name": b"",
    "a name of 60,000 bytes": b"model/" + b"a" * 60_000,
    "a path 2,000 deep": b"model/" + b"a/" * 2000 + b"b",
    "a folder's name": b"model/data/",
}
for _name, _bytes in ODD_NAMES.items():
    CASES.add(f"pt2: {_name}", "model.pt2", *MODEL_KINDS)(lambda _, name=_bytes: _with(Entry(name, b"x")))

KINDS_OF_FILE = {"a symbolic link": stat.S_IFLNK, "a pipe": stat.S_IFIFO, "a device": stat.S_IFCHR}
for _name, _mode in KINDS_OF_FILE.items():
    CASES.add(f"pt2: {_name}", "model.pt2", "model-unsafe")(
        lambda _, mode=_mode: _with(Entry(b"model/data/link", b"/etc/passwd", attributes=(mode | 0o777) << 16))
    )


@_model("pt2: a member twice", "model-unsafe")
def _() -> bytes:
    return _with(Entry(f"model/{MODEL}".encode(), b"{}"))


@_model("pt2: a member twice, in two top folders", "model-unsafe")
def _() -> bytes:
    return _with(Entry(f"other/{MODEL}".encode(), b"{}"))


@_model("pt2: every member starts at the same place", "model-unsafe")
def _() -> bytes:
    big = Entry(b"model/data/weights/weight_0", bytes(1 << 20))
    copies = [Entry(b"model/data/weights/weight_%d" % n, bytes(1 << 20), offset=0) for n in range(1, 2000)]
    return raw_zip([big, *copies])


@_model("pt2: 60,000 members", "model-unsafe")
def _() -> bytes:
    return raw_zip([*_entries(), *(Entry(b"model/%d" % n, offset=0) for n in range(60_000))])


def _directory(entries: int) -> bytes:
    """A zip of so many times the same directory entry, whose end record says 65,535."""
    one = raw_zip([Entry(b"model/a.png")])
    entry = one[one.index(b"PK\x01\x02") : one.index(b"PK\x05\x06")]
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 65535, 65535, len(entry) * entries, 0, 0)
    return b"PK\x03\x04" + entry * entries + end


CASES.add("a directory of 2,000,000 entries", "model.pt2", *MODEL_KINDS)(lambda _: _directory(2_000_000))
CASES.add("pt2: a directory of 70,000 entries", "model.pt2", *MODEL_KINDS)(lambda _: _directory(70_000))


@_model("pt2: deflated weights, 4 GiB in 4 MiB")
def _() -> bytes:
    packed = zeros_deflated(4)
    return _with(Entry(b"model/data/weights/weight_99", packed, method=8, size=0xFFFFFFF0))


@_model("pt2: deflated program, 2 GiB in 2 MiB")
def _() -> bytes:
    packed = zeros_deflated(2)
    kept = [entry for entry in _entries() if not entry.name.endswith(MODEL.encode())]
    return raw_zip([*kept, Entry(f"model/{MODEL}".encode(), packed, method=8, size=2**31)])


@_model("zips in zips in zips", "model-unsafe", "model-unreadable", "model-unsupported")
def _() -> bytes:
    content = zip_of({f"{n}": bytes(1 << 20) for n in range(8)}, zipfile.ZIP_DEFLATED)
    for _level in range(5):
        content = zip_of({f"{n}.zip": content for n in range(8)}, zipfile.ZIP_DEFLATED)
    return content


for _method in (1, 6, 12, 14, 93, 99):
    CASES.add(f"pt2: packed by method {_method}", "model.pt2", *MODEL_KINDS)(
        lambda _, method=_method: _with(Entry(b"model/data/x", b"12345678", method=method))
    )


@_model("pt2: an encrypted member")
def _() -> bytes:
    return _with(Entry(b"model/data/x", b"12345678", flags=1))


@_model("pt2: a wrong checksum", "model-unreadable")
def _() -> bytes:
    wrong = [
        Entry(entry.name, entry.content, crc=1) if entry.name.endswith(MODEL.encode()) else entry
        for entry in _entries()
    ]
    return raw_zip(wrong)


@_model("pt2: wrong checksums of the weights", "model-unreadable")
def _() -> bytes:
    return raw_zip(
        [Entry(entry.name, entry.content, crc=1) if b"weights/weight_" in entry.name else entry for entry in _entries()]
    )


@_model("pt2: another name in the local header", "model-unreadable")
def _() -> bytes:
    evil = b"model/models/m0del.json"
    return raw_zip(
        [
            Entry(entry.name, entry.content, local_name=evil) if entry.name.endswith(MODEL.encode()) else entry
            for entry in _entries()
        ]
    )


@_model("pt2: a size of 4 GiB without bytes", "model-unsafe")
def _() -> bytes:
    return _with(Entry(b"model/data/x", b"1", size=0xFFFFFFF0, packed=0xFFFFFFF0))


def _zip64(*numbers: int) -> bytes:
    return struct.pack("<HH", 1, 8 * len(numbers)) + struct.pack(f"<{len(numbers)}Q", *numbers)


@_model("pt2: zip64 sizes of 2^63", "model-unsafe")
def _() -> bytes:
    return _with(Entry(b"model/data/x", b"1", size=2**32 - 1, packed=2**32 - 1, extra=_zip64(2**63, 2**63)))


@_model("pt2: zip64 without its field")
def _() -> bytes:
    return _with(Entry(b"model/data/x", b"1", size=2**32 - 1, packed=2**32 - 1, extra=struct.pack("<HH", 1, 0)))


@_model("pt2: a zip64 end record that points anywhere")
def _() -> bytes:
    record = b"PK\x06\x06" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, 2**60, 2**60, 2**62, 2**61)
    return raw_zip(_entries(), tail=record + b"PK\x06\x07" + struct.pack("<IQI", 0, 2**60, 1))


@_model("pt2: members far beyond the file")
def _() -> bytes:
    return _with(Entry(b"model/data/x", b"1", offset=0xFFFFFF00))


@_model("pt2: a directory beyond the file")
def _() -> bytes:
    return raw_zip(_entries(), directory=0xFFFFFF00)


for _share in (1, 10, 50, 90, 99):
    CASES.add(f"pt2: cut at {_share} %", "model.pt2", "model-unreadable")(
        lambda _, share=_share: pt2()[: len(pt2()) * share // 100]
    )
CASES.add("an empty file", "model.pt2", "model-unreadable")(lambda _: b"")
CASES.add("an empty zip", "model.pt2", *MODEL_KINDS)(lambda _: zip_of({}))
CASES.add("compiled code in a .pt2", "model.pt2", "model-unsafe")(
    lambda _: archive_of(archive_members() | {"data/aotinductor/model/m.so": b"\x7fELF" + bytes(100)})
)


def _data(name: str, filename: str, build: Callable[[], bytes]) -> None:
    CASES.add(name, filename, *DATA_KINDS, kind="data")(lambda _: build())


def _pictures(*entries: Entry) -> bytes:
    plain = [Entry(b"%s/%d.png" % (name, n), png()) for name in (b"cat", b"dog") for n in range(4)]
    return raw_zip([*plain, *entries])


_ARRAY = npy("<f4", "(268435456, 3)", b"")  # its header promises 3 GiB
for _name, _bytes in list(ODD_NAMES.items())[:-1]:  # folders are common in a zip of images
    _data(f"images: {_name}", "images.zip", lambda name=_bytes: _pictures(Entry(name, png())))
for _name, _mode in KINDS_OF_FILE.items():
    link = Entry(b"cat/link.png", b"/etc/passwd", attributes=(_mode | 0o777) << 16)
    _data(f"images: {_name}", "images.zip", lambda entry=link: _pictures(entry))
_data("images: a directory of 700,000 entries", "images.zip", lambda: _directory(700_000))
_data("images: a member twice", "images.zip", lambda: _pictures(Entry(b"cat/0.png", png())))
_data("images: an encrypted member", "images.zip", lambda: _pictures(Entry(b"cat/9.png", png(), flags=1)))
_data("images: a wrong checksum", "images.zip", lambda: _pictures(Entry(b"cat/9.png", png(), crc=1)))
_data("images: cut", "images.zip", lambda: images()[: len(images()) * 2 // 3])
_data(
    "images: 4 GiB in 4 MiB",
    "images.zip",
    lambda: _pictures(Entry(b"cat/9.png", zeros_deflated(4), method=8, size=0xFFFFFFF0)),
)
_data("images: zips in a zip", "images.zip", lambda: zip_of({"cat/1.zip": images(), "dog/1.zip": images()}))
_data(
    "npz: 3 GiB in 3 MiB, with a header that agrees",
    "data.npz",
    lambda: raw_zip([Entry(b"x.npy", _deflated(_ARRAY, 3), method=8, size=(3 << 30) + len(_ARRAY))]),
)
_data("npz: an array twice", "data.npz", lambda: raw_zip([Entry(b"x.npy", npy()), Entry(b"x.npy", npy())]))
_data("npz: a wrong checksum", "data.npz", lambda: raw_zip([Entry(b"x.npy", npy(), crc=1)]))
_data("npz: an encrypted member", "data.npz", lambda: raw_zip([Entry(b"x.npy", npy(), flags=1)]))
_data("npz: 5,000 arrays", "data.npz", lambda: raw_zip([Entry(b"x%d.npy" % n, npy()) for n in range(5000)]))
_data("npz: a size of 4 GiB without bytes", "data.npz", lambda: raw_zip([Entry(b"x.npy", npy(), size=0xFFFFFFF0)]))
_data("npz: cut", "data.npz", lambda: npz()[: len(npz()) // 2])
_data("npz: nothing in it", "data.npz", lambda: zip_of({}))
_data("npz: a path upwards", "data.npz", lambda: raw_zip([Entry(b"../../x.npy", npy())]))


def _deflated(start: bytes, gigabytes: int) -> bytes:
    """A deflate stream of `start` and then zeros."""
    stored = b"\0" + struct.pack("<HH", len(start), len(start) ^ 0xFFFF) + start  # a stored block, not the last
    return stored + zeros_deflated(gigabytes)
