"""Zips of images that lie about their size, or hold something else."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

from tests.hostile.case import Cases
from tests.hostile.valid import chunk, png, zip_of

CASES = Cases()
KINDS = ("data-unsafe", "data-unreadable", "data-invalid")


def _zip(content: bytes, name: str = "cat/9.png") -> bytes:
    plain = {f"{label}/{index}.png": png() for label in ("cat", "dog") for index in range(4)}
    return zip_of(plain | {name: content})


def _text_bomb() -> bytes:
    return png(extra=chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1 << 28))))


def _jpeg(width: int, height: int) -> bytes:
    frame = struct.pack(">BHHB", 8, height, width, 1) + b"\x01\x11\x00"
    start = b"\xff\xd8\xff\xe0" + struct.pack(">H", 16) + b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0"
    scan = b"\xff\xda\0\x08\x01\x01\0\0\x3f\0" + bytes(100)
    return start + b"\xff\xc0" + struct.pack(">H", len(frame) + 2) + frame + scan + b"\xff\xd9"


def _gif(width: int, height: int) -> bytes:
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0)
    return screen + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x08\x02\x4c\x01\x00;"


def _bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHI", 2**31 - 1, 0, 0, 54) + struct.pack(
        "<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0
    )  # fmt: skip


def _tiff(width: int, height: int) -> bytes:
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8)]
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + b"".join(
        struct.pack("<HHII", *tag) for tag in tags
    ) + bytes(4)  # fmt: skip


IMAGES: dict[str, Callable[[], bytes]] = {
    "15,000 squared in 220 kB": lambda: _zip(png(15_000, 15_000, data=zlib.compress(bytes(15_001 * 15_000)))),
    "2^31 squared": lambda: _zip(png(2**31 - 1, 2**31 - 1, data=zlib.compress(b"\0"))),
    "fewer rows than it says": lambda: _zip(png(600, 600, data=zlib.compress(b"\0" * 1400))),
    "a compressed text of 256 MiB": lambda: _zip(_text_bomb()),
    "no width": lambda: _zip(png(0, 6, data=zlib.compress(b""))),
    "half an image": lambda: _zip(png()[:40]),
    "a wrong checksum": lambda: _zip(png().replace(b"IDAT", b"IDAU")),
    "a text named .png": lambda: _zip(b"GET / HTTP/1.0\r\n\r\n" * 20),
    "a page with a script, as .svg": lambda: _zip(b"<svg onload='alert(1)'></svg>", "cat/9.svg"),
    "a JPEG of 65,500 squared": lambda: _zip(_jpeg(65_500, 65_500), "cat/9.jpg"),
    "a JPEG of 65,500 squared named .png": lambda: _zip(_jpeg(65_500, 65_500)),
    "a GIF of 65,535 squared": lambda: _zip(_gif(65_535, 65_535), "cat/9.gif"),
    "a BMP of 2^31 squared": lambda: _zip(_bmp(2**31 - 1, 2**31 - 1), "cat/9.bmp"),
    "a TIFF of 2^32 squared": lambda: _zip(_tiff(2**32 - 1, 2**32 - 1), "cat/9.tif"),
    "PostScript": lambda: _zip(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (r) file\n", "cat/9.eps"),
    "PostScript named .png": lambda: _zip(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (r) file\n"),
}  # fmt: skip
for _name, _make in IMAGES.items():
    CASES.add(f"images: {_name}", "images.zip", *KINDS, kind="data")(lambda _, make=_make: make())
