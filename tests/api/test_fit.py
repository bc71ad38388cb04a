"""A job is held against what the inspections of its model and its dataset really found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compression.data.preview import inspect_data
from tests.api.running import STEPS, Json, Running
from tests.engine.data.image_zip import class_folders, encoded, pixels, write_zip

COUNT = 40
X = pixels(0, COUNT, 28, 28)
Y = np.arange(COUNT) % 10


def faults(api: Running, inspection: Json, data: Json | None = None) -> list[tuple[str, str]]:
    """(pointer, detail) of each fault of a job for LeNet-5; `x` in `data` stands for its input."""
    dataset = api.upload("dataset", b"data")["id"]
    api.inspect(dataset, inspection)
    body = {"model": api.model(), "dataset": dataset, "steps": STEPS, "data": data or {}}
    answer = api.http.post("/v1/jobs", params={"dry_run": True}, json=body)
    assert answer.status_code in {200, 422}, answer.text
    return [(entry["pointer"], entry["detail"]) for entry in answer.json().get("errors", [])]


def arrays(folder: Path, **values: Any) -> Json:
    np.savez(folder / "d.npz", **values)
    return inspect_data(folder / "d.npz")


@pytest.mark.parametrize(
    ("values", "data", "said"),
    [
        ({"x": X, "y": Y}, {}, []),
        ({"x": X, "y": Y + 1}, {}, ["label 10 is out of range: the output output has 10 classes"]),
        (
            {"x": X, "y": Y + 1, "x_val": X, "y_val": Y + 3, "x_test": X, "y_test": Y + 2},
            {},
            ["label 12 is out of range: the output output has 10 classes"],
        ),
        ({"x": np.where(X > 9, np.inf, X), "y": Y}, {}, ["NaN or infinite"]),
        ({"x": X[:4], "y": Y[:4]}, {}, ["too few samples (4) to make a test split"]),
        ({"x": X[:4], "y": Y[:4]}, {"test_fraction": 0.3, "validation_fraction": 0.4}, []),
        ({"x": X, "y": Y[:, None] < np.arange(10)}, {}, []),
        ({"x": X, "y": Y[:, None] < np.arange(9)}, {}, ["the labels are N × 9, the output output is N × 10"]),
        ({"x": X, "y": np.ones((COUNT, 3))}, {}, ["a target has 3 values, the output output has 10"]),
        ({"x": X, "y": Y * 3}, {"task": "regression"}, ["a target has 1 values"]),
        ({"x": pixels(1, COUNT, 32, 32)}, {}, ["declare resize"]),
        (
            {"x": pixels(1, COUNT, 32, 32), "x_val": pixels(2, 9, 32, 32), "x_test": pixels(3, 9, 30, 30)},
            {},
            ["x, x_val: samples have shape (32, 32)", "x_test: samples have shape (30, 30)"],
        ),
        ({"x": pixels(1, COUNT, 32, 32)}, {"preprocess": {"x": {"resize": {}}}}, []),
        ({"x": pixels(1, COUNT, 32, 32)}, {"preprocess": {"x": {"resize": {"size": [32, 32]}}}}, ["leave size out"]),
        ({"x": pixels(1, COUNT, 28, 28, 3)}, {"preprocess": {"x": {"layout": "NHWC"}}}, ["(3, 28, 28)"]),
        ({"x": X, "x_calibration": X[:3], "y": Y}, {}, []),
    ],
)
def test_arrays(api: Running, tmp_path: Path, values: Json, data: Json, said: list[str]) -> None:
    found = faults(api, arrays(tmp_path, **values), data)
    assert len(found) == len(said), found
    for (pointer, detail), part in zip(found, said, strict=True):
        assert pointer == "/dataset"
        assert part in detail


def test_images(api: Running, tmp_path: Path) -> None:
    ten = dict.fromkeys("abcdefghij", 4)
    fitting = inspect_data(class_folders(tmp_path / "a.zip", ten, 28, 28))
    assert faults(api, fitting) == []
    other = inspect_data(class_folders(tmp_path / "b.zip", ten, 30, 28))
    ((pointer, detail),) = faults(api, other)
    assert pointer == "/data/preprocess/x/resize"
    assert "30 × 28" in detail
    assert faults(api, other, {"preprocess": {"x": {"resize": {"crop": "center"}}}}) == []
    assert faults(api, other, {"preprocess": {"x": {"resize": {"size": [30, 28]}}}})[0][0].endswith("/resize/size")
    assert faults(api, fitting, {"preprocess": {"x": {"layout": "NCHW"}}})[0][0] == "/data/preprocess/x/layout"
    eleven = inspect_data(class_folders(tmp_path / "c.zip", {**ten, "k": 4}, 28, 28))
    ((pointer, detail),) = faults(api, eleven)
    assert (pointer, detail) == ("/dataset", "label 10 is out of range: the output output has 10 classes")
    bare = write_zip(tmp_path / "d.zip", {f"{index}.png": encoded(pixels(index, 28, 28, 3)) for index in range(20)})
    assert faults(api, inspect_data(bare)) == []  # colour becomes grey


def test_the_preview_is_shown(api: Running, tmp_path: Path) -> None:
    dataset = api.upload("dataset", b"data")["id"]
    api.inspect(dataset, inspect_data(class_folders(tmp_path / "a.zip", {"cat": 3, "dog": 3})))
    shown = api.http.get(f"/v1/datasets/{dataset}").json()["inspection"]
    assert shown["labels"]["classes"] == ["cat", "dog"]
    assert [sample["class"] for sample in shown["samples"]] == ["cat", "dog"]
    assert {"kind", "message", "where"} == set(shown["warnings"][0])
