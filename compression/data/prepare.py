"""One input's stored samples → what the network is fed: layout, resize, scale, mean, std, in this order."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compression.data.resize import resize_arrays
from compression.errors import DataError
from compression.layout import channels_first, image_shape, sample_fault, stored_channels_last
from compression.network import Input
from compression.spec import Preprocess

Array = NDArray[np.generic]


def prepare(stored: Array, entry: Input, declared: Preprocess) -> Tensor:
    """N × the input's shape, in its dtype. Every fault is a DataError that names the input."""
    if stored.ndim == 0:
        raise DataError("an array needs a sample axis", entry.name)
    if (fault := sample_fault(stored.shape[1:], entry.shape, declared)) is not None:
        raise DataError(fault, entry.name)
    value = _placed(stored, entry, declared).reshape(len(stored), *entry.shape)
    return normalised(value, entry, declared) if entry.dtype.startswith("float") else _integers(value, entry, declared)


def _placed(stored: Array, entry: Input, declared: Preprocess) -> Array:
    """Layout and size as the network has them. The rule has been checked: images are images."""
    image = image_shape(entry.shape)
    if image is None or (declared.layout == "as-is" and declared.resize is None):
        return stored
    shape = channels_first(stored.shape[1:], declared, image)
    if stored.ndim == 4 and stored_channels_last(declared, image):
        stored = stored.transpose(0, 3, 1, 2)
    value = stored.reshape(len(stored), *shape) if shape is not None else stored
    if declared.resize is not None:
        value = resize_arrays(value, image.height, image.width, declared.resize, entry.name)
    return np.ascontiguousarray(value.transpose(0, 2, 3, 1) if image.channels_last else value)


def normalised(value: Array, entry: Input, declared: Preprocess) -> Tensor:
    """(value × scale − mean) / std in float32. `value` has the network's shape; mean and std go along its channels:
    the axis of an image's channels, else the first axis of a sample."""
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused
        scaled = torch.from_numpy(value.astype(np.float32))
    if not bool(torch.isfinite(scaled).all()):
        raise DataError("the array holds NaN, infinite values, or numbers too large for float32", entry.name)
    image = image_shape(entry.shape)
    axis = len(entry.shape) - 1 if image is not None and image.channels_last else 0
    channels = entry.shape[axis] if entry.shape else 1
    shape = [1] * (len(entry.shape) + 1)
    shape[min(axis + 1, len(shape) - 1)] = -1
    for numbers in (declared.mean, declared.std):
        if len(numbers) not in {1, channels}:
            raise DataError(f"mean and std need 1 or {channels} values", entry.name)
    scaled.mul_(declared.scale).sub_(torch.tensor(declared.mean).reshape(shape))
    scaled.div_(torch.tensor(declared.std).reshape(shape))
    if not bool(torch.isfinite(scaled).all()):
        raise DataError("scale, mean and std make values that float32 can't hold", entry.name)
    return scaled


def _integers(value: Array, entry: Input, declared: Preprocess) -> Tensor:
    """Token ids and masks: whole numbers that the network's type can hold, and no arithmetic on them."""
    if value.dtype.kind not in "iub":
        raise DataError(f"the network wants {entry.dtype}, the array holds {value.dtype}", entry.name)
    if declared.model_copy(update={"layout": "as-is"}) != Preprocess():
        raise DataError(f"resize, scale, mean and std are for numbers; the network wants {entry.dtype}", entry.name)
    wanted = np.dtype(entry.dtype)
    low, high = (0, 1) if wanted.kind == "b" else (np.iinfo(wanted).min, np.iinfo(wanted).max)
    if value.size and not low <= int(value.min()) <= int(value.max()) <= high:
        extent = f"values from {int(value.min())} to {int(value.max())}"
        raise DataError(f"the network wants {entry.dtype}; the array holds {extent}", entry.name)
    return torch.from_numpy(value.astype(wanted))
