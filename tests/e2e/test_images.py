"""A zip of images through the service: preview, a refusal that says what to declare, a job, its report."""

from __future__ import annotations

import io
import zipfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from PIL import Image

from store.settings import Settings
from tests.e2e.conftest import Files, api, process, submit, upload, wait

SIDE = 12  # the network wants 8
CLASSES = ("bar", "cross", "dot", "ring", "stripe")


def images(path: Path) -> Path:
    """Five patterns under noise, as PNG."""
    random = np.random.default_rng(0)
    patterns = random.integers(40, 216, (5, SIDE // 2, SIDE // 2)).repeat(2, 1).repeat(2, 2)
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(600):
            value = (patterns[index % 5] + random.normal(0, 25, (SIDE, SIDE))).clip(0, 255).astype(np.uint8)
            stream = io.BytesIO()
            Image.fromarray(value).save(stream, "PNG")
            archive.writestr(f"shapes/{CLASSES[index % 5]}/{index}.png", stream.getvalue())
        archive.writestr("__MACOSX/shapes/._bar", b"\0\5")
    return path


def test_a_zip_of_images(files: Files, embedded_settings: Settings, tmp_path: Path) -> None:
    with ExitStack() as stack:
        for queue in ("cpu", "inspect"):
            stack.enter_context(process(embedded_settings, "worker", "run", "--queues", queue))
        client = stack.enter_context(api(embedded_settings))
        model, data = upload(client, "models", files.model), upload(client, "datasets", images(tmp_path / "shapes.zip"))
        found = client.get(f"/v1/datasets/{data}").json()["inspection"]
        assert (found["labels"]["classes"], found["images"]["skipped"]) == (list(CLASSES), 1)
        assert {entry["kind"] for entry in found["warnings"]} == {"not-normalised", "few-samples"}
        assert len(found["samples"]) == 5

        step = {"method": "finetune", "training": {"epochs": 5, "learning_rate": 0.05, "loss": "labels"}}
        body = {"model": model, "dataset": data, "steps": [step], "exports": ["onnx"]}
        early = client.post("/v1/jobs", json=body)
        assert early.status_code == 422
        assert early.json()["errors"][0]["pointer"] == "/data/preprocess/image/resize"

        declared = {"resize": {"method": "bilinear"}, "scale": 1 / 255, "mean": [0.5], "std": [0.25]}
        job = submit(client, {**body, "data": {"preprocess": {"image": declared}}})
        row = wait(client, job)
        assert row["state"] == "succeeded", row
        report = client.get(f"/v1/jobs/{job}/report").json()
        assert report["data"]["classes"] == list(CLASSES)
        assert abs(report["data"]["inputs"]["image"]["mean"]) < 0.5
        assert {entry["kind"] for entry in report["data"]["warnings"]} == {"few-samples"}
        assert report["delivered"]["quality"]["compressed"]["top1"]["value"] > 0.8
        text = client.get(f"/v1/jobs/{job}/report", headers={"Accept": "text/markdown"}).text
        assert "- classes: 0 bar, 1 cross" in text
