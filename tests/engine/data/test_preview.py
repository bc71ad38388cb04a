"""The inspection of data: figures, classes, pictures, and what looks wrong."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from compression.data.preview import inspect_data
from compression.data.thumbnails import MAX_TEXT
from compression.errors import DataError
from compression.intake.inspect import describe, inspect_file
from tests.engine.data.image_zip import class_folders, encoded, pixels, write_zip

RANDOM = np.random.default_rng(0)
Y = np.arange(400) % 4


def inspect(tmp_path: Path, **arrays: Any) -> dict[str, Any]:
    np.savez(tmp_path / "d.npz", **arrays)
    found = inspect_data(tmp_path / "d.npz")
    json.dumps(found, allow_nan=False)
    assert describe(found)
    return found


def kinds(found: dict[str, Any]) -> set[tuple[str, str]]:
    return {(entry["kind"], entry["where"]) for entry in found["warnings"]}


def test_figures_of_arrays(tmp_path: Path) -> None:
    x = RANDOM.normal(size=(1300, 5000)).astype(np.float32)  # more than one piece
    found = inspect(tmp_path, x=x, y=Y)
    facts = found["arrays"]["x"]
    assert (facts["shape"], facts["dtype"]) == ([1300, 5000], "float32")
    wide = x.astype(np.float64)
    for name in ("min", "max", "mean", "std"):
        assert facts[name] == pytest.approx(float(getattr(wide, name)()), rel=1e-9, abs=1e-12)
    assert found["labels"] == {
        "task": "classification",
        "classes": ["0", "1", "2", "3"],
        "counts": {"train": dict.fromkeys("0123", 100)},
    }


def test_numbers_too_large_for_json_are_left_out(tmp_path: Path) -> None:
    found = inspect(tmp_path, x=np.full((4, 3), 1e308), z=np.array([[np.inf], [1.0]]), empty=np.zeros((0, 3)))
    assert found["arrays"]["x"]["max"] == 1e308
    assert "std" not in found["arrays"]["x"]
    assert found["arrays"]["z"] == {"shape": [2, 1], "dtype": "float64", "finite": False}
    assert ("not-finite", "z") in kinds(found)


@pytest.mark.parametrize(
    ("arrays", "kind", "where", "said"),
    [
        ({"x": RANDOM.integers(0, 256, (400, 8, 8), dtype=np.uint8), "y": Y}, "not-normalised", "x", "1/255"),
        ({"x": RANDOM.integers(0, 256, (400, 8, 8)).astype(np.float32)}, "not-normalised", "x", "1/255"),
        ({"x": RANDOM.normal(50, 9, (400, 3))}, "not-normalised", "x", "std [8"),
        ({"x": np.ones((400, 3)), "y": Y}, "constant-input", "x", "every value is 1"),
        ({"x": np.c_[RANDOM.normal(size=(400, 2)), np.ones(400)]}, "constant-feature", "x", "1 of 3"),
        ({"x_train": RANDOM.normal(size=(400, 3)), "y_train": Y, "x_test": RANDOM.normal(size=(100, 3)),
          "y_test": np.arange(100) % 3}, "class-missing", "test", "no samples of 3"),
        ({"x": RANDOM.normal(size=(400, 3)), "y": np.r_[np.zeros(390, int), np.ones(10, int)]}, "class-unbalanced",
         "train", "0 has 390"),
        ({"x": RANDOM.normal(size=(400, 3)), "y": Y * 2}, "class-gap", "y", "class 1, 3, 5"),
        ({"x": RANDOM.normal(size=(400, 3)), "y": np.eye(4)[Y]}, "labels", "y", "one-hot"),
        ({"x": RANDOM.normal(size=(400, 3)), "y": np.full(400, np.nan)}, "not-finite", "y", "NaN"),
        ({"x": RANDOM.normal(size=(400, 3))}, "few-samples", "test", "40 samples"),
        ({"x": RANDOM.normal(size=(40, 3))}, "few-samples", "train", "32 samples"),
        ({"x": np.tile(RANDOM.normal(size=(200, 3)), (2, 1))}, "duplicates", "", "200 training samples"),
    ],
)  # fmt: skip
def test_warnings(tmp_path: Path, arrays: dict[str, Any], kind: str, where: str, said: str) -> None:
    found = inspect(tmp_path, **arrays)
    messages = [entry["message"] for entry in found["warnings"] if (entry["kind"], entry["where"]) == (kind, where)]
    assert len(messages) == 1, found["warnings"]
    assert said in messages[0]


def test_what_splits_share_is_said_once(tmp_path: Path) -> None:
    images = {f"x_{split}": RANDOM.integers(0, 256, (120, 8, 8), dtype=np.uint8) for split in ("test", "val", "train")}
    (entry,) = inspect(tmp_path, **images)["warnings"]
    assert entry["where"] == "x_train, x_val, x_test"
    assert entry["message"].endswith("declare scale 1/255")
    constant = {f"x_{split}": np.full((120, 3), value) for split, value in (("train", 1), ("val", 2), ("test", 1))}
    found = inspect(tmp_path, **{name: value.astype(np.float32) for name, value in constant.items()})
    assert kinds(found) >= {("constant-input", "x_train, x_test"), ("constant-input", "x_val")}


def test_training_comes_first(tmp_path: Path) -> None:
    arrays = {f"x_{split}": RANDOM.normal(size=(120, 8, 8)) for split in ("calibration", "test", "train", "val")}
    found = inspect(tmp_path, **arrays)
    assert list(found["splits"]) == ["train", "validation", "test", "calibration"]
    assert {sample["split"] for sample in found["samples"]} == {"train"}
    members = {f"{split}/{name}/1.png": encoded(pixels(1)) for split in ("test", "train", "val") for name in "ab"}
    found = inspect_data(write_zip(tmp_path / "d.zip", members))
    assert list(found["splits"]) == list(found["labels"]["counts"]) == ["train", "validation", "test"]


def test_sound_data_has_no_warnings(tmp_path: Path) -> None:
    ids = RANDOM.integers(1, 1000, (2000, 12))
    found = inspect(tmp_path, x=RANDOM.normal(size=(2000, 3)), ids=ids, y=np.arange(2000) % 4)
    assert found["warnings"] == []


def test_samples_shared_by_splits_are_counted(tmp_path: Path) -> None:
    x, ids = RANDOM.normal(size=(300, 3)), np.arange(300)[:, None]
    splits = {"x_train": x[:150], "ids_train": ids[:150], "x_val": x[100:200], "ids_val": ids[100:200]}
    found = inspect(tmp_path, **splits, x_test=x[200:], ids_test=ids[200:])
    (entry,) = [entry for entry in found["warnings"] if entry["kind"] == "duplicates"]
    assert entry["message"] == "50 samples of validation are in train too"
    other = inspect(tmp_path, **{**splits, "ids_val": ids[100:200] + 1000}, x_test=x[200:], ids_test=ids[200:])
    assert "duplicates" not in {kind for kind, _ in kinds(other)}  # one input of two is the same


def test_multi_label_counts(tmp_path: Path) -> None:
    y = RANDOM.random((400, 3)) < 0.3
    found = inspect(tmp_path, x=RANDOM.normal(size=(400, 3)), y=y)
    counts = {str(index): int(y[:, index].sum()) for index in range(3)}
    assert found["labels"] == {"task": "multilabel", "classes": ["0", "1", "2"], "counts": {"train": counts}}


def opened(sample: dict[str, Any]) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(sample["png"])))


@pytest.mark.parametrize("shape", [(28, 28), (1, 28, 28), (3, 28, 28), (28, 28, 3), (100, 60)])
def test_pictures_of_arrays(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x = pixels(0, 400, *shape)
    samples = inspect(tmp_path, x=x, y=Y)["samples"]
    assert [(sample["split"], sample["class"]) for sample in samples] == [("train", str(k)) for k in range(4)]
    first = opened(samples[0])
    assert max(first.size) <= 48
    if shape != (100, 60):
        stored = x[0].transpose(1, 2, 0) if shape[0] in {1, 3} else x[0]
        assert np.array_equal(np.asarray(first), stored.squeeze())
    dark, light = float(x.min()), float(x.max())
    again = opened(inspect(tmp_path, x=x.astype(np.float32), y=Y)["samples"][0])
    spread = (np.asarray(first, float) - dark) / (light - dark) * 255
    assert np.abs(np.asarray(again) - spread).max() <= 1


def test_what_is_no_image_has_no_picture(tmp_path: Path) -> None:
    for x in (RANDOM.normal(size=(50, 784)), RANDOM.normal(size=(50, 2, 28, 28)), np.zeros((50, 28, 28)) * np.nan):
        assert inspect(tmp_path, x=x)["samples"] == []


def test_images_are_looked_at_whole(tmp_path: Path) -> None:
    path = class_folders(tmp_path / "d.zip", {"cat": 30, "dog": 3}, 10, 20)
    found = inspect_file(path)
    assert found["kind"] == "data"
    assert found["labels"] == {
        "task": "classification",
        "classes": ["cat", "dog"],
        "counts": {"train": {"cat": 30, "dog": 3}},
    }
    images = found["images"]
    every = np.array([pixels(1000 * place + k, 10, 20) for place, n in ((0, 30), (1, 3)) for k in range(n)], float)
    assert (images["mean"], images["std"]) == pytest.approx((every.mean(), every.std()))
    assert {name: images[name] for name in ("count", "skipped", "channels", "formats", "height", "width")} == {
        "count": 33,
        "skipped": 0,
        "channels": {"1": 33},
        "formats": {"PNG": 33},
        "height": {"min": 10, "median": 10, "max": 10},
        "width": {"min": 20, "median": 20, "max": 20},
    }
    assert kinds(found) >= {("class-unbalanced", "train"), ("not-normalised", ""), ("few-samples", "test")}
    assert [sample["class"] for sample in found["samples"]] == ["cat", "dog"]
    assert np.array_equal(np.asarray(opened(found["samples"][1])), pixels(1000, 10, 20))
    assert "33 images" in describe(found)


def test_a_large_image_is_looked_at_in_strips(tmp_path: Path) -> None:
    large = pixels(7, 1300, 1100)
    images = inspect_data(write_zip(tmp_path / "d.zip", {"1.png": encoded(large)}))["images"]
    assert (images["mean"], images["std"]) == pytest.approx((large.mean(), large.std()))


def test_class_folders_called_by_numbers(tmp_path: Path) -> None:
    ten = class_folders(tmp_path / "ten.zip", dict.fromkeys(map(str, range(11)), 1))
    assert ("class-order", "y") in kinds(inspect_data(ten))
    nine = class_folders(tmp_path / "nine.zip", dict.fromkeys(map(str, range(10)), 1))
    assert ("class-order", "y") not in kinds(inspect_data(nine))


def test_pictures_are_one_of_each_class_in_training(tmp_path: Path) -> None:
    members = {
        f"{split}/{name}/{index}.png": encoded(pixels(index, 100, 8))
        for split in ("test", "train", "val")
        for name in ("a", "b")
        for index in range(5)
    }
    samples = inspect_data(write_zip(tmp_path / "d.zip", members))["samples"]
    assert [(sample["split"], sample["class"]) for sample in samples] == [("train", "a"), ("train", "b")]
    assert opened(samples[0]).size == (4, 48)


def test_pictures_are_bounded_together(tmp_path: Path) -> None:
    members = {f"{k}.png": encoded(pixels(k, 48, 48, 3)) for k in range(9)}
    samples = inspect_data(write_zip(tmp_path / "d.zip", members))["samples"]
    assert 5 < len(samples) <= 8
    assert sum(len(sample["png"]) for sample in samples) <= MAX_TEXT


def test_the_same_file_in_two_splits(tmp_path: Path) -> None:
    members = {f"{split}/{k}.png": encoded(pixels(k)) for split, n in (("train", 9), ("val", 4), ("test", 2)) for k in range(n)}  # fmt: skip  # noqa: E501
    (entry,) = [
        e for e in inspect_data(write_zip(tmp_path / "d.zip", members))["warnings"] if e["kind"] == "duplicates"
    ]
    assert entry["message"].startswith("4 samples of validation are in train too, 2 samples of test are in train too")


def test_a_broken_image_is_found_by_the_inspection(tmp_path: Path) -> None:
    members = {f"{k}.png": encoded(pixels(k)) for k in range(5)}
    members["3.png"] = members["3.png"][:-30]
    with pytest.raises(DataError) as caught:
        inspect_data(write_zip(tmp_path / "d.zip", members))
    assert (caught.value.kind, caught.value.where) == ("data-unreadable", "3.png")
