"""Hostile uploads to a running service: each is rejected with its reason, and the service goes on for everyone else."""

from __future__ import annotations

import time
from contextlib import ExitStack
from threading import Event, Thread

import httpx
import pytest

from store.settings import Settings
from tests.e2e.conftest import api, process
from tests.hostile.corpus import CASES
from tests.hostile.valid import npz, pt2

UPLOADED = (
    "torch.save",
    "pt2: a path upwards",
    "pt2: deflated weights, 4 GiB in 4 MiB",
    "pt2: code in a guard",
    "pt2: calls os.system",
    "pt2: zeros of 2 GiB",
    "pt2: JSON: 3,000,000 objects",
    "niwaki: a function that is not listed",
    "safetensors model: a header of 2^63 bytes",
    "onnx: external data in /etc/passwd",
    "onnx: ConstantOfShape of 4 TiB",
    "onnx: subgraphs 30 deep",
    "npz: an array of objects",
    "npz: 3 GiB in 3 MiB, with a header that agrees",
    "images: 2^31 squared",
    "images: a path upwards",
)
SECONDS = 240


def _send(client: httpx.Client, kind: str, filename: str, content: bytes) -> str:
    answer = client.post(f"/v1/{kind}s", params={"filename": filename}, content=content)
    assert answer.status_code == 201, answer.text
    return f"/v1/{kind}s/{answer.json()['id']}"


def _inspected(client: httpx.Client, place: str) -> dict:
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        row = client.get(place).json()
        if row["state"] != "inspecting":
            return row
        time.sleep(0.2)
    raise AssertionError(f"{place} was never inspected")


def _watch(address: str, ended: Event, answers: list[int]) -> None:
    with httpx.Client(base_url=address, timeout=30, trust_env=False) as client:
        while not ended.wait(0.1):
            answers.append(client.get("/livez").status_code)


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory):
    return tmp_path_factory.mktemp("canary") / "executed"


def test_hostile_uploads_are_rejected_and_others_served(embedded_settings: Settings, canary) -> None:
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(process(embedded_settings, "worker", "run", "--queues", "inspect"))
        client = stack.enter_context(api(embedded_settings))
        ended, answers = Event(), []
        watcher = Thread(target=_watch, args=(str(client.base_url), ended, answers))
        watcher.start()
        try:
            places = {}
            for number, name in enumerate(UPLOADED):
                case = CASES[name]
                kind = "model" if case.kind == "model" else "dataset"
                places[name] = _send(client, kind, case.filename, case.build(str(canary)))
                if number == len(UPLOADED) // 2:
                    good = [_send(client, "model", "net.pt2", pt2()), _send(client, "dataset", "data.npz", npz())]
            rows = {name: _inspected(client, place) for name, place in places.items()}
            sound = [_inspected(client, place) for place in good]
        finally:
            ended.set()
            watcher.join()
    for name, row in rows.items():
        assert row["state"] == "rejected", (name, row)
        assert row["problem"]["kind"] in CASES[name].kinds, (name, row["problem"])
        assert row["problem"]["message"]
        assert "mdl_" not in str(row["problem"]), row["problem"]  # a file is called as its owner calls it
    assert [row["state"] for row in sound] == ["ready", "ready"], sound
    assert len(answers) > 20
    assert set(answers) == {200}
    assert not canary.exists()
