"""Every hostile file ends in a typed refusal, within time and memory, and nothing in it is run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter

import pytest

from tests.hostile.batch import inspect_all
from tests.hostile.corpus import CASES
from tests.hostile.valid import images, npz, pt2, safetensors

MEBIBYTES = 1024
WHOLE = (
    "torch.save",
    "pt2: sample inputs are never opened",
    "onnx: ConstantOfShape of 2 GiB",
    "npz: an array of objects",
)


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="session")
def canary(place):
    return place / "executed"


@pytest.fixture(scope="session")
def outcomes(place, canary):
    """What became of each case, by name; those that are built to last begin first."""
    sound = place / "sound.pt2"
    sound.write_bytes(pt2())
    files = {}
    for index, case in enumerate(sorted(CASES.values(), key=lambda case: "too-slow" not in case.kinds)):
        file = place / str(index) / case.filename
        file.parent.mkdir()
        file.write_bytes(case.build(str(canary)))
        files[str(file)] = case
    told = inspect_all(sound, [(file, case.kind) for file, case in files.items()])
    return {files[outcome["file"]].name: outcome for outcome in told}


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_file_is_refused(outcomes, canary, name):
    case, outcome = CASES[name], outcomes[name]
    last = json.loads(outcome["said"] or "{}")
    if case.kinds:
        assert (outcome["status"], last.get("event")) == (2, "refused"), outcome
        assert last["error"]["kind"] in case.kinds
        assert last["error"]["message"]
    else:  # the attack lies in what is never read
        assert (outcome["status"], last.get("event")) == (0, "done"), outcome
    assert outcome["mebibytes"] < MEBIBYTES
    assert not canary.exists()


def test_the_corpus_is_as_wide_as_promised():
    assert len(CASES) >= 300
    families = Counter(name.split(":")[0] for name in CASES if ":" in name)
    assert all(families[family] >= 7 for family in ("pt2", "onnx", "npz", "images", "niwaki", "safetensors model"))


@pytest.mark.parametrize("build", [pt2, safetensors, npz, images], ids=lambda build: build.__name__)
def test_the_files_that_the_hostile_ones_are_made_of_are_sound(tmp_path, build):
    """Otherwise a case could be refused for another reason than its own."""
    suffix = {pt2: "pt2", safetensors: "safetensors", npz: "npz", images: "zip"}[build]
    path = tmp_path / f"sound.{suffix}"
    path.write_bytes(build())
    kind = "data" if build in (npz, images) else "model"
    command = [sys.executable, "-m", "compression", "inspect", str(path), "--kind", kind, "--json"]
    assert json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["event"] == "done"


@pytest.mark.parametrize("name", WHOLE)
def test_as_the_worker_runs_it(tmp_path, name):
    """The whole process, imports included, with its own environment and nothing shared with the test's."""
    case = CASES[name]
    canary, path, said = tmp_path / "executed", tmp_path / case.filename, tmp_path / "said"
    path.write_bytes(case.build(str(canary)))
    command = [sys.executable, "-m", "compression", "inspect", str(path), "--kind", case.kind, "--json"]
    with said.open("wb") as stdout:
        process = subprocess.Popen(command, stdout=stdout, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    last = json.loads(said.read_text().splitlines()[-1])
    assert (process.returncode, last["event"]) == ((2, "refused") if case.kinds else (0, "done"))
    assert not case.kinds or last["error"]["kind"] in case.kinds
    assert used.ru_maxrss < MEBIBYTES * 1024
    assert not canary.exists()
