"""The main job as a user meets it: upload → inspect → spec → worker → report → download → next job."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from contextlib import ExitStack

import numpy as np
import onnxruntime
import pytest

from store.settings import Settings
from tests.e2e.conftest import Files, api, artifacts, content, process, submit, upload, wait

STEPS = [
    {"method": "finetune", "training": {"epochs": 6, "learning_rate": 0.05, "loss": "labels"}},
    {"method": "prune.structured", "macs_ratio": 0.5, "rounds": 2, "finetune": {"epochs": 3, "loss": "labels"}},
]


@pytest.mark.parametrize(("kind", "next_model"), [("embedded", "model.onnx"), ("production", "model.pt2")])
def test_the_main_job(kind: str, next_model: str, files: Files, request: pytest.FixtureRequest) -> None:
    settings: Settings = request.getfixturevalue(f"{kind}_settings")
    with ExitStack() as stack:
        for queue in ("cpu", "inspect"):
            stack.enter_context(process(settings, "worker", "run", "--queues", queue))
        client = stack.enter_context(api(settings))

        model, data = upload(client, "models", files.model), upload(client, "datasets", files.data)
        inspection = client.get(f"/v1/models/{model}").json()["inspection"]
        assert {layer["name"] for layer in inspection["layers"]} >= {"stem.0", "body.0", "body.2", "head"}
        assert inspection["methods"]["prune.structured"]["applicable"]

        spec = {"model": model, "dataset": data, "seed": 1, "steps": STEPS, "name": "first"}
        wrong = client.post("/v1/jobs", json={**spec, "steps": [{**STEPS[1], "layers": {"include": ["fc9"]}}]})
        assert wrong.status_code == 422
        assert wrong.headers["content-type"].startswith("application/problem+json")
        assert wrong.json()["errors"][0]["pointer"].startswith("/steps/0/layers/include")
        predicted = client.post("/v1/jobs", params={"dry_run": "true"}, json=spec).json()
        assert predicted["steps"][-1]["predicted"]["macs"] == pytest.approx(inspection["cost"]["macs"] * 0.5, rel=0.01)

        job = submit(client, spec)
        kinds = []
        with client.stream("GET", f"/v1/jobs/{job}/events", timeout=240) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            kinds = [line.removeprefix("event: ") for line in stream.iter_lines() if line.startswith("event: ")]
        assert {"started", "step_started", "metric", "checkpoint", "step_finished", "measuring"} <= set(kinds)
        row = wait(client, job)
        assert row["state"] == "succeeded", row
        assert row["sandbox"] in {"bubblewrap", "landlock-network", "landlock-files"}
        assert {"waiting", "fetching", "steps", "measuring", "publishing"} <= set(row["times"])
        assert [step["state"] for step in row["steps"]] == ["finished", "finished"]

        report = client.get(f"/v1/jobs/{job}/report").json()
        found = artifacts(client, job)
        assert set(found) == {"model.onnx", "model.pt2", "model.safetensors", "report.json", "report.md"}
        for artifact in found.values():
            assert hashlib.sha256(content(client, artifact)).hexdigest() == artifact["sha256"]
        session = onnxruntime.InferenceSession(content(client, found["model.onnx"]))
        logits = session.run(None, {"image": files.test_images})[0]
        right = float((np.asarray(logits).argmax(1) == files.test_labels).mean())
        assert right == report["delivered"]["quality"]["compressed"]["top1"]["value"]
        assert right > 0.8
        assert report["compressed"]["macs"] <= 0.5 * report["original"]["macs"]
        assert "MACs" in client.get(f"/v1/jobs/{job}/report", headers={"Accept": "text/markdown"}).text
        with zipfile.ZipFile(io.BytesIO(client.get(f"/v1/jobs/{job}/artifacts.zip").content)) as archive:
            assert archive.testzip() is None
            assert json.loads(archive.read("report.json"))["headline"] == report["headline"]

        # An artifact is the next job's model.
        next_job = submit(client, {"model": found[next_model]["id"], "dataset": data, "steps": [STEPS[1]]})
        assert wait(client, next_job)["state"] == "succeeded"
        again = artifacts(client, next_job)["model.safetensors"]
        assert found[next_model]["id"] in json.dumps(client.get(f"/v1/artifacts/{again['id']}").json())
        compared = client.get("/v1/compare", params=[("job", job), ("job", next_job)])
        assert compared.status_code == 200

        assert client.delete(f"/v1/jobs/{next_job}").status_code == 204
        assert client.get(f"/v1/artifacts/{again['id']}/content").status_code == 404
