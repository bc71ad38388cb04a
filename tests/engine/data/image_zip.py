"""Zips of images for tests."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def encoded(value: Any, kind: str = "PNG", mode: str | None = None, **options: Any) -> bytes:
    """An array of bytes (H × W, or H × W × 3 or 4) as an image file."""
    stream = io.BytesIO()
    image = Image.fromarray(np.asarray(value, np.uint8))
    (image if mode is None else image.convert(mode)).save(stream, kind, **options)
    return stream.getvalue()


def pixels(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).integers(0, 256, shape or (8, 8), dtype=np.uint8)


def write_zip(path: Path, members: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def class_folders(path: Path, classes: Mapping[str, int], *shape: int, prefix: str = "") -> Path:
    """So many random images of each class."""
    members = {
        f"{prefix}{name}/{index}.png": encoded(pixels(1000 * place + index, *shape))
        for place, (name, count) in enumerate(classes.items())
        for index in range(count)
    }
    return write_zip(path, members)
