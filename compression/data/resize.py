"""Resizing by Pillow, of image files and of arrays alike: what most training code resizes with.

Bilinear and bicubic filters widen where an image gets smaller, so that it isn't aliased (Pillow's own convention).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from compression.errors import DataError
from compression.intake.data_zip import MAX_BYTES
from compression.intake.picture import MAX_PIXELS
from compression.spec import Resize

Array = NDArray[np.generic]
FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
}


def resized(image: Image.Image, height: int, width: int, declared: Resize, where: str) -> Image.Image:
    """The image at height × width. Cropped: the smallest size that covers the crop, its middle kept; an odd row or
    column more is split as torchvision's CenterCrop does. `where` is named in errors."""
    method = FILTERS[declared.method]
    if declared.crop == "none":
        return image.resize((width, height), method)
    rows, columns = _covering(image, height, width, declared.crop_fraction)
    if rows * columns > MAX_PIXELS:
        raise DataError(f"its sides are too different to resize and crop: {image.width} × {image.height}", where)
    left, top = round((columns - width) / 2), round((rows - height) / 2)
    return image.resize((columns, rows), method).crop((left, top, left + width, top + height))


def _covering(image: Image.Image, height: int, width: int, fraction: float) -> tuple[int, int]:
    """(rows, columns) with the image's proportions that hold height / fraction × width / fraction."""
    rows, columns = math.floor(height / fraction + 1e-9), math.floor(width / fraction + 1e-9)
    if rows * image.width >= columns * image.height:
        return rows, max(columns, rows * image.width // image.height)
    return max(rows, columns * image.height // image.width), columns


def resize_arrays(values: Array, height: int, width: int, declared: Resize, where: str) -> Array:
    """N × C × H × W → N × C × height × width; bytes stay bytes, everything else becomes float32."""
    dtype = np.dtype(np.uint8 if values.dtype == np.uint8 else np.float32)
    if values.shape[2] * values.shape[3] > MAX_PIXELS or 0 in values.shape[1:]:
        raise DataError(f"samples of shape {values.shape[1:]} are no images", where)
    if math.prod((*values.shape[:2], height, width)) * dtype.itemsize > MAX_BYTES:
        raise DataError(f"resized, the samples take more than {MAX_BYTES >> 30} GiB", where)
    out = np.empty((*values.shape[:2], height, width), dtype)
    for index in np.ndindex(*values.shape[:2]):
        plane = Image.fromarray(np.ascontiguousarray(values[index], dtype=dtype))
        out[index] = np.asarray(resized(plane, height, width, declared, where))
    return out
