from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from tests.api.running import Json, Running


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Json:
    """Of a real run: LeNet-300-100 on noise, halved."""
    from compression.events import Reporter
    from compression.intake.weights import save_network
    from compression.pipeline import Job, run
    from compression.spec import parse_job
    from compression.zoo.catalog import zoo_network

    folder: Path = tmp_path_factory.mktemp("report")
    model, data = folder / "model.safetensors", folder / "data.npz"
    save_network(zoo_network("lenet300", {"features": 64}, seed=0), model)
    random = np.random.default_rng(0)
    np.savez(data, x=random.normal(size=(200, 64)).astype("float32"), y=random.integers(0, 10, 200))
    step = {"method": "prune.structured", "macs_ratio": 0.5, "rounds": 1, "finetune": None, "importance": "magnitude"}
    spec = parse_job({"steps": [step], "exports": ["safetensors"]})
    run(Job(spec, model, data, folder / "out", latency_seconds=0.1), Reporter(io.StringIO()))
    return json.loads((folder / "out/artifacts/report.json").read_text())


def test_jobs_side_by_side(api_everywhere: Running, report: Json) -> None:
    api = api_everywhere
    model = api.model()
    first, second = api.submit(model, name="one")["id"], api.submit(model)["id"]
    waiting = api.http.get("/v1/compare", params={"job": [first, second]})
    assert (waiting.status_code, waiting.json()["type"]) == (409, "/problems/job-not-finished")
    for id_ in (first, second):
        api.succeed(id_, {}, report)
    answer = api.http.get("/v1/compare", params={"job": [second, first]})
    assert answer.status_code == 200, answer.text
    columns = answer.json()["items"]
    assert [(column["job"], column["name"]) for column in columns] == [(second, None), (first, "one")]
    column = columns[0]
    assert column["methods"] == ["prune.structured"]
    assert column["headline"] == report["headline"]
    before, after = column["before"], column["after"]
    assert (before["macs"], after["macs"]) == (report["original"]["macs"], report["compressed"]["macs"])
    assert after["macs"] < before["macs"]
    assert after["file_bytes"]["safetensors"] < before["file_bytes"]["safetensors"]
    assert set(after["latency_seconds"]) == {"1", "64"}
    assert after["quality"]["top1"]["n"] == 20


@pytest.mark.parametrize("count", [0, 1, 5])
def test_two_to_four(api: Running, count: int) -> None:
    ids = [f"job_{number:026}" for number in range(count)]
    answer = api.http.get("/v1/compare", params={"job": ids})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/job")
