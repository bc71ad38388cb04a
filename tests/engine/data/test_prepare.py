"""Declared preprocessing against independent references: Pillow, PyTorch, arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image

from compression.data.prepare import prepare
from compression.data.resize import resize_arrays
from compression.errors import DataError
from compression.network import Input
from compression.spec import Preprocess, Resize
from tests.engine.data.image_zip import pixels

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("height", "width"), [(8, 11), (32, 40)])
def test_resizing_is_torchs_antialiased_interpolation(method: str, height: int, width: int) -> None:
    value = RANDOM.normal(size=(3, 2, 17, 20)).astype(np.float32)
    found = resize_arrays(value, height, width, Resize(method=method), "x")  # type: ignore[arg-type]
    expected = F.interpolate(torch.from_numpy(value), (height, width), mode=method, antialias=True)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


def test_bytes_stay_bytes_and_nearest_is_torchs() -> None:
    value = pixels(1, 2, 3, 9, 9)
    found = resize_arrays(value, 6, 4, Resize(method="nearest"), "x")
    assert found.dtype == np.uint8
    expected = F.interpolate(torch.from_numpy(value), (6, 4), mode="nearest-exact")
    assert np.array_equal(found, expected.numpy())


@pytest.mark.parametrize(
    ("shape", "fraction", "size", "box"),
    [
        ((40, 30), 1.0, (13, 10), (0, 2, 10, 12)),  # short side 10; long side 40·10/30 = 13; rows from round(1.5) = 2
        ((30, 45), 1.0, (10, 15), (2, 0, 12, 10)),
        ((40, 30), 0.875, (14, 11), (0, 2, 10, 12)),  # ⌊10 / 0.875⌋ = 11; 40·11/30 = 14; columns from round(0.5) = 0
    ],
)
def test_a_centre_crop_by_hand(
    shape: tuple[int, int], fraction: float, size: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    value = pixels(2, *shape)
    found = resize_arrays(value[None, None], 10, 10, Resize(crop="center", crop_fraction=fraction), "x")[0, 0]
    whole = Image.fromarray(value).resize(size[::-1], Image.Resampling.BILINEAR)
    assert np.array_equal(found, np.asarray(whole.crop(box)))


def test_imagenets_256_and_224() -> None:
    value = pixels(3, 300, 400)
    found = resize_arrays(value[None, None], 224, 224, Resize(crop="center", crop_fraction=0.875), "x")[0, 0]
    whole = Image.fromarray(value).resize((341, 256), Image.Resampling.BILINEAR)  # 256 · 400 / 300 = 341.3
    assert np.array_equal(found, np.asarray(whole)[16:240, 58:282])


def test_numbers_beyond_float32_are_refused() -> None:
    with pytest.raises(DataError, match="too large for float32"):
        prepare(np.full((2, 3), 1e200), Input("x", (3,)), Preprocess())


def test_a_few_bytes_are_not_blown_up() -> None:
    with pytest.raises(DataError, match="take more than 16 GiB"):
        resize_arrays(np.zeros((200_000, 1, 1, 1), np.uint8), 4096, 4096, Resize(), "x")


def test_a_ribbon_is_not_blown_up() -> None:
    with pytest.raises(DataError, match="too different"):
        resize_arrays(np.zeros((1, 1, 1, 60_000), np.uint8), 224, 224, Resize(crop="center"), "x")


@pytest.mark.parametrize(
    ("stored", "wanted", "layout"),
    [
        ((5, 12, 10, 3), (3, 6, 5), "NHWC"),
        ((5, 3, 12, 10), (3, 6, 5), "NCHW"),
        ((5, 3, 12, 10), (3, 6, 5), "as-is"),
        ((5, 3, 12, 10), (6, 5, 3), "NCHW"),
        ((5, 12, 10, 3), (6, 5, 3), "as-is"),
        ((5, 12, 10), (1, 6, 5), "as-is"),
        ((5, 12, 10, 1), (1, 6, 5), "NHWC"),
        ((5, 12, 10), (6, 5), "as-is"),
    ],
)
def test_the_order_is_layout_resize_scale_mean_std_layout(
    stored: tuple[int, ...], wanted: tuple[int, ...], layout: Any
) -> None:
    value = pixels(4, *stored)
    channels_last = len(stored) == 4 and stored[-1] in {1, 3}
    first = value.transpose(0, 3, 1, 2) if channels_last else value.reshape(5, -1, 12, 10)
    mean = [10.0, 20.0, 30.0][: first.shape[1]]
    declared = Preprocess(layout=layout, resize=Resize(), scale=0.5, mean=mean, std=[4.0])
    planes = [[Image.fromarray(plane).resize((5, 6), Image.Resampling.BILINEAR) for plane in image] for image in first]
    expected = (np.array(planes) * 0.5 - np.reshape(mean, (1, -1, 1, 1))) / 4
    if len(wanted) == 3 and wanted[-1] == 3:
        expected = expected.transpose(0, 2, 3, 1)
    found = prepare(value, Input("x", wanted), declared)
    np.testing.assert_allclose(found.numpy(), expected.reshape(5, *wanted), atol=1e-5)


def test_channels_come_first_of_samples_with_three_equal_sides_too() -> None:
    value = pixels(5, 2, 4, 4, 4)
    found = prepare(value, Input("x", (4, 4, 4)), Preprocess(layout="NHWC"))
    assert np.array_equal(found.numpy(), value.transpose(0, 3, 1, 2))


def test_mean_and_std_go_along_features_where_there_is_no_image() -> None:
    value = RANDOM.normal(size=(7, 4)).astype(np.float32)
    found = prepare(value, Input("x", (4,)), Preprocess(mean=[1, 2, 3, 4], std=[1, 2, 4, 8]))
    np.testing.assert_allclose(found.numpy(), (value - [1, 2, 3, 4]) / [1, 2, 4, 8], rtol=1e-6)


@pytest.mark.parametrize(
    ("stored", "wanted", "declared", "message"),
    [
        ((5, 4, 4), (1, 4, 4), Preprocess(layout="NHWC"), "needs 4 axes"),
        ((5, 4, 4, 3), (48,), Preprocess(layout="NHWC"), "for images"),
        ((5, 16), (1, 4, 4), Preprocess(resize=Resize()), "for images"),
        ((5, 4, 4, 3), (3, 4, 4), Preprocess(), "declare layout NHWC$"),
        ((5, 9, 4, 3), (3, 4, 4), Preprocess(), "declare layout NHWC and resize"),
        ((5, 3, 9, 9), (3, 4, 4), Preprocess(), "declare resize"),
        ((5, 1, 9, 9), (3, 4, 4), Preprocess(resize=Resize()), "samples have shape"),
        ((5, 3, 9, 9), (3, 4, 4), Preprocess(resize=Resize(size=[5, 4])), "leave size out"),
        ((5, 3, 4, 4), (3, 4, 4), Preprocess(mean=[1, 2]), "1 or 3 values"),
        ((5, 3, 4, 4), (3, 4, 4), Preprocess(mean=[3e38], std=[1e-9]), "float32"),
    ],
)
def test_shapes_that_dont_fit_say_what_to_declare(
    stored: tuple[int, ...], wanted: tuple[int, ...], declared: Preprocess, message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        prepare(np.ones(stored, np.float32), Input("picture", wanted), declared)
    assert caught.value.where == "picture"


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (np.array([[0, 2**31]]), "int32", "from 0 to 2147483648"),
        (np.array([[0, 2]]), "bool", "from 0 to 2"),
        (np.array([[-1, 2]]), "uint8", "from -1"),
        (np.array([[0.5, 2]]), "int64", "float64"),
    ],
)
def test_whole_numbers_must_fit_the_networks_type(value: Any, dtype: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        prepare(value, Input("ids", (2,), dtype), Preprocess())
    with pytest.raises(DataError, match="are for numbers"):
        prepare(np.zeros((1, 2), np.int64), Input("ids", (2,), dtype), Preprocess(scale=0.5))
