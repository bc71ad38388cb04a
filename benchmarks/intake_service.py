"""`python -m benchmarks.intake --service`: real networks through the embedded service, with images without labels.

PP-OCR's classifier of upside-down lines as PaddlePaddle wrote it, on lines of text drawn here, half of them turned;
ImageNet's MobileNetV2, exported, on Fashion-MNIST, which shows that the way works, not what ImageNet would lose. Each
is uploaded, inspected, pruned to half of its MACs with the original as its only teacher, and published.
"""

from __future__ import annotations

import io
import json
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.images import fashion_pictures
from store.settings import Settings
from tests import servers
from tests.e2e.conftest import process, submit, upload, wait, wait_for_api

IMAGES = 400
LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789  "))
SECONDS = 3600.0


def lines_of_text(count: int) -> Iterable[Image.Image]:
    """48 × 192 pixels: letters in two colours, every other line upside down."""
    random = np.random.default_rng(0)
    for index in range(count):
        dark, light = (tuple(int(v) for v in random.integers(*ends, size=3)) for ends in ((0, 110), (150, 256)))
        paper, ink = (dark, light) if random.random() < 0.3 else (light, dark)
        image = Image.new("RGB", (192, 48), paper)
        text = "".join(random.choice(LETTERS, size=int(random.integers(6, 14))))
        font = ImageFont.load_default(float(random.integers(20, 34)))
        ImageDraw.Draw(image).text((int(random.integers(2, 16)), int(random.integers(2, 12))), text, ink, font)
        yield image.rotate(180) if index % 2 else image


def clothes(count: int) -> Iterable[Image.Image]:
    return map(Image.fromarray, fashion_pictures(count))


@dataclass(frozen=True)
class Case:
    images: Callable[[int], Iterable[Image.Image]]
    preprocess: Mapping[str, Any]


CASES = {
    "PP-OCR classifier": Case(lines_of_text, {"scale": 1 / 255, "mean": [0.5], "std": [0.5]}),
    "MobileNetV2, newer exporter": Case(
        clothes,
        {
            "resize": {"method": "bilinear"},
            "scale": 1 / 255,
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
        },
    ),
}


def run(case: Case, model: Path, shapes: Mapping[str, Any]) -> dict[str, Any]:
    """A job in a service of its own, on a free port of loopback: what its report says. `shapes`: of free axes."""
    with tempfile.TemporaryDirectory(prefix="niwaki-intake-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (port,) = servers.free_ports(1)
        settings = Settings(data_dir=folder / "service", port=port)
        settings.data_dir.mkdir()
        with (
            process(settings, "worker", "serve"),
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client,
        ):
            wait_for_api(client)
            described = {"architecture": json.dumps({"inputs": shapes})} if shapes else {}
            network = upload(client, "models", model, **described)
            images = upload(client, "datasets", _zip(folder / "images.zip", case.images(IMAGES)))
            return _compress(client, network, images, case.preprocess)


def _compress(client: httpx.Client, model: str, dataset: str, preprocess: Mapping[str, Any]) -> dict[str, Any]:
    (entry,) = client.get(f"/v1/models/{model}").json()["inspection"]["inputs"]
    training = {"epochs": 1, "batch_size": 32}
    step = {"method": "prune.structured", "macs_ratio": 0.5, "rounds": 2, "finetune": training}
    data = {"preprocess": {entry["name"]: preprocess}}
    start = time.monotonic()
    job = submit(client, {"model": model, "dataset": dataset, "data": data, "steps": [step]})
    row = wait(client, job, SECONDS)
    seconds = time.monotonic() - start
    if row["state"] != "succeeded":
        raise SystemExit(f"{job}: {row['error']}")
    report = client.get(f"/v1/jobs/{job}/report").json()
    sizes = [_bytes(report[files]) for files in ("original_files", "artifacts")]
    fidelity = report["delivered"]["quality"]["fidelity"]
    return {
        "seconds": seconds,
        "macs": [report["original"]["macs"], report["compressed"]["macs"]],
        "smaller": sizes[0] / sizes[1],
        "agreement": fidelity["agreement"]["value"],
        "samples": fidelity["agreement"]["n"],
        "cosine": fidelity["cosine"],
    }


def _bytes(files: Iterable[Mapping[str, Any]]) -> int:
    return next(int(file["bytes"]) for file in files if file["format"] == "onnx")


def _zip(path: Path, images: Iterable[Image.Image]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for index, image in enumerate(images):
            stream = io.BytesIO()
            image.save(stream, "PNG")
            archive.writestr(f"{index}.png", stream.getvalue())
    return path
