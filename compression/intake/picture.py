"""One image file → pixels. The header is judged before anything is decoded, and only by the decoder of its name."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath

from PIL import Image, ImageFile

from compression.errors import DataError
from compression.intake.png import is_complete

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".webp": "WEBP", ".gif": "GIF"}
MAX_PIXELS = 50_000_000  # of one image, as its header says
MAX_FILE = 256 << 20
MAX_SIDE = 65_535
SMALL_PIXELS = 1 << 20
PIXELS_A_BYTE = 10_000  # deflate packs one-bit images 8,256 times; nothing that shows something comes near
MAX_SCANS = 100  # of a progressive JPEG: encoders write about ten, and each one costs a pass over the image
COLOURS = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_DECODER_ERRORS = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, EOFError),
    *(RuntimeError, struct.error, zlib.error, Image.DecompressionBombError),
)
"""Pillow's plugins raise whatever a broken file leads to."""


def format_of(name: str) -> str | None:
    return FORMATS.get(PurePosixPath(name).suffix.lower())


def open_picture(content: bytes, name: str) -> Image.Image:
    """The image with its header judged, not decoded. DataError: it is no such image, or larger than allowed."""
    wanted = format_of(name)
    if wanted is None:
        kinds = " ".join(FORMATS)
        raise DataError(f"not an image that can be read; an image set holds {kinds}", name)
    if wanted == "JPEG" and content.count(b"\xff\xda") > MAX_SCANS:
        raise DataError("a JPEG of far more scans than any encoder writes", name, "data-unsafe")
    with _decoding(name):
        image = Image.open(io.BytesIO(content), formats=(wanted,))
    pixels = image.width * image.height
    if pixels > MAX_PIXELS or max(image.size) > MAX_SIDE or not pixels:
        raise DataError(f"{image.width} × {image.height} pixels; {MAX_PIXELS:,} are allowed", name, "data-unsafe")
    if pixels > max(SMALL_PIXELS, PIXELS_A_BYTE * len(content)):
        raise DataError(f"{pixels:,} pixels in {len(content):,} bytes", name, "data-unsafe")
    if image.mode not in COLOURS:
        raise DataError(f"pixels of the type {image.mode}; write 8 bits a channel, or upload arrays", name)
    if wanted == "PNG":
        with _decoding(name):
            complete = is_complete(content)
        if not complete:
            raise DataError("the file holds fewer rows than its header promises", name, "data-unreadable")
    return image


def decode(image: Image.Image, name: str, channels: int | None = None) -> Image.Image:
    """Decoded whole (of an animation the first frame), turned as its EXIF data says, and in 1 or 3 channels: a
    palette is resolved, transparency dropped, colour turned to grey (ITU-R 601) or grey repeated. `channels` None: as
    many as the file has."""
    size = image.size
    with _decoding(name):
        turn = TURNS.get(image.getexif().get(ORIENTATION, 1))
        image.load()
        if image.size != size:
            raise DataError(f"the header promises {size[0]} × {size[1]} pixels, the file holds others", name)
        if channels is None:
            channels = stored_channels(image)
        turned = image if turn is None else image.transpose(turn)
        mode = "L" if channels == 1 else "RGB"
        return turned if turned.mode == mode else turned.convert(mode)


def stored_channels(image: Image.Image) -> int:
    """1 for grey, 3 for colour; transparency isn't counted."""
    if image.mode in {"P", "PA"}:
        palette = image.getpalette("RGB") or []
        return 1 if palette[0::3] == palette[1::3] == palette[2::3] else 3
    return 1 if image.mode in {"1", "L", "LA"} else 3


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Damage becomes a DataError. Pillow's limit is set to ours, and its warnings, which are about colour profiles and
    odd metadata, are left aside; a truncated file is an error as long as nobody asks Pillow otherwise."""
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise RuntimeError("truncated images would be read")
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, MAX_PIXELS // 2  # it refuses twice as many
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (DataError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise DataError(f"more than {MAX_PIXELS:,} pixels", name, "data-unsafe") from error
    except _DECODER_ERRORS as error:
        message = f"not a sound {format_of(name)} image: {str(error)[:200] or type(error).__name__}"
        raise DataError(message, name, "data-unreadable") from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit
