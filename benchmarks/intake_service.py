"""`python -m benchmarks.intake --service`: real networks through the embedded service, with images without labels.

PP-OCR's classifier of upside-down lines as PaddlePaddle wrote it, on lines of text drawn here, half of them turned;
ImageNet's MobileNetV2, exported for images of 96 × 96, on pictures of things that it tells apart. Each is uploaded,
inspected, pruned with the original as its only teacher, and published; MobileNetV2 to several sizes, which shows where
it breaks.
"""

from __future__ import annotations

import io
import json
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from benchmarks import foreign, real_models
from benchmarks.objects import objects
from store.settings import Settings
from tests import servers
from tests.e2e.conftest import process, submit, upload, wait, wait_for_api

FILES = Path("out/benchmarks/intake")
LINES, VIEWS, SIDE = 400, 2, 96
LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789  "))
SECONDS = 3600.0


def lines_of_text(count: int) -> Iterator[tuple[str, Image.Image]]:
    """48 × 192 pixels: letters in two colours, every other line upside down."""
    random = np.random.default_rng(0)
    for index in range(count):
        dark, light = (tuple(int(v) for v in random.integers(*ends, size=3)) for ends in ((0, 110), (150, 256)))
        paper, ink = (dark, light) if random.random() < 0.3 else (light, dark)
        image = Image.new("RGB", (192, 48), paper)
        text = "".join(random.choice(LETTERS, size=int(random.integers(6, 14))))
        font = ImageFont.load_default(float(random.integers(20, 34)))
        ImageDraw.Draw(image).text((int(random.integers(2, 16)), int(random.integers(2, 12))), text, ink, font)
        yield f"{index}.png", image.rotate(180) if index % 2 else image


def mobilenet(side: int) -> tuple[Path, dict[str, list[int]]]:
    """By torch's newer exporter, which folds the batch norms into the convolutions."""
    path = FILES / f"MobileNetV2-{side}.onnx"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        foreign.export(real_models.mobilenet_v2(), torch.randn(2, 3, side, side), path, None)
    return path, {}


@dataclass(frozen=True)
class Case:
    """`model`: a file, and the shapes that its free axes are given. `images`: by their paths in the zip. `ratios` of
    the MACs are left, each in a job of its own."""

    model: Callable[[], tuple[Path, Mapping[str, Any]]]
    images: Callable[[], Iterable[tuple[str, Image.Image]]]
    preprocess: Mapping[str, Any]
    ratios: tuple[float, ...]
    options: Mapping[str, Any]


CASES = {
    "PP-OCR classifier": Case(
        lambda: real_models.paddle_ocr()["PP-OCR classifier"],
        partial(lines_of_text, LINES),
        {"scale": 1 / 255, "mean": [0.5], "std": [0.5]},
        (0.5,),
        {"finetune": {"epochs": 5, "batch_size": 32}},
    ),
    "MobileNetV2, newer exporter": Case(
        partial(mobilenet, SIDE),
        partial(objects, VIEWS, SIDE),
        {"scale": 1 / 255, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
        (0.9, 0.75, 0.5),
        # Depthwise convolutions of other widths leave ONNX Runtime's fast path: 1.2 × smaller was 4.6 × slower.
        {"multiple_of": 16, "finetune": {"epochs": 10, "batch_size": 32, "optimizer": "adamw", "learning_rate": 2e-4}},
    ),
}


def run(case: Case, ratio: float) -> dict[str, Any]:
    """A job in a service of its own, on a free port of loopback: what its report says."""
    model, shapes = case.model()
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
            images = upload(client, "datasets", _zip(folder / "images.zip", case.images()))
            return _compress(client, network, images, case, ratio)


def _compress(client: httpx.Client, model: str, dataset: str, case: Case, ratio: float) -> dict[str, Any]:
    (entry,) = client.get(f"/v1/models/{model}").json()["inspection"]["inputs"]
    step = {"method": "prune.structured", "macs_ratio": ratio, "rounds": 1, **case.options}
    data = {"preprocess": {entry["name"]: case.preprocess}}
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
        "agreement": [fidelity["agreement"][key] for key in ("value", "low", "high")],
        "commonest": fidelity["commonest"],
        "samples": fidelity["agreement"]["n"],
        "cosine": fidelity["cosine"],
        "headline": report["headline"],
        "training": report["steps"][0]["facts"]["rounds"][0]["training"],
    }


def _bytes(files: Iterable[Mapping[str, Any]]) -> int:
    return next(int(file["bytes"]) for file in files if file["format"] == "onnx")


def _zip(path: Path, images: Iterable[tuple[str, Image.Image]]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, image in images:
            stream = io.BytesIO()
            image.save(stream, "PNG")
            archive.writestr(name, stream.getvalue())
    return path
