"""Images and zips that lie: each is refused with a kind and the member's name, before it costs anything."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from safetensors.numpy import save

from compression.data.preview import inspect_data
from compression.errors import DataError
from compression.intake.picture import decode, open_picture
from compression.intake.png import is_complete
from tests.engine.data.image_zip import encoded, pixels, write_zip

KINDS = {"png": "PNG", "jpg": "JPEG", "bmp": "BMP", "webp": "WEBP", "gif": "GIF"}
UNSAFE, UNREADABLE, INVALID = "data-unsafe", "data-unreadable", "data-invalid"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *, data: bytes = b"", before: bytes = b"", depth: int = 8) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0))
    packed = zlib.compress(data or b"\0" * (width + 1) * min(height, 4))
    return b"\x89PNG\r\n\x1a\n" + header + before + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def gif(width: int, height: int, frame: tuple[int, int]) -> bytes:
    """A GIF whose one frame may be larger than its screen."""
    small = encoded(pixels(0), "GIF")
    at = small.index(b"\x2c", 13 + 3 * (2 << (small[10] & 7)))  # after the palette
    descriptor = b"\x2c" + struct.pack("<HHHH", 0, 0, *frame)
    return small[:6] + struct.pack("<HH", width, height) + small[10:at] + descriptor + small[at + 9 :]


def webp_canvas(width: int, height: int) -> bytes:
    body = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + (width - 1).to_bytes(3, "little")
    body += (height - 1).to_bytes(3, "little") + b"ANIM" + struct.pack("<IIH", 6, 0, 0)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def sixteen_bits() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8)).save(stream, "PNG")
    return stream.getvalue()


def many_scans() -> bytes:
    content = encoded(pixels(0, 16, 16), "JPEG", progressive=True)
    at = content.rindex(b"\xff\xda")
    return content[:at] + content[at:-2] * 200 + b"\xff\xd9"


TEXT = chunk(b"zTXt", b"k\0\0" + zlib.compress(b"\0" * (80 << 20)))
PROFILE = chunk(b"iCCP", b"k\0\0" + zlib.compress(b"\0" * (80 << 20)))
SOUND_PNG = encoded(pixels(0, 16, 16))

HOSTILE = {
    "huge": ("a.png", png(60_000, 60_000), UNSAFE),
    "a long ribbon": ("a.png", png(1_000_000, 4), UNSAFE),
    "overflowing": ("a.png", png(0x7FFFFFFF, 0x7FFFFFFF, data=b"\0"), UNSAFE),
    "no pixels": ("a.png", png(0, 4, data=b"\0"), UNREADABLE),
    "more rows than data": ("a.png", png(100, 100), UNREADABLE),
    "pixels out of nothing": ("a.webp", encoded(np.zeros((5000, 5000)), "WEBP", lossless=True), UNSAFE),
    "text bomb": ("a.png", png(4, 4, before=TEXT), UNREADABLE),
    "profile bomb": ("a.png", png(4, 4, before=PROFILE), UNREADABLE),
    "truncated": ("a.png", SOUND_PNG[: len(SOUND_PNG) // 2], UNREADABLE),
    "truncated jpeg": ("a.jpg", encoded(pixels(0, 64, 64), "JPEG")[:-400], UNREADABLE),
    "truncated bmp": ("a.bmp", encoded(pixels(0, 64, 64), "BMP")[:-400], UNREADABLE),
    "truncated gif": ("a.gif", encoded(pixels(0, 64, 64), "GIF")[:-400], UNREADABLE),
    "truncated webp": ("a.webp", encoded(pixels(0, 64, 64), "WEBP")[:-400], UNREADABLE),
    "empty": ("a.png", b"", UNREADABLE),
    "a jpeg called png": ("a.png", encoded(pixels(0), "JPEG"), UNREADABLE),
    "svg": ("a.png", b'<svg xmlns="http://www.w3.org/2000/svg"><script/></svg>', UNREADABLE),
    "pdf": ("a.png", b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n", UNREADABLE),
    "eps": ("a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", UNREADABLE),
    "tiff": ("a.png", encoded(pixels(0), "TIFF"), UNREADABLE),
    "ico": ("a.bmp", encoded(pixels(0, 16, 16), "ICO"), UNREADABLE),
    "pickle": ("a.png", b"\x80\x04cos\nsystem\n(S'true'\ntR.", UNREADABLE),
    "gif frame beyond the screen": ("a.gif", gif(8, 8, (60_000, 60_000)), UNSAFE),
    "gif screen": ("a.gif", gif(65_000, 65_000, (8, 8)), UNSAFE),
    "webp canvas": ("a.webp", webp_canvas(1 << 14, 1 << 14), UNSAFE),
    "jpeg scans": ("a.jpg", many_scans(), UNSAFE),
    "sixteen bits": ("a.png", sixteen_bits(), INVALID),
    "another kind": ("a.tiff", encoded(pixels(0), "TIFF"), INVALID),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_images_that_lie_are_refused_by_name(tmp_path: Path, case: str) -> None:
    name, content, kind = HOSTILE[case]
    path = write_zip(tmp_path / "d.zip", {f"x/{name}": content, "y/b.png": SOUND_PNG})
    with pytest.raises(DataError) as caught:
        inspect_data(path)
    assert (caught.value.kind, caught.value.where) == (kind, f"x/{name}")


def test_text_of_ordinary_size_is_no_bomb() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * 1000, zip=True)
    stream = io.BytesIO()
    Image.fromarray(pixels(0)).save(stream, "PNG", pnginfo=info)
    assert decode(open_picture(stream.getvalue(), "a.png"), "a.png").mode == "L"


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA"])
@pytest.mark.parametrize("shape", [(1, 1), (9, 7), (64, 33)])
def test_a_whole_png_is_complete_and_one_row_less_isnt(mode: str, shape: tuple[int, int]) -> None:
    content = encoded(pixels(0, *shape), mode=mode)
    assert is_complete(content)
    at = content.index(b"IHDR") + 8
    taller = content[:at] + struct.pack(">I", shape[0] + 1) + content[at + 4 :]
    assert not is_complete(taller)


def test_interlaced_rows_are_counted_by_pass() -> None:
    """13 × 9 bytes of grey, written by hand in the seven passes of Adam7."""
    value, steps = pixels(0, 13, 9), [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]  # fmt: skip  # noqa: E501
    rows = [b"\0" + row.tobytes() for top, left, down, across in steps for row in value[top::down, left::across]]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 13, 8, 0, 0, 0, 1))
    for kept, complete in ((rows, True), (rows[:-1], False)):
        content = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"".join(kept))) + chunk(b"IEND", b"")
        assert is_complete(content) is complete
        if complete:
            assert np.array_equal(np.asarray(decode(open_picture(content, "a.png"), "a.png")), value)


def zipped(**written: Any) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", **written) as archive:
        archive.writestr("a/1.png", SOUND_PNG)
        archive.writestr("b/2.png", SOUND_PNG)
    return stream.getvalue()


def renamed(name: str) -> bytes:
    return zipped().replace(b"b/2.png", name.encode())


def linked() -> bytes:
    stream = io.BytesIO(zipped())
    with zipfile.ZipFile(stream, "a") as archive:
        link = zipfile.ZipInfo("b/3.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    return stream.getvalue()


def encrypted() -> bytes:
    content = bytearray(zipped())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1
    return bytes(content)


def wrong_checksum() -> bytes:
    content = bytearray(zipped())
    content[content.index(SOUND_PNG) + 60] ^= 1
    return bytes(content)


def bomb() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for index in range(5):
            archive.writestr(f"a/{index}.bmp", b"\0" * (60 << 20))
    return stream.getvalue()


def overlapping() -> bytes:
    """Two entries of the directory for one member."""
    content = zipped()
    first, second = (index for index in range(len(content)) if content.startswith(b"PK\x01\x02", index))
    offset = content[first + 42 : first + 46]
    return content[: second + 42] + offset + content[second + 46 :]


@pytest.mark.parametrize(
    ("content", "kind", "where"),
    [
        (renamed("../.png"), UNSAFE, "../.png"),
        (renamed("/b2.png"), UNSAFE, "/b2.png"),
        (renamed("b\\2.png"), UNSAFE, "b\\2.png"),
        (renamed("b//.png"), UNSAFE, "b//.png"),
        (renamed("b/\x07.png"), UNSAFE, "b/\x07.png"),
        (renamed("a/1.png"), UNSAFE, "a/1.png"),
        (linked(), UNSAFE, "b/3.png"),
        (encrypted(), UNREADABLE, "a/1.png"),
        (wrong_checksum(), UNREADABLE, "a/1.png"),
        (zipped(compression=zipfile.ZIP_BZIP2), UNREADABLE, "a/1.png"),
        (overlapping(), UNSAFE, "b/2.png"),
        (bomb(), UNSAFE, "d.zip"),
        (zipped()[:-30], UNREADABLE, "d.zip"),
    ],
    ids=[
        *("up", "absolute", "backslash", "hollow", "control", "twice", "link", "encrypted", "checksum", "bzip2"),
        *("overlap", "bomb", "truncated"),
    ],
)
def test_archives_that_trick_are_refused(tmp_path: Path, content: bytes, kind: str, where: str) -> None:
    path = tmp_path / "d.zip"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        inspect_data(path)
    assert (caught.value.kind, caught.value.where) == (kind, where)


def test_a_zip_of_neither_arrays_nor_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="without arrays or images"):
        inspect_data(write_zip(tmp_path / "d.zip", {"data.pkl": b"\x80\x04."}))


def a_zip(kind: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for index in range(4):
            content = encoded(pixels(index, 9, 7, 3), KINDS[kind])
            archive.writestr(f"{'ab'[index % 2]}/{index}.{kind}", content)
    return stream.getvalue()


def an_npz() -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, x_train=pixels(0, 6, 5, 5), y_train=np.arange(6) % 2, x_test=pixels(1, 3, 5, 5))
    return stream.getvalue()


def tensors() -> bytes:
    return save({"x": np.ones((6, 3), np.float32), "y": np.arange(6)})


VALID = {**{kind: a_zip(kind) for kind in KINDS}, "npz": an_npz(), "safetensors": tensors()}


@settings(max_examples=400, deadline=None)
@given(
    kind=st.sampled_from(sorted(VALID)),
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.one_of(st.none(), st.floats(0, 1)),
)
def test_a_changed_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, kind: str, edits: list[tuple[float, int]], cut: float | None
) -> None:
    content = bytearray(VALID[kind])
    for place, value in edits:
        content[int(place * len(content))] = value
    path = tmp_path_factory.getbasetemp() / f"changed-{kind}"
    path.write_bytes(content if cut is None else content[: int(cut * len(content))])
    with suppress(DataError):
        assert inspect_data(path)["kind"] == "data"


@settings(max_examples=400, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_a_changed_image_is_decoded_or_refused(kind: str, edits: list[tuple[float, int]]) -> None:
    """Below the archive's checksum, which would find every change."""
    content = bytearray(encoded(pixels(3, 9, 7, 3), KINDS[kind]))
    for place, value in edits:
        content[int(place * len(content))] = value
    name = f"a.{kind}"
    with suppress(DataError):
        assert decode(open_picture(bytes(content), name), name).mode in {"L", "RGB"}
