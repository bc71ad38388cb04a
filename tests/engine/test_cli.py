"""`python -m compression` as a user and as the worker run it: in a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from compression.intake.weights import load_network, save_network
from compression.zoo.catalog import zoo_network

SPEC = {
    "steps": [
        {"method": "prune.structured", "macs_ratio": 0.5, "rounds": 2, "finetune": {"epochs": 1}},
        {"method": "finetune", "training": {"epochs": 1}},
    ]
}


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A folder with a model, data and a spec."""
    random = np.random.default_rng(0)
    y = np.arange(400) % 10
    patterns = random.normal(size=(10, 49))
    np.savez(tmp_path / "data.npz", x=(patterns[y] + random.normal(size=(400, 49))).astype(np.float32), y=y)
    save_network(zoo_network("lenet300", {"features": 49}, seed=0), tmp_path / "model.safetensors")
    (tmp_path / "spec.json").write_text(json.dumps(SPEC))
    return tmp_path


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "compression", *map(str, arguments)]


def run_command(job: Path, out: str, *more: object) -> list[str]:
    files = ("--model", job / "model.safetensors", "--data", job / "data.npz", "--out", job / out)
    return command("run", job / "spec.json", *files, "--threads", 1, "--json", *more)


def events_of(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def artifacts(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("artifacts/model.*")}


def test_a_run_delivers_files_that_work_and_a_killed_one_delivers_the_same(job: Path) -> None:
    done = subprocess.run(run_command(job, "a"), capture_output=True, text=True, check=True)
    events = events_of(done.stdout)
    assert events[0]["event"] == "started"
    assert events[-1]["event"] == "done"
    assert events[-1]["inspection"]["methods"]["prune.structured"]["applicable"]
    announced = [event["path"] for event in events if event["event"] == "checkpoint"]
    left = {path.name for path in (job / "a" / "checkpoints").iterdir()}
    assert left == {path for path in announced if path.endswith("-done")}  # what isn't needed any more is gone

    report = json.loads((job / "a" / "artifacts" / "report.json").read_text())
    session = onnxruntime.InferenceSession(job / "a" / "artifacts" / "model.onnx")
    x = np.random.default_rng(1).normal(size=(7, 49)).astype(np.float32)
    network = load_network(job / "a" / "artifacts" / "model.safetensors")
    import torch

    with torch.no_grad():
        expected = network.module(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(session.run(None, {"x": x})[0], expected, rtol=1e-4, atol=1e-5)
    assert report["compressed"]["parameters"] == sum(value.numel() for value in network.module.parameters())
    assert [entry["step"] for entry in network.provenance if "step" in entry] == ["prune.structured"] * 2 + ["finetune"]

    with subprocess.Popen(run_command(job, "b"), stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        for line in killed.stdout:
            if json.loads(line)["event"] == "checkpoint":
                killed.send_signal(signal.SIGKILL)
                break
    assert not artifacts(job / "b")
    resumed = subprocess.run(run_command(job, "b"), capture_output=True, text=True, check=True)
    first = {event["path"] for event in events_of(resumed.stdout) if event["event"] == "checkpoint"}
    assert announced[0] not in first  # it isn't done again
    assert artifacts(job / "b") == artifacts(job / "a")
    assert len(artifacts(job / "a")) == 3

    for name in ("model.safetensors", "model.pt2"):  # an artifact is the next run's model
        done = subprocess.run(
            command("inspect", job / "a" / "artifacts" / name, "--json"), capture_output=True, text=True, check=True
        )
        inspection = events_of(done.stdout)[-1]["inspection"]
        assert inspection["inputs"] == [{"name": "x", "shape": [49], "dtype": "float32"}]
        assert inspection["methods"]["prune.structured"]["applicable"]


@pytest.mark.parametrize(
    ("change", "kind", "where"),
    [
        ({"steps": [{"method": "prune.structured"}]}, "spec-invalid", "/steps/0"),
        (
            {"steps": [{**SPEC["steps"][0], "layers": {"include": ["conv9"]}}]},
            "spec-invalid",
            "/steps/0/layers/include/0",
        ),
        ({"steps": [{**SPEC["steps"][0], "macs_ratio": 0.001}]}, "method-inapplicable", "macs"),
        ({"data": {"preprocess": {"image": {}}}}, "data-invalid", "image"),
    ],
)
def test_a_refusal_exits_2_and_names_the_fault(job: Path, change: dict[str, Any], kind: str, where: str) -> None:
    (job / "spec.json").write_text(json.dumps({**SPEC, **change}))
    done = subprocess.run(run_command(job, "a"), capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    error = events_of(done.stdout)[-1]
    assert (error["event"], error["error"]["kind"], error["error"]["where"]) == ("refused", kind, where)
    assert "Traceback" not in done.stderr
    assert not artifacts(job / "a")


@pytest.mark.parametrize("content", [b"", b"\x80\x02.", b"PK\x03\x04", b"\x00" * 100, b"{}"])
def test_a_bad_file_exits_2_for_people_too(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.pt2"
    path.write_bytes(content)
    done = subprocess.run(command("inspect", path), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("niwaki: refused")
    assert "Traceback" not in done.stderr


def test_inspect_and_methods_print_for_people(job: Path) -> None:
    model = subprocess.run(command("inspect", job / "model.safetensors"), capture_output=True, text=True, check=True)
    assert "prune.structured: can run" in model.stdout
    data = subprocess.run(command("inspect", job / "data.npz"), capture_output=True, text=True, check=True)
    assert "10 values" in data.stdout
    listed = subprocess.run(command("methods"), capture_output=True, text=True, check=True)
    assert "macs_ratio (default None): MACs left" in listed.stdout
    schemas = subprocess.run(command("methods", "--json"), capture_output=True, text=True, check=True)
    assert "prune.structured" in events_of(schemas.stdout)[0]["methods"]


def test_it_ends_when_stdin_is_closed(job: Path) -> None:
    (job / "spec.json").write_text(
        json.dumps({"steps": [{"method": "finetune", "training": {"epochs": 1000, "batch_size": 1}}]})
    )
    with subprocess.Popen(
        run_command(job, "a", "--watch-stdin"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        for line in child.stdout:
            if json.loads(line)["event"] == "progress":
                child.stdin.close()
                break
        child.stdout.read()
        assert child.wait(10) == 75
