"""Checkpoints in the object store: whole or not at all, whenever a worker was killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker import checkpoints


@pytest.fixture
def out(tmp_path) -> Path:
    folder = tmp_path / "out" / "checkpoints" / "0-done"
    folder.mkdir(parents=True)
    folder.joinpath("network.safetensors").write_bytes(b"weights")
    folder.joinpath("facts.json").write_bytes(b"{}")
    folder.joinpath("state.partial").write_bytes(b"half")
    tmp_path.joinpath("outgoing").mkdir()
    return tmp_path / "out"


def save(objects, out: Path) -> None:
    objects.put_file("jobs/job_1/log", out / "checkpoints/0-done/facts.json")  # SeaweedFS makes its bucket at a PUT
    checkpoints.save(objects, "job_1", out, "0-done", out.parent / "outgoing")


def restored(objects, folder: Path) -> dict[str, bytes]:
    checkpoints.restore(objects, "job_1", folder)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_checkpoint_comes_back_on_another_machine(objects, out, tmp_path):
    save(objects, out)
    assert restored(objects, tmp_path / "elsewhere") == {
        "checkpoints/0-done/facts.json": b"{}",
        "checkpoints/0-done/network.safetensors": b"weights",
    }


def test_a_newer_one_takes_its_place_and_leaves_nothing_behind(objects, out, tmp_path):
    save(objects, out)
    out.joinpath("checkpoints/0-done/network.safetensors").write_bytes(b"better weights")
    save(objects, out)
    assert restored(objects, tmp_path / "elsewhere")["checkpoints/0-done/network.safetensors"] == b"better weights"
    assert len(objects.list("jobs/job_1/checkpoints")) == 3


def test_one_that_is_not_whole_is_left_out(objects, out, tmp_path):
    save(objects, out)
    place = "jobs/job_1/checkpoints/0-done"
    key = next(key for key in objects.list(place) if key.endswith("facts.json"))
    damaged = tmp_path / "damaged"
    damaged.write_bytes(b"[]")
    objects.put_file(key, damaged)
    assert restored(objects, tmp_path / "a") == {}
    objects.delete(key)
    assert restored(objects, tmp_path / "b") == {}
    save(objects, out)
    objects.delete(f"{place}/manifest.json")  # killed just before it
    assert restored(objects, tmp_path / "c") == {}
