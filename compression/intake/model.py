"""Any model file → `Network`. What a file is, its first bytes say, not its name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from compression.errors import IntakeError, SpecError
from compression.intake.archive import Archive
from compression.intake.lift import lift
from compression.intake.pt2 import read_pt2
from compression.intake.shapes import run
from compression.intake.weights import read_weights
from compression.network import Network

EXPORT_YOUR_MODEL = """\
Pickled models run code when they are loaded, so they are not accepted. Export yours with these three lines:
    batch = torch.export.Dim("batch", min=1, max=1024)
    program = torch.export.export(model.eval(), (example,), dynamic_shapes=({0: batch},))
    torch.export.save(program, "model.pt2")"""


def read_model(path: Path, architecture: Mapping[str, Any] | None = None) -> Network:
    """As `_read`, checked: finite parameters, and outputs of numbers that a loss can be taken of."""
    network = _read(path, architecture)
    for name, parameter in network.module.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise IntakeError("the parameter holds NaN or infinite values", name)
    for name, value in zip(network.signature.outputs, run(network.module, network.example(1)), strict=True):
        if not value.is_floating_point():
            raise IntakeError(
                f"the output is {str(value.dtype).removeprefix('torch.')}; export the network without its last argmax "
                "or comparison, so that it gives scores",
                name,
                "output-unsupported",
            )
    return network


def _read(path: Path, architecture: Mapping[str, Any] | None) -> Network:
    """The network of a `.pt2` archive or a `.safetensors` file; `architecture` names what plain weights belong to
    ({"architecture": "resnet20", "arguments": {…}}). IntakeError: why the file can't be taken, and what to do."""
    with path.open("rb") as stream:
        start = stream.read(16)
    if start[:4] == b"PK\x03\x04":
        if architecture is not None:
            raise SpecError("an architecture goes with a .safetensors file of weights", "/architecture")
        _refuse_other_zips(path)
        return lift(read_pt2(path))
    if start[8:9] == b"{":
        return read_weights(path, architecture)
    raise _unreadable(start, path.name)


def _refuse_other_zips(path: Path) -> None:
    with path.open("rb") as stream:
        first = stream.read(512)
    if re.match(rb"PK\x03\x04.{26}[^/]{1,200}\.npy", first, re.DOTALL):
        raise IntakeError(
            "this is a data file (.npz), not a model: upload it as a dataset", path.name, "model-unsupported"
        )
    if b"data.pkl" in first or b"constants.pkl" in first:
        raise IntakeError(EXPORT_YOUR_MODEL, path.name, "model-unsafe")
    with Archive(path) as archive:
        names = archive.names()
    if "data.pkl" in names:
        raise IntakeError(EXPORT_YOUR_MODEL, path.name, "model-unsafe")


def _unreadable(start: bytes, name: str) -> IntakeError:
    if not start:
        return IntakeError("the file is empty", name)
    if start[:1] == b"\x80" or start[:2] == b"(l":  # a pickle, as torch.save wrote before 1.6
        return IntakeError(EXPORT_YOUR_MODEL, name, "model-unsafe")
    if start[:8] == b"\x89HDF\r\n\x1a\n":
        return IntakeError("Keras files (.h5) can't be read; only PyTorch models can", name, "model-unsupported")
    if start[4:8] == b"TFL3":
        return IntakeError("TensorFlow Lite files can't be read; only PyTorch models can", name, "model-unsupported")
    if start[:1] == b"\x08" and start[2:3] in {b"\x12", b"\x1a", b"\x22", b"\x2a", b"\x3a", b"\x42"}:
        return IntakeError("ONNX files come with a later version; export the model as .pt2", name, "model-unsupported")
    return IntakeError("neither a .pt2 archive nor a .safetensors file", name)
