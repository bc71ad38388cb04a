"""A few tiny pictures of a dataset, as PNG in base64, for people to see what was understood."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from compression.layout import IMAGE_CHANNELS

Array = NDArray[np.generic]
MOST = 8
SIDE = 48
MAX_TEXT = 64 << 10  # of all of them together
SMALLEST, LARGEST = 4, 2048  # sides of an array that is taken for an image


class Thumbnails:
    """Collects up to `MOST` samples, `MAX_TEXT` bytes of base64 together."""

    def __init__(self) -> None:
        self.samples: list[dict[str, Any]] = []
        self._left = MAX_TEXT

    @property
    def full(self) -> bool:
        return len(self.samples) >= MOST

    def add(self, image: Image.Image, split: str, class_: str | None) -> None:
        if self.full:
            return
        scale = min(1.0, SIDE / max(image.size))
        small = image.resize([max(1, round(side * scale)) for side in image.size], reducing_gap=3.0)
        stream = io.BytesIO()
        small.save(stream, "PNG", optimize=True)
        text = base64.b64encode(stream.getvalue()).decode()
        if len(text) <= self._left:
            self._left -= len(text)
            self.samples.append({"split": split, "class": class_, "png": text})


def is_image_like(value: Array) -> bool:
    """N × H × W, N × 1 or 3 × H × W, or N × H × W × 1 or 3."""
    shape = value.shape[1:]
    if len(shape) == 3:
        shape = shape[1:] if shape[0] in IMAGE_CHANNELS else shape[:2] if shape[2] in IMAGE_CHANNELS else ()
    return len(shape) == 2 and all(SMALLEST <= side <= LARGEST for side in shape) and len(value) > 0


def as_image(sample: Array, low: float, high: float) -> Image.Image:
    """One sample of an image-like array; bytes as they are, other numbers from `low` (black) to `high` (white)."""
    value = sample
    if value.ndim == 3:
        value = value.transpose(1, 2, 0) if value.shape[0] in IMAGE_CHANNELS else value
        value = value[:, :, 0] if value.shape[2] == 1 else value
    if value.dtype != np.uint8:
        spread = high - low if high > low else 1.0
        value = ((value.astype(np.float64) - low) / spread * 255).clip(0, 255).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(value))


def of_array(thumbnails: Thumbnails, value: Array, facts: Mapping[str, Any], split: str, labels: Array | None) -> None:
    """One sample of each class where labels are class indices, else the first ones."""
    if not is_image_like(value) or "min" not in facts:
        return
    indices = list(range(min(MOST, len(value))))
    names: list[str | None] = [None] * MOST
    if labels is not None and labels.ndim == 1 and labels.dtype.kind in "iub" and len(labels) == len(value):
        found, first = np.unique(labels, return_index=True)
        indices, names = first[:MOST].tolist(), [str(int(label)) for label in found[:MOST]]
    for index, name in zip(indices, names, strict=False):
        thumbnails.add(as_image(value[index], facts["min"], facts["max"]), split, name)
