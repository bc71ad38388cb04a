"""Integers as a user meets them: a lifted network, and a model that only runs; each file opened by ONNX Runtime."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper, save

from store.settings import Settings
from tests.e2e.conftest import Files, api, artifacts, content, process, submit, upload, wait

STEPS = [
    {"method": "finetune", "training": {"epochs": 6, "learning_rate": 0.05, "loss": "labels"}},
    {"method": "quantize.int8", "mode": "static"},
]


def opaque(path: Path) -> Path:
    """Two layers, and a TopK on the way, so that it can't be lifted."""
    draw = np.random.default_rng(0)
    stored = {
        "w": draw.normal(size=(64, 16)).astype(np.float32),
        "v": draw.normal(size=(16, 5)).astype(np.float32),
        "all": np.array([5]),
        "shape": np.array([-1, 64]),
    }
    nodes = [
        helper.make_node("Reshape", ["image", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["hidden"], name="one"),
        helper.make_node("Relu", ["hidden"], ["seen"]),
        helper.make_node("MatMul", ["seen", "v"], ["scores"], name="two"),
        helper.make_node("TopK", ["scores", "all"], ["best", "places"], name="sorted"),
        helper.make_node("Add", ["scores", "best"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, 8, 8])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])]
    tensors = [numpy_helper.from_array(value, name) for name, value in stored.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_integers(embedded_settings: Settings, files: Files, tmp_path: Path) -> None:
    with ExitStack() as stack:
        for queue in ("cpu", "inspect"):
            stack.enter_context(process(embedded_settings, "worker", "run", "--queues", queue))
        client = stack.enter_context(api(embedded_settings))
        model, data = upload(client, "models", files.model), upload(client, "datasets", files.data)
        body = {"model": model, "dataset": data, "steps": STEPS}
        wrong = client.post("/v1/jobs", json={**body, "exports": ["onnx", "pt2"]})
        assert wrong.status_code == 422
        assert wrong.json()["errors"][0]["pointer"] == "/exports/1"
        blind = client.post("/v1/jobs", json={"model": model, "steps": STEPS[1:]})
        assert blind.json()["errors"][0]["pointer"] == "/steps/0"

        lifted = submit(client, body)
        only_runs = upload(client, "models", opaque(tmp_path / "opaque.onnx"))
        assert client.get(f"/v1/models/{only_runs}").json()["inspection"]["form"] == "opaque"
        refused = client.post("/v1/jobs", json={"model": only_runs, "dataset": data, "steps": STEPS})
        assert refused.json()["errors"][0]["pointer"] == "/steps/0/method"
        dry = client.post(
            "/v1/jobs", params={"dry_run": True}, json={"model": only_runs, "steps": [{**STEPS[1], "mode": "auto"}]}
        )
        assert dry.status_code == 200, dry.text
        assert dry.json()["original"] is None
        second = submit(client, {"model": only_runs, "dataset": data, "steps": STEPS[1:]})

        for job in (lifted, second):
            row = wait(client, job)
            assert row["state"] == "succeeded", row
            found = artifacts(client, job)
            assert set(found) == {"model.onnx", "report.json", "report.md"}
            session = onnxruntime.InferenceSession(content(client, found["model.onnx"]))
            logits = session.run(None, {"image": files.test_images})[0]
            report = client.get(f"/v1/jobs/{job}/report").json()
            right = float((np.asarray(logits).argmax(1) == files.test_labels).mean())
            assert right == report["delivered"]["quality"]["compressed"]["top1"]["value"]
            assert client.get(f"/jobs/{job}").status_code == 200
        assert report["original"]["macs"] is None
        both = client.get("/v1/compare", params={"job": [lifted, second]}).json()["items"]
        assert both[0]["after"]["macs"] == both[0]["before"]["macs"] > 0
        assert both[1]["after"]["macs"] is None
        assert client.get("/compare", params={"job": [lifted, second]}).status_code == 200
        again = submit(client, {"model": found["model.onnx"]["id"], "dataset": data, "steps": STEPS[1:]})
        assert wait(client, again)["error"]["kind"] == "method-inapplicable"
