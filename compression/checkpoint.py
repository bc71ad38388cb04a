"""Checkpoints: work that is done stays done, also when the process is killed and another machine goes on.

A run has a fingerprint of everything that decides its outcome so far (input files, spec prefix, seed, versions, device,
threads); a folder named by it holds the network (or the file that runs in integers) and the facts. `stage` runs a piece
of work or loads what it gave.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from compression.events import Reporter
from compression.intake.weights import load_network, save_network
from compression.integer import IntegerOnnx, load_integer, save_integer
from compression.network import Network

Left = TypeVar("Left", Network, IntegerOnnx, Network | IntegerOnnx)
"""What a piece of work leaves."""


def fingerprint(*parts: Any) -> str:
    """16 hex digits of SHA-256 over the parts' canonical JSON."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Checkpoints:
    """The checkpoint folder of one step. Each entry is complete when its final name appears; it is then announced."""

    def __init__(self, folder: Path, key: str, reporter: Reporter) -> None:
        self.folder = folder
        self.key = key
        self.reporter = reporter
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, stage: str) -> Path:
        return self.folder / f"{self.key}-{stage}"

    def has(self, stage: str) -> bool:
        return any((self.path(stage) / name).is_file() for name in ("network.safetensors", "model.onnx"))

    def stage(self, stage: str, work: Callable[[], tuple[Left, dict[str, Any]]]) -> tuple[Left, dict[str, Any]]:
        """What `work()` returned, now or in an earlier run with the same fingerprint."""
        if not self.has(stage):
            self.save(stage, *work())
        folder = self.path(stage)
        # What is returned is always what was read back, so that an undisturbed run and a resumed one go the same way.
        stored = folder / "network.safetensors"
        network: Any = load_network(stored) if stored.is_file() else load_integer(folder)
        return network, json.loads((folder / "facts.json").read_text())

    def save(self, stage: str, network: Network | IntegerOnnx, facts: dict[str, Any]) -> None:
        final = self.path(stage)
        partial = final.with_name(final.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        (partial / "facts.json").write_text(json.dumps(facts, sort_keys=True, allow_nan=False))
        if isinstance(network, IntegerOnnx):
            save_integer(network, partial)
        else:
            save_network(network, partial / "network.safetensors")
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        self.announce(final)

    def replace_file(self, stage: str, write: Callable[[Path], None]) -> None:
        """A one-file checkpoint that is written again and again; a reader sees the old file or the new one."""
        folder = self.path(stage)
        folder.mkdir(exist_ok=True)
        partial = folder / "state.partial"
        write(partial)
        partial.replace(folder / "state.safetensors")
        self.announce(folder)

    def file(self, stage: str) -> Path | None:
        path = self.path(stage) / "state.safetensors"
        return path if path.is_file() else None

    def drop(self, stage: str) -> None:
        shutil.rmtree(self.path(stage), ignore_errors=True)

    def drop_all_but(self, stage: str) -> None:
        """Once a step is done, the places on its way aren't needed any more."""
        for path in self.folder.glob(f"{self.key}-*"):
            if path != self.path(stage):
                shutil.rmtree(path)

    def announce(self, path: Path) -> None:
        self.reporter.emit("checkpoint", path=path.name)
