"""`make demo`: the main job on real data, through the service, as a user would do it with any HTTP client."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime

from demo.train import images, train_and_save

FOLDER = Path("var/demo")
SPEC = {
    "name": "demo",
    "data": {"preprocess": {"x": {"scale": 1 / 255}}},
    "steps": [
        {
            "method": "prune.structured",
            "macs_ratio": 0.2,
            "rounds": 4,
            "finetune": {"epochs": 2, "learning_rate": 0.02},
        },
        {"method": "finetune", "training": {"epochs": 4, "learning_rate": 0.02}},
    ],
}


def main() -> int:
    started = time.monotonic()
    print("1. Train LeNet-5 on 4,000 handwritten digits, and export it with torch.export")
    model, data = train_and_save(FOLDER)
    port = _free_port()
    print(f"2. Start the embedded service on http://127.0.0.1:{port}")
    environment = {**os.environ, "NIWAKI_PORT": str(port), "NIWAKI_DATA_DIR": str(FOLDER / "service")}
    with (FOLDER / "service.log").open("w") as log:
        service = subprocess.Popen(
            [sys.executable, "-m", "worker", "serve"], env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            _wait_until_ready(client, service)
            report = _compress(client, model, data)
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait(30)
    print(f"\nDone in {time.monotonic() - started:.0f} s. The files are in {FOLDER / 'artifacts'}.")
    return 0 if report else 1


def _compress(client: httpx.Client, model: Path, data: Path) -> bool:
    print("3. Upload model and data")
    model_id = _upload(client, "/v1/models", model)
    dataset_id = _upload(client, "/v1/datasets", data)
    inspection = _when_inspected(client, f"/v1/models/{model_id}")
    _when_inspected(client, f"/v1/datasets/{dataset_id}")
    for layer in inspection["layers"]:
        if layer["parameters"]:
            print(
                f"   {layer['name']:14} {layer['type']:8} {layer['parameters']:>8,} parameters {layer['macs']:>9,} MACs"
            )
    print("4. Submit the job: structured pruning to a fifth of the MACs in rounds, then fine-tuning")
    answer = client.post("/v1/jobs", json={**SPEC, "model": model_id, "dataset": dataset_id})
    answer.raise_for_status()
    job = answer.json()["id"]
    _watch(client, job)
    state = client.get(f"/v1/jobs/{job}").json()
    if state["state"] != "succeeded":
        print(json.dumps(state.get("error"), indent=2))
        return False
    print("\n" + client.get(f"/v1/jobs/{job}/report", headers={"Accept": "text/markdown"}).text)
    print("5. Download the artifacts and check the .onnx in ONNX Runtime, independently")
    folder = FOLDER / "artifacts"
    folder.mkdir(exist_ok=True)
    for artifact in client.get(f"/v1/jobs/{job}/artifacts").json()["items"]:
        content = client.get(f"/v1/artifacts/{artifact['id']}/content").content
        (folder / artifact["name"]).write_bytes(content)
        print(f"   {artifact['name']:24} {len(content):>10,} bytes")
    return _check(folder / "model.onnx", client.get(f"/v1/jobs/{job}/report").json())


def _upload(client: httpx.Client, address: str, path: Path) -> str:
    with path.open("rb") as file:
        answer = client.post(address, params={"filename": path.name, "name": f"demo {path.name}"}, content=file)
    answer.raise_for_status()
    identity: str = answer.json()["id"]
    print(f"   {path.name}: {path.stat().st_size:,} bytes → {identity}")
    return identity


def _when_inspected(client: httpx.Client, address: str) -> dict[str, Any]:
    while True:
        row = client.get(address).json()
        if row["state"] == "rejected":
            raise SystemExit(f"refused: {row['problem']}")
        if row["state"] == "ready":
            inspection: dict[str, Any] = row["inspection"]
            return inspection
        time.sleep(0.2)


def _watch(client: httpx.Client, job: str) -> None:
    """Follows the job's events (server-sent) until it ends."""
    with client.stream("GET", f"/v1/jobs/{job}/events", timeout=None) as stream:
        kind = ""
        for line in stream.iter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: "):
                event = json.loads(line.removeprefix("data: "))
                if kind == "progress":
                    accuracy = event.get("metrics", {}).get("accuracy")
                    shown = f", validation accuracy {accuracy:.2%}" if accuracy is not None else ""
                    print(f"   {event['fraction']:>4.0%}  {event['message']}{shown}", flush=True)
                elif kind in {"step_started", "measuring"}:
                    print(f"   {kind.replace('_', ' ')} {event.get('method', '')}", flush=True)


def _check(path: Path, report: dict[str, Any]) -> bool:
    x, y = images()["test"]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {session.get_inputs()[0].name: (x / 255).astype(np.float32)})
    accuracy = float((logits.argmax(1) == y).mean())
    print(f"   model.onnx on the {len(y)} test images: {accuracy:.2%}; the report says {report['headline']!r}")
    return accuracy > 0.9


def _wait_until_ready(client: httpx.Client, service: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        if service.poll() is not None:
            raise SystemExit(f"the service ended: see {FOLDER / 'service.log'}")
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.ConnectError:
            pass
        time.sleep(0.2)
    raise SystemExit(f"the service isn't ready: see {FOLDER / 'service.log'}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main())
