"""`distill` from spec to files on the digits, with a teacher that the spec names: by path, and by id as the worker."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from compression.__main__ import main
from compression.checkpoint import file_sha256
from compression.data import load_dataset
from compression.intake.weights import load_network, save_network
from compression.spec import DataSpec
from compression.training.loop import train
from compression.training.spec import Training
from compression.zoo.catalog import zoo_network
from tests.engine.distillation.lessons import context

STEP = {
    "method": "distill",
    "student": {"kind": "auto", "macs_ratio": 0.1},
    "exclude_classes": [3],
    "temperature": 4,
    "training": {"epochs": 6, "learning_rate": 0.1},
    "control": True,
}


@pytest.fixture
def job(tmp_path: Path) -> Path:
    x, y = load_digits(return_X_y=True)
    np.savez(tmp_path / "digits.npz", x=(x / 16).astype(np.float32), y=y)
    save_network(zoo_network("lenet300", {"features": 64}, seed=0), tmp_path / "model.safetensors")
    teacher = zoo_network("lenet300", {"features": 64}, seed=1)
    data = load_dataset(tmp_path / "digits.npz", teacher.signature, DataSpec())
    training = Training(epochs=8, learning_rate=0.05, loss="labels")
    trained, _ = train(teacher, training, replace(context(tmp_path, teacher), data=data), stage="t")
    save_network(trained, tmp_path / "teacher.safetensors")
    return tmp_path


def arguments(folder: Path, step: dict[str, Any], out: str, *more: object) -> list[str]:
    (folder / f"{out}.json").write_text(json.dumps({"steps": [step], "exports": ["safetensors"]}))
    given = ("--model", folder / "model.safetensors", "--data", folder / "digits.npz", "--out", folder / out)
    return [str(word) for word in ("run", folder / f"{out}.json", *given, "--threads", 1, *more)]


def command(*words: Any) -> list[str]:
    return [sys.executable, "-m", "compression", *arguments(*words), "--json"]


def test_a_teacher_by_path_and_by_id_after_a_kill(job: Path) -> None:
    teacher = str(job / "teacher.safetensors")
    subprocess.run(command(job, STEP | {"teachers": [{"model": teacher}]}, "a"), stdout=subprocess.DEVNULL, check=True)
    report = json.loads((job / "a/artifacts/report.json").read_text())
    facts = report["steps"][0]["facts"]
    assert report["inputs"]["models"][teacher]["sha256"] == file_sha256(job / "teacher.safetensors")
    assert report["compressed"]["macs"] <= 0.1 * report["original"]["macs"]
    assert facts["teacher"]["accuracy"] > 0.9
    assert facts["student"]["agreement"] > 0.8
    assert facts["never_seen"][0]["recall_after"] > facts["never_seen"][0]["recall_before"]
    text = (job / "a/artifacts/report.md").read_text()
    assert "What a class looks like to the teacher (mean probabilities at T = 4, in %)" in text

    (job / "models.json").write_text(json.dumps({"mdl_1": {"path": teacher}}))
    by_id = command(job, STEP | {"teachers": [{"model": "mdl_1"}]}, "b", "--models", job / "models.json")
    with subprocess.Popen(by_id, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        for line in killed.stdout:
            if json.loads(line)["event"] == "checkpoint":
                killed.send_signal(signal.SIGKILL)
                break
    assert killed.returncode == -signal.SIGKILL
    subprocess.run(by_id, stdout=subprocess.DEVNULL, check=True)
    one, two = (load_network(job / out / "artifacts/model.safetensors") for out in ("a", "b"))
    assert (one.provenance[-1]["teachers"], two.provenance[-1]["teachers"]) == ([teacher], ["mdl_1"])
    weights = dict(two.module.state_dict())
    assert all(bool((value == weights[name]).all()) for name, value in one.module.state_dict().items())


def test_what_is_wrong_with_a_named_model_is_told_at_its_field(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (job / "models.json").write_text(json.dumps({"m": {"path": "x", "architecture": "lenet5"}}))
    wrong: list[tuple[dict[str, Any], tuple[object, ...], str]] = [
        ({"teachers": [{"model": "nosuch.pt2"}]}, (), "/steps/0/teachers/0/model: there is no such model: nosuch.pt2"),
        ({"teachers": [{"model": str(job / "digits.npz")}]}, (), "/steps/0/teachers/0/model: the model can't be read"),
        ({"exclude_classes": ["nobody"]}, (), "/steps/0/exclude_classes/0: there is no class 'nobody'"),
        ({}, ("--models", job / "models.json"), "--models: an object is wanted"),
    ]
    for fields, more, message in wrong:
        assert main(arguments(job, {"method": "distill", **fields}, "r", *more)) == 2
        assert f"niwaki: refused (spec-invalid): {message}" in capsys.readouterr().err
