"""Sound files that the hostile ones are made of."""

from __future__ import annotations

import io
import json
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compression.container.network import encode
from compression.encodings import Codebook, Encoding, Float16, Grid, Mask
from compression.intake.lift import lift
from compression.intake.pt2 import read_pt2
from compression.intake.weights import save_network

MODEL = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        scores: Tensor = self.fc(x.mean((2, 3)).view(x.shape[0], 4))
        return scores


def zip_of(members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return stream.getvalue()


@cache
def pt2() -> bytes:
    """The archive of a small convolutional network with a free batch."""
    torch.manual_seed(0)
    batch = torch.export.Dim("batch", min=1, max=1024)
    program = torch.export.export(Net().eval(), (torch.zeros(2, 1, 6, 6),), dynamic_shapes=({0: batch},))
    stream = io.BytesIO()
    torch.export.save(program, stream)
    return stream.getvalue()


def archive_members() -> dict[str, bytes]:
    """The members of `pt2()` by their path below the top folder."""
    with zipfile.ZipFile(io.BytesIO(pt2())) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def archive_of(members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    return zip_of({f"model/{name}": content for name, content in members.items()}, compression)


def document(member: str) -> dict[str, Any]:
    """A JSON member of `pt2()`, parsed."""
    parsed: dict[str, Any] = json.loads(archive_members()[member])
    return parsed


def with_document(member: str, changed: Any) -> bytes:
    """`pt2()` with a JSON member of other content."""
    return archive_of(archive_members() | {member: json.dumps(changed).encode()})


@cache
def safetensors() -> bytes:
    """The same network as Niwaki writes it."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "net.pt2", Path(folder) / "net.safetensors"
        source.write_bytes(pt2())
        save_network(lift(read_pt2(source)), target)
        return target.read_bytes()


@cache
def nwk() -> bytes:
    """The same network, coded; a mask, a grid and short floats among its parameters."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "net.pt2"
        source.write_bytes(pt2())
        network = lift(read_pt2(source))
    kinds: list[Callable[[torch.Tensor], Encoding]] = [
        lambda value: Grid(value.abs().max() / 7, -7, 7),
        lambda value: Mask(value > 0),
        lambda value: Codebook((value > 0).long()),
    ]
    weights = [(name, value.detach()) for name, value in network.module.named_parameters() if value.dim() > 1]
    encodings = {name: kinds[index % 3](value) for index, (name, value) in enumerate(weights)} | {"fc.bias": Float16()}
    coded = network.replaced(encodings=encodings)
    coded.project()
    return encode(coded, "range").file


def with_header(header: bytes, data: bytes = b"") -> bytes:
    """A safetensors file of any header and data."""
    return struct.pack("<Q", len(header)) + header + data


def npz(arrays: Mapping[str, Any] | None = None) -> bytes:
    """A dataset for the network: 12 samples of 3 classes."""
    random = np.random.default_rng(0)
    stream = io.BytesIO()
    plain = {"x": random.normal(size=(12, 1, 6, 6)).astype(np.float32), "y": np.arange(12) % 3}
    np.savez(stream, **(plain if arrays is None else dict(arrays)))
    return stream.getvalue()


def npy(dtype: str = "<f4", shape: str = "(12, 6)", data: bytes = bytes(288), header: bytes | None = None) -> bytes:
    """An `.npy` array whose header says what it is told to."""
    text = (
        header if header is not None else f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    )
    padded = text + b" " * (63 - (10 + len(text)) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded + data


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file (PNG specification, 5.3)."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int = 6, height: int = 6, *, data: bytes | None = None, extra: bytes = b"") -> bytes:
    """A grey image; `data`: what its compressed part holds instead of `height` rows of `width` bytes."""
    rows = b"".join(b"\0" + bytes((x * y) % 256 for x in range(width)) for y in range(height)) if data is None else b""
    packed = zlib.compress(rows) if data is None else data
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def images() -> bytes:
    """A zip of class folders: two classes of six images."""
    return zip_of({f"{name}/{index}.png": png() for name in ("cat", "dog") for index in range(6)})
