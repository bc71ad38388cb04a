"""Deep Compression as a user meets it: masked, shared, coded; the `.nwk` file decodes and is the next job's model."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from store.settings import Settings
from tests.e2e.conftest import Files, api, artifacts, content, process, submit, upload, wait

TRAINED = {"epochs": 3, "loss": "labels"}
STEPS = [
    {"method": "finetune", "training": {"epochs": 6, "learning_rate": 0.05, "loss": "labels"}},
    {"method": "prune.weights", "sparsity": 0.7, "rounds": 2, "finetune": TRAINED},
    {
        "method": "quantize.codebook",
        "convolution_bits": 4,
        "linear_bits": 3,
        "finetune": {**TRAINED, "optimizer": "adamw", "learning_rate": 0.001},
    },
    {"method": "encode"},
]
FEW_BITS = [
    {"method": "quantize.ternary", "training": None, "first_last_bits": None},
    {"method": "quantize.float16"},
]


@pytest.mark.parametrize("kind", ["embedded", "production"])
def test_a_coded_file(kind: str, files: Files, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    settings: Settings = request.getfixturevalue(f"{kind}_settings")
    with ExitStack() as stack:
        for queue in ("cpu", "inspect"):
            stack.enter_context(process(settings, "worker", "run", "--queues", queue))
        client = stack.enter_context(api(settings))
        model, data = upload(client, "models", files.model), upload(client, "datasets", files.data)
        wrong = client.post("/v1/jobs", json={"model": model, "dataset": data, "steps": [STEPS[3], STEPS[0]]})
        assert wrong.status_code == 422
        assert wrong.json()["errors"][0]["pointer"] == "/steps/1/method"

        job = submit(client, {"model": model, "dataset": data, "steps": STEPS, "exports": ["onnx"]})
        row = wait(client, job)
        assert row["state"] == "succeeded", row
        report = client.get(f"/v1/jobs/{job}/report").json()
        stages = [step["after"]["coded_bytes"] for step in report["steps"]]
        assert stages[0] > stages[1] > stages[2]
        found = artifacts(client, job)
        coded = content(client, found["model.nwk"])
        assert len(coded) == report["steps"][3]["facts"]["file_bytes"] < stages[1]
        claim = next(claim["text"] for claim in report["claims"] if ".nwk" in claim["text"])
        assert f"{report['original']['bytes']:,} of fp32 weights → {len(coded):,} bytes as .nwk" in claim

        (tmp_path / "model.nwk").write_bytes(coded)
        command = [sys.executable, "-m", "compression", "decode", str(tmp_path / "model.nwk"), "--to", "onnx"]
        subprocess.run(command, check=True)
        session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
        logits = session.run(None, {"image": files.test_images})[0]
        right = float((np.asarray(logits).argmax(1) == files.test_labels).mean())
        assert right == report["delivered"]["quality"]["compressed"]["top1"]["value"]
        assert right > 0.8

        short = submit(client, {"model": model, "dataset": data, "steps": FEW_BITS, "exports": ["onnx"]})
        assert wait(client, short)["state"] == "succeeded"
        assert len(content(client, artifacts(client, short)["model.onnx"])) < report["original"]["bytes"]

        next_job = submit(client, {"model": found["model.nwk"]["id"], "dataset": data, "steps": [STEPS[0]]})
        assert wait(client, next_job)["state"] == "succeeded"
        again = upload(client, "models", tmp_path / "model.nwk")
        assert client.get(f"/v1/models/{again}").json()["inspection"]["form"] == "lifted"
