"""Any model file → `Network`, or `OpaqueOnnx`. What a file is, its first bytes say, not its name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from compression.container.network import read_nwk
from compression.container.sections import MAGIC
from compression.errors import IntakeError, SpecError
from compression.intake.foreign import foreign
from compression.intake.lift import lift
from compression.intake.onnx.read import read_onnx
from compression.intake.pt2 import read_pt2
from compression.intake.shapes import run
from compression.intake.weights import read_weights
from compression.network import Network
from compression.opaque import OpaqueOnnx

_ONNX_TAGS = frozenset({0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42})
"""The fields of a ModelProto that can follow its first, the version of the format."""


def read_model(path: Path, architecture: Mapping[str, Any] | None = None) -> Network | OpaqueOnnx:
    """As `_read`, and a network checked: finite parameters, and outputs of numbers that a loss can be taken of."""
    network = _read(path, architecture)
    if isinstance(network, OpaqueOnnx):
        return network
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


def _read(path: Path, architecture: Mapping[str, Any] | None) -> Network | OpaqueOnnx:
    """The network of a `.pt2` archive, an `.onnx`, a `.safetensors` or a `.nwk` file; `architecture` names what plain
    weights belong to ({"architecture": "resnet20", "arguments": {…}}), or the lengths of axes that an `.onnx` file
    leaves free ({"inputs": {NAME: [3, 48, 192]}}). IntakeError: why the file can't be taken, and what to do."""
    refused = foreign(path)
    if refused is not None:
        raise refused
    with path.open("rb") as stream:
        start = stream.read(16)
    if start[:4] == b"PK\x03\x04":
        if architecture is not None:
            raise SpecError("an architecture goes with a .safetensors file of weights", "/architecture")
        return lift(read_pt2(path))
    if start[8:9] == b"{":
        return read_weights(path, architecture)
    if start[:1] == b"\x08" and len(start) > 2 and start[2] in _ONNX_TAGS:
        return read_onnx(path, architecture)
    if start[: len(MAGIC)] == MAGIC:
        if architecture is not None:
            raise SpecError("a .nwk file says itself what its network is", "/architecture")
        return read_nwk(path)
    raise IntakeError(
        "the file is empty" if not start else "neither a .pt2 archive nor an .onnx, .safetensors or .nwk file",
        path.name,
    )
