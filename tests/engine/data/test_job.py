"""Whole jobs on data of other kinds than class indices, from file to report."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compression.errors import DataError
from compression.events import Reporter
from compression.intake.weights import save_network
from compression.pipeline import Job, run
from compression.spec import parse_job
from compression.zoo.catalog import zoo_network
from tests.engine.data.image_zip import class_folders

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(600, 20)).astype(np.float32)
DIRECTIONS = RANDOM.normal(size=(20, 10))
STEP = {
    "method": "finetune",
    "training": {"epochs": 15, "learning_rate": 0.003, "optimizer": "adamw", "loss": "labels"},
}


def report_of(folder: Path, file: Path, network: str, arguments: dict[str, Any], **spec: Any) -> dict[str, Any]:
    save_network(zoo_network(network, arguments, seed=0), folder / "model.safetensors")
    job = parse_job({"steps": [STEP], "exports": ["onnx"], **spec})
    run(
        Job(job, folder / "model.safetensors", file, folder / "out", latency_seconds=0.05),
        Reporter(io.StringIO()),
    )
    assert "## Data" in (folder / "out" / "artifacts" / "report.md").read_text()
    return json.loads((folder / "out" / "artifacts" / "report.json").read_text())


def test_multi_label(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=X, y=X @ DIRECTIONS > 2, x_calibration=X[:10])
    report = report_of(tmp_path, tmp_path / "d.npz", "lenet300", {"features": 20})
    quality = report["delivered"]["quality"]
    assert report["data"]["task"] == "multilabel"
    assert report["data"]["calibration"] == "10 samples, of its own"
    assert quality["compressed"]["f1"] > quality["original"]["f1"] + 0.2
    assert quality["paired"]["low"] > 0
    assert quality["compressed"]["average_precision"] > 0.9
    assert report["steps"][0]["after"]["validation_average_precision"] > 0.9


def test_a_regression_of_several_values_with_values_that_look_wrong(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=X * 100, y=X @ DIRECTIONS / 5)
    declared = {"preprocess": {"x": {"scale": 0.2}}}
    step = {"method": "finetune", "training": {"epochs": 1, "learning_rate": 1e-4, "loss": "labels"}}
    report = report_of(tmp_path, tmp_path / "d.npz", "lenet300", {"features": 20}, data=declared, steps=[step])
    assert report["data"]["task"] == "regression"
    assert [(entry["kind"], entry["where"]) for entry in report["data"]["warnings"]] == [
        ("few-samples", "test"),
        ("not-normalised", "x"),
    ]
    assert report["data"]["inputs"]["x"]["std"] == pytest.approx(20, rel=0.05)
    assert "**not-normalised** x" in (tmp_path / "out" / "artifacts" / "report.md").read_text()
    assert report["delivered"]["quality"]["compressed"]["mse"] > 0


def test_images_that_do_not_fit_end_the_job_before_anything_is_spent(tmp_path: Path) -> None:
    images = class_folders(tmp_path / "d.zip", {"a": 20, "b": 20}, 20, 24)
    with pytest.raises(DataError, match="declare resize"):
        report_of(tmp_path, images, "lenet5", {})
    assert not (tmp_path / "out").exists()
