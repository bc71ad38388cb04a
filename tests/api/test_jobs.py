from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import httpx
import pytest

from store import outcomes
from tests.api.running import STEPS, Json, Running

IMAGES = {"x": {"shape": [100, 1, 28, 28], "dtype": "float32"}, "y": {"shape": [100], "dtype": "int64"}}


def test_a_job_is_queued_and_shown(api_everywhere: Running) -> None:
    api = api_everywhere
    model, dataset = api.model(), api.dataset(IMAGES)
    body = {"model": model, "dataset": dataset, "steps": STEPS, "name": "half", "tags": ["a"], "device": "cpu"}
    answer = api.http.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert {name: job[name] for name in ("state", "model", "dataset", "name", "tags", "device", "attempt")} == {
        "state": "queued",
        "model": model,
        "dataset": dataset,
        "name": "half",
        "tags": ["a"],
        "device": "cpu",
        "attempt": 0,
    }
    assert job["steps"] == [{"index": 0, "method": "prune.structured", "state": "pending", "seconds": None}]
    spec = api.http.get(f"/v1/jobs/{job['id']}/spec").json()
    assert spec["steps"][0]["rounds"] == 3  # defaults are spelt out
    assert api.http.post("/v1/jobs", json=spec).status_code == 202


def test_a_poll_has_an_entity_tag_and_tells_the_times_apart(api_everywhere: Running) -> None:
    api = api_everywhere
    id_ = api.submit()["id"]
    address = f"/v1/jobs/{id_}"
    first = api.http.get(address)
    assert first.headers["retry-after"] == "1"
    same = api.http.get(address, headers={"If-None-Match": f'"other", W/{first.headers["etag"]}'})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", first.headers["etag"])
    lease = api.claim(id_)
    outcomes.record(
        *(api.database, lease, [("progress", {"index": 0, "fraction": 0.5})]),
        *([outcomes.StepChange(0, "finished", 1.5, {"facts": {}})],),
        progress={"index": 0, "fraction": 0.5, "message": "half", "metrics": {}},
        times={"waiting": 0.2, "fetching": 0.1},
        sandbox="landlock-network",
    )
    changed = api.http.get(address, headers={"If-None-Match": first.headers["etag"]})
    assert changed.status_code == 200
    body = changed.json()
    assert (body["state"], body["progress"]["fraction"], body["times"]["waiting"]) == ("running", 0.5, 0.2)
    assert body["steps"][0] == {"index": 0, "method": "prune.structured", "state": "finished", "seconds": 1.5}
    outcomes.fail(api.database, lease, {"kind": "crashed", "message": "out of memory", "where": ""}, {"measuring": 1.0})
    done = api.http.get(address)
    assert "retry-after" not in done.headers
    assert (done.json()["state"], done.json()["error"]["message"]) == ("failed", "out of memory")
    assert done.json()["times"] == {"waiting": 0.2, "fetching": 0.1, "measuring": 1.0}


@pytest.mark.parametrize(
    ("change", "pointers"),
    [
        ({"model": None}, ["/model"]),
        ({"model": "mdl_00000000000000000000000000"}, ["/model"]),
        ({"model": "art_00000000000000000000000000"}, ["/model"]),
        ({"dataset": "dst_00000000000000000000000000"}, ["/dataset"]),
        ({"steps": []}, ["/steps"]),
        ({"steps": [{"method": "nosuch"}]}, ["/steps/0"]),
        ({"steps": [{"method": "prune.structured"}]}, ["/steps/0"]),
        ({"steps": [*STEPS, {"method": "finetune", "training": {"epochs": 0}}]}, ["/steps/1/training/epochs"]),
        ({"steps": [{**STEPS[0], "macs_ratio": 2, "rounds": 0}]}, ["/steps/0/macs_ratio", "/steps/0/rounds"]),
        ({"steps": [{**STEPS[0], "layers": {"include": ["c*", "d*"]}}]}, ["/steps/0/layers/include/1"]),
        ({"steps": [{**STEPS[0], "layers": {"exclude": ["type:LSTM"]}}]}, ["/steps/0/layers/exclude/0"]),
        ({"colour": "red", "seed": -1}, ["/seed", "/colour"]),
        ({"exports": ["onnx", "onnx"]}, ["/exports"]),
        ({"data": {"preprocess": {"y_": {"scale": 2}}}}, []),  # nothing to hold it against without a dataset
        ({"name": "a\x00b"}, ["/name"]),
        ({"tags": ["a b"]}, ["/tags/0"]),
    ],
)
def test_every_fault_has_its_pointer(api: Running, change: Json, pointers: list[str]) -> None:
    answer = api.http.post("/v1/jobs", params={"dry_run": True}, json={"model": api.model(), "steps": STEPS, **change})
    if not pointers:
        assert answer.status_code == 200
        return
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/job-invalid"), answer.text
    assert sorted(entry["pointer"] for entry in answer.json()["errors"]) == sorted(pointers)
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("arrays", "data", "pointers"),
    [
        (IMAGES, {}, []),
        ({"x_train": {"shape": [9, 784]}, "x_val": {"shape": [9, 28, 28]}, "y": {"shape": [9]}}, {}, []),
        ({"x": {"shape": [9, 28, 28, 1]}}, {"preprocess": {"INPUT": {"layout": "NHWC"}}}, []),
        ({"x": {"shape": [9, 3, 32, 32]}}, {}, ["/dataset"]),
        ({"pictures": {"shape": [9, 1, 28, 28]}}, {}, ["/dataset", "/dataset"]),
        ({"x_test": {"shape": [9, 1, 28, 28]}}, {}, ["/dataset"]),
        (IMAGES, {"preprocess": {"no/such": {}}}, ["/data/preprocess/no~1such"]),
    ],
)
def test_a_dataset_must_fit_the_model(api: Running, arrays: Json, data: Json, pointers: list[str]) -> None:
    name = api.inspection["inputs"][0]["name"]
    if "INPUT" in data.get("preprocess", {}):
        data = {"preprocess": {name: data["preprocess"]["INPUT"]}}
    body = {"model": api.model(), "dataset": api.dataset(arrays), "steps": STEPS, "data": data}
    answer = api.http.post("/v1/jobs", params={"dry_run": True}, json=body)
    assert [entry["pointer"] for entry in answer.json().get("errors", [])] == pointers, answer.text


def test_a_method_that_cant_run_is_refused_with_what_is_in_its_way(api: Running) -> None:
    inspection = deepcopy(api.inspection)
    inspection["methods"]["prune.structured"] |= {"applicable": False, "reason": "a custom loop", "where": "rnn.cell"}
    answer = api.http.post("/v1/jobs", json={"model": api.model(inspection), "steps": [{"method": "finetune"}, *STEPS]})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/method-inapplicable")
    (error,) = answer.json()["errors"]
    assert error["pointer"] == "/steps/1/method"
    assert "a custom loop (at rnn.cell)" in error["detail"]


def test_other_models_are_checked_where_they_are_named_and_held(api: Running) -> None:
    def submit(step: Json, **more: Any) -> httpx.Response:
        steps = [*STEPS, {"method": "distill", **step}]
        return api.http.post("/v1/jobs", json={"model": model, "dataset": data, "steps": steps, **more})

    model, data = api.model(), api.dataset(IMAGES)
    wide = deepcopy(api.inspection)
    wide["inputs"][0]["shape"] = [3, 28, 28]
    other = deepcopy(api.inspection)
    other["output_shapes"] = [[7]]
    waiting = api.upload()["id"]
    for id_, status in (
        ("mdl_00000000000000000000000000", 422),
        ("/etc/passwd", 422),
        (api.model(wide), 422),
        (api.model(other), 422),
        (waiting, 409),
    ):
        answer = submit({"teachers": [{}, {"model": id_}]})
        assert answer.status_code == status, answer.text
        if status == 422:
            assert [entry["pointer"] for entry in answer.json()["errors"]] == ["/steps/1/teachers/1/model"]
            student = submit({"student": {"kind": "model", "model": id_}}).json()
            assert [entry["pointer"] for entry in student["errors"]] == ["/steps/1/student/model"]
    teacher = api.model()
    answer = submit({"teachers": [{"model": teacher}, {"model": model}]})
    assert answer.status_code == 202, answer.text
    held = api.http.delete(f"/v1/models/{teacher}")
    assert (held.status_code, answer.json()["id"] in held.text) == (409, True)
    api.http.post(f"/v1/jobs/{answer.json()['id']}/cancel")
    assert api.http.delete(f"/v1/models/{teacher}").status_code == 204


def test_uploads_must_be_ready(api: Running) -> None:
    model, waiting = api.model(), api.upload()["id"]
    early = api.http.post("/v1/jobs", json={"model": waiting, "steps": STEPS})
    assert (early.status_code, early.json()["type"]) == (409, "/problems/model-not-ready")
    assert early.headers["retry-after"] == "1"
    api.inspect(waiting, problem={"kind": "model-unsafe", "message": "a pickle", "where": ""})
    refused = api.http.post("/v1/jobs", json={"model": waiting, "steps": STEPS})
    assert (refused.status_code, refused.json()["type"]) == (422, "/problems/model-rejected")
    assert "a pickle" in refused.json()["detail"]
    data = api.upload("dataset")["id"]
    body = {"model": model, "dataset": data, "steps": STEPS}
    assert api.http.post("/v1/jobs", json=body).json()["type"] == "/problems/dataset-not-ready"
    api.inspect(data, problem={"kind": "data-invalid", "message": "no arrays", "where": ""})
    assert api.http.post("/v1/jobs", json=body).json()["type"] == "/problems/dataset-rejected"


def test_a_dry_run_predicts_and_queues_nothing(api: Running) -> None:
    steps = [*STEPS, {"method": "finetune"}, {**STEPS[0], "macs_ratio": 0.1}]
    without_data = api.http.post("/v1/jobs", params={"dry_run": "true"}, json={"model": api.model(), "steps": steps})
    assert without_data.status_code == 422
    assert without_data.json()["errors"][0]["pointer"] == "/steps/1"
    body = {"model": api.model(), "dataset": api.dataset(IMAGES), "steps": steps}
    answer = api.http.post("/v1/jobs", params={"dry_run": "true"}, json=body)
    assert answer.status_code == 200
    said = answer.json()
    cost = {name: api.inspection["cost"][name] for name in ("parameters", "macs", "bytes")}
    assert (said["valid"], said["estimate"], said["original"]) == (True, True, cost)
    macs = [step["predicted"]["macs"] for step in said["steps"]]
    assert macs == pytest.approx([cost["macs"] * 0.5, cost["macs"] * 0.5, cost["macs"] * 0.05], rel=1e-3)
    assert api.http.get("/v1/jobs").json()["items"] == []


def test_an_artifact_can_be_the_next_jobs_model(api_everywhere: Running) -> None:
    api = api_everywhere
    first = api.submit()
    made = api.succeed(first["id"], {"model.pt2": b"smaller", "model.onnx": b"onnx", "report.json": b"{}"})
    for name in ("model.pt2", "model.onnx"):
        second = api.submit(made[name]["id"])
        assert second["model"] == made[name]["id"]
        lineage = api.http.get(f"/v1/artifacts/{second['model']}").json()
        assert (lineage["job"], lineage["source_model"]) == (first["id"], first["model"])
    answer = api.http.post("/v1/jobs", json={"model": made["report.json"]["id"], "steps": STEPS})
    assert answer.status_code == 422
    assert "report.json can't be a job's model" in answer.json()["detail"]
    blocked = api.http.delete(f"/v1/jobs/{first['id']}")
    assert (blocked.status_code, blocked.json()["type"]) == (409, "/problems/in-use")


def test_an_idempotency_key_makes_one_job(api_everywhere: Running) -> None:
    api = api_everywhere
    body = {"model": api.model(), "steps": STEPS}
    headers = {"Idempotency-Key": "k-1"}
    first, again = (api.http.post("/v1/jobs", json=body, headers=headers) for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json()
    other = api.http.post("/v1/jobs", json={**body, "seed": 1}, headers=headers)
    assert (other.status_code, other.json()["type"]) == (422, "/problems/idempotency-key-reused")
    assert len(api.http.get("/v1/jobs").json()["items"]) == 1


def test_cancel_retry_and_delete(api_everywhere: Running) -> None:
    api = api_everywhere
    id_ = api.submit(name="first")["id"]
    assert api.http.post(f"/v1/jobs/{id_}/retry").json()["type"] == "/problems/job-not-finished"
    assert api.http.delete(f"/v1/jobs/{id_}").json()["type"] == "/problems/job-not-finished"
    canceled = api.http.post(f"/v1/jobs/{id_}/cancel")
    assert (canceled.status_code, canceled.json()["state"]) == (202, "canceled")
    assert api.http.post(f"/v1/jobs/{id_}/cancel").status_code == 202
    retried = api.http.post(f"/v1/jobs/{id_}/retry")
    assert retried.status_code == 202
    second = retried.json()
    assert (second["retry_of"], second["name"], second["state"]) == (id_, "first", "queued")
    lease = api.claim(second["id"])
    told = api.http.post(f"/v1/jobs/{second['id']}/cancel").json()
    assert (told["state"], told["cancel_requested"]) == ("running", True)
    outcomes.cancel(api.database, lease)
    third = api.http.post(f"/v1/jobs/{second['id']}/retry").json()["id"]
    api.succeed(third, {"model.pt2": b"x"})
    assert api.http.post(f"/v1/jobs/{third}/cancel").json()["type"] == "/problems/job-finished"
    assert api.objects.list(f"jobs/{third}")
    assert api.http.delete(f"/v1/jobs/{third}").status_code == 204
    assert not api.objects.list(f"jobs/{third}")
    assert api.http.get(f"/v1/jobs/{third}").status_code == 404
    assert api.http.post(f"/v1/jobs/{third}/cancel").status_code == 404


def test_a_retry_needs_its_model(api: Running) -> None:
    model = api.model()
    id_ = api.submit(model)["id"]
    api.http.post(f"/v1/jobs/{id_}/cancel")
    api.http.delete(f"/v1/models/{model}")
    answer = api.http.post(f"/v1/jobs/{id_}/retry")
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/model")


def test_lists_are_filtered(api_everywhere: Running) -> None:
    api = api_everywhere
    one, other = api.model(), api.model()
    ids = [api.submit(one, tags=["x"])["id"], api.submit(other, name="Second")["id"], api.submit(one)["id"]]
    api.http.post(f"/v1/jobs/{ids[2]}/cancel")

    def found(**params: str) -> list[str]:
        return [item["id"] for item in api.http.get("/v1/jobs", params=params).json()["items"]]

    assert found() == ids[::-1]
    assert found(limit="1", cursor=ids[2]) == [ids[1]]
    assert found(state="canceled") == [ids[2]]
    assert found(model=one) == [ids[2], ids[0]]
    assert found(tag="x") == [ids[0]]
    assert found(name="SEC") == [ids[1]]


@pytest.mark.parametrize(
    ("request_", "status", "slug"),
    [
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "body-unreadable"),
        ({"content": b'{"a": NaN}', "headers": {"content-type": "application/json"}}, 400, "body-unreadable"),
        ({"content": b'{"a": 1e999}', "headers": {"content-type": "application/json"}}, 400, "body-unreadable"),
        ({"content": b"[" * 100_000, "headers": {"content-type": "application/json"}}, 400, "body-unreadable"),
        ({"content": b'{"\\ud800": 1}', "headers": {"content-type": "application/json"}}, 422, "job-invalid"),
        ({"content": b'{"name": "\\ud800"}', "headers": {"content-type": "application/json"}}, 422, "job-invalid"),
        ({"content": b"[]", "headers": {"content-type": "application/json; charset=utf-8"}}, 422, "job-invalid"),
        ({"content": b" " * 1_100_000, "headers": {"content-type": "application/json"}}, 413, "body-too-large"),
        ({"data": {"model": "x"}}, 415, "media-type-unsupported"),
        ({"json": {}, "params": {"dry_run": "maybe"}}, 422, "request-invalid"),
        ({"json": {}, "headers": {"idempotency-key": ""}}, 422, "request-invalid"),
    ],
)
def test_bodies_that_cant_be_read(api: Running, request_: dict[str, Any], status: int, slug: str) -> None:
    answer = api.http.post("/v1/jobs", **request_)
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{slug}"), answer.text


@pytest.mark.parametrize("text", ["\ud800", "\0"])
def test_text_that_cant_be_kept_is_named(api_everywhere: Running, text: str) -> None:
    body = {"model": api_everywhere.model(), "steps": STEPS, "data": {"preprocess": {text: {"scale": 0.5}}}}
    headers = {"content-type": "application/json"}
    answer = api_everywhere.http.post("/v1/jobs", content=json.dumps(body), headers=headers)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/data/preprocess")


def test_what_isnt_there(api: Running) -> None:
    for address in ("/v1/jobs/job_00000000000000000000000000", "/v1/jobs/x", "/v1/models/%00", "/nowhere", "/v1/jobs/"):
        answer = api.http.get(address)
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")
    answer = api.http.put("/v1/jobs")
    assert (answer.status_code, answer.json()["type"]) == (405, "/problems/method-not-allowed")
    assert answer.headers["allow"]
