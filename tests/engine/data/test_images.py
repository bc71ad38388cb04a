"""Zips of images as a job reads them: folders, colours, sizes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from compression.data import load_dataset
from compression.errors import DataError
from compression.intake.images import read_image_set
from compression.network import Input, Signature
from compression.spec import DataSpec, Preprocess, Resize
from tests.engine.data.image_zip import class_folders, encoded, pixels, write_zip

GREY = Signature((Input("image", (1, 8, 8)),))
COLOUR = Signature((Input("image", (3, 8, 8)),))
PNG = encoded(pixels(0))


def spec(**declared: object) -> DataSpec:
    return DataSpec(preprocess={"image": Preprocess(**declared)})  # type: ignore[arg-type]


def test_class_folders_are_split_and_their_order_is_that_of_their_names(tmp_path: Path) -> None:
    path = class_folders(tmp_path / "d.zip", {"dog": 20, "cat": 20, "Ant": 20})
    data = load_dataset(path, GREY, spec(scale=1 / 255, mean=[0.5], std=[0.25]))
    assert data.classes == ("Ant", "cat", "dog")
    assert data.task == "classification"
    assert [len(part) for part in (data.train, data.validation, data.test)] == [49, 5, 6]
    # dog/3.png is of class 2, somewhere in one of the splits, prepared as declared.
    wanted = torch.from_numpy((pixels(3) / 255 - 0.5) / 0.25).float()
    found = [
        int(label)
        for part in (data.train, data.validation, data.test)
        for image, label in zip(part.inputs["image"], part.labels, strict=True)
        if torch.allclose(image[0], wanted, atol=1e-6)
    ]
    assert found == [2]


def test_split_folders_calibration_a_wrapping_folder_and_what_systems_leave(tmp_path: Path) -> None:
    members = {
        f"set/{split}/{name}/{index}.png": encoded(pixels(index))
        for split, count in (("train", 6), ("val", 2), ("test", 3))
        for name in ("a", "b")
        for index in range(count)
    }
    members |= {"set/calibration/1.png": encoded(pixels(99)), "set/": b"", "__MACOSX/set/train/a/._0.png": b"x"}
    members |= {"set/.DS_Store": b"x", "set/train/a/Thumbs.db": b"x", "set/test/b/._2.png": b"x"}
    path = write_zip(tmp_path / "d.zip", members)
    data = load_dataset(path, GREY, DataSpec())
    assert [len(part) for part in (data.train, data.validation, data.test)] == [12, 4, 6]
    assert torch.equal(data.calibration.inputs["image"][0, 0], torch.from_numpy(pixels(99)).float())
    assert data.calibration.labels is None
    assert read_image_set(path).skipped == 4


def test_images_at_the_top_have_no_labels(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "d.zip", {f"{index:02}.png": encoded(pixels(index)) for index in range(30)})
    data = load_dataset(path, GREY, DataSpec())
    assert data.task is None
    assert data.classes == ()
    assert data.calibration.inputs is data.train.inputs  # none was given: the training inputs, and it says so
    assert data.described()["calibration"] == "24 samples, the training inputs"


@pytest.mark.parametrize(
    ("members", "where", "message"),
    [
        ({"a/1.png": PNG, "b/1.png": PNG, "2.png": PNG}, "2.png", "outside the class folders"),
        ({"a/1.png": PNG, "a/2.png": PNG}, "a", "one class folder alone"),
        ({"train/a/1.png": PNG, "b/1.png": PNG}, "b", "beside the splits train"),
        ({"val/a/1.png": PNG, "validation/a/1.png": PNG, "train/a/1.png": PNG}, "val", "two folders of validation"),
        ({"test/a/1.png": PNG, "test/b/1.png": PNG}, "d.zip", "no training images"),
        ({"train/a/b/1.png": PNG, "train/c/1.png": PNG}, "train/a/b/1.png", "too deep"),
        ({"a/1.png": PNG, "b/1.png": PNG, "calibration/a/1.png": PNG}, "calibration/a/1.png", "have no labels"),
        ({"a/1.png": PNG, "b/labels.csv": b"1"}, "b/labels.csv", "nothing but"),
    ],
)
def test_folders_that_make_no_sense_are_named(
    tmp_path: Path, members: dict[str, bytes], where: str, message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_image_set(write_zip(tmp_path / "d.zip", members))
    assert caught.value.where == where


def colours(kind: str) -> bytes:
    value = pixels(5, 8, 8, 4)
    value[:, :, 3] = 255
    if kind == "palette":
        return encoded(value[:, :, :3], mode="P")
    return encoded(value[:, :, :3] if kind == "RGB" else value, "PNG")


@pytest.mark.parametrize("kind", ["RGB", "RGBA", "palette"])
def test_colour_becomes_what_the_network_wants(tmp_path: Path, kind: str) -> None:
    members = {f"{name}/{index}.png": colours(kind) for name in "ab" for index in range(10)}
    path = write_zip(tmp_path / "d.zip", members)
    rgb = np.asarray(Image.open(io.BytesIO(colours(kind))).convert("RGB"))
    three = load_dataset(path, COLOUR, DataSpec()).train.inputs["image"][0]
    assert torch.equal(three, torch.from_numpy(rgb.transpose(2, 0, 1).copy()).float())
    one = load_dataset(path, GREY, DataSpec()).train.inputs["image"][0, 0].numpy()
    luma = rgb @ np.array([0.299, 0.587, 0.114])  # ITU-R 601-2
    assert np.abs(one - luma).max() < 1.0


def test_grey_images_for_a_colour_network_and_channels_last(tmp_path: Path) -> None:
    path = class_folders(tmp_path / "d.zip", {"a": 10, "b": 10})
    value = load_dataset(path, COLOUR, DataSpec()).train.inputs["image"]
    assert value.shape[1:] == (3, 8, 8)
    assert torch.equal(value[:, 0], value[:, 2])
    last = load_dataset(path, Signature((Input("image", (8, 8, 3)),)), DataSpec()).train.inputs["image"]
    assert torch.equal(last, value.permute(0, 2, 3, 1))
    per_channel = spec(mean=[1.0, 2.0, 3.0])
    moved = load_dataset(path, Signature((Input("image", (8, 8, 3)),)), per_channel).train.inputs["image"]
    assert torch.equal(moved, last - torch.tensor([1.0, 2.0, 3.0]))


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_the_orientation_of_a_photograph_is_applied(tmp_path: Path, orientation: int) -> None:
    upright = np.tile(np.linspace(0, 255, 8, dtype=np.uint8), (8, 1))
    upright[:4] //= 2
    stored = np.asarray({6: np.rot90(upright), 8: np.rot90(upright, -1), 3: upright[::-1, ::-1]}[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    members = {
        f"{name}/{index}.jpg": encoded(stored, "JPEG", quality=100, exif=exif) for name in "ab" for index in range(10)
    }
    value = load_dataset(write_zip(tmp_path / "d.zip", members), GREY, DataSpec()).train.inputs["image"][0, 0].numpy()
    assert np.abs(value - upright).max() < 12  # JPEG
    assert np.abs(value - stored).max() > 60


def test_other_sizes_need_a_declared_resize(tmp_path: Path) -> None:
    path = class_folders(tmp_path / "d.zip", {"a": 10, "b": 10}, 16, 12)
    with pytest.raises(DataError, match="/data/preprocess/image/resize") as caught:
        load_dataset(path, GREY, DataSpec())
    assert caught.value.where == "a/0.png"
    data = load_dataset(path, GREY, spec(resize=Resize(method="bicubic")))
    expected = np.asarray(Image.fromarray(pixels(0, 16, 12)).resize((8, 8), Image.Resampling.BICUBIC))
    assert any(
        np.array_equal(image[0].numpy(), expected)
        for part in (data.train, data.validation, data.test)
        for image in part.inputs["image"]
    )
    with pytest.raises(DataError, match="leave size out"):
        load_dataset(path, GREY, spec(resize=Resize(size=[16, 16])))


@pytest.mark.parametrize(
    ("signature", "declared", "message"),
    [
        (Signature((Input("image", (12, 8, 8)),)), DataSpec(), "1 or 3 channels"),
        (Signature((Input("image", (64,)),)), DataSpec(), "1 or 3 channels"),
        (Signature((Input("image", (1, 8, 8), "int64"),)), DataSpec(), "int64"),
        (Signature((Input("a", (1, 8, 8)), Input("b", (1,)))), DataSpec(), "one input"),
        (GREY, DataSpec(task="regression"), "class folders are for classification"),
        (GREY, DataSpec(preprocess={"image": Preprocess(layout="NHWC")}), "no layout"),
    ],
)
def test_networks_that_take_no_images(tmp_path: Path, signature: Signature, declared: DataSpec, message: str) -> None:
    path = class_folders(tmp_path / "d.zip", {"a": 10, "b": 10})
    with pytest.raises(DataError, match=message):
        load_dataset(path, signature, declared)
