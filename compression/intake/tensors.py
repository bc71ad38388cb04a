"""Reading `.safetensors` from strangers, and writing them so that equal tensors give equal bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from compression.errors import IntakeError
from compression.strict_json import parse_json

LARGEST_HEADER = 64 << 20


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors by name, and the metadata. IntakeError: no safetensors file, or one that says two things at once."""
    header = _header(path)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise IntakeError("the metadata must be strings", "__metadata__")
    try:
        tensors = load_file(path)  # checks that the offsets cover the file's data without gap or overlap
    except (SafetensorError, KeyError, ValueError, RuntimeError, AttributeError) as error:
        raise IntakeError(f"not a sound safetensors file: {error}", path.name) from error
    return tensors, metadata


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: str) -> None:
    """Writes `tensors`, with `metadata` under the one key "niwaki"."""
    own = {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    save_file(own, path, {"niwaki": metadata})


def _header(path: Path) -> dict[str, Any]:
    """The header's JSON. The library reads it too, but lets the last of two equal keys win."""
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= min(LARGEST_HEADER, path.stat().st_size - 8):
            raise IntakeError("the header's length is impossible", path.name)
        header = parse_json(stream.read(length), path.name)
    if not isinstance(header, dict):
        raise IntakeError("the header is no JSON object", path.name)
    return header
