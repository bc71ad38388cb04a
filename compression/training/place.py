"""Where a training run stands, as a file: written again and again, and read when the run goes on elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from compression.training.progress import Progress

PARTS = ("module", "extra", "free", "best", "best_free", "optimizer", "mask")


def write_place(path: Path, parts: Mapping[str, Mapping[str, Tensor]], progress: Progress) -> None:
    """`parts`: tensors by name, of each of PARTS."""
    tensors = {f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()}
    contiguous = {name: value.detach().to("cpu").contiguous().clone() for name, value in tensors.items()}
    save_file(contiguous, path, metadata={"progress": json.dumps(vars(progress))})


def read_place(path: Path, device: torch.device) -> tuple[dict[str, dict[str, Tensor]], Progress]:
    """What `write_place` wrote; every part is there, if empty."""
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in PARTS}
    with safe_open(path, framework="pt", device=str(device)) as file:
        for key in file.keys():  # noqa: SIM118 - a safetensors file is no mapping
            part, name = key.split(".", 1)
            parts[part][name] = file.get_tensor(key)
        return parts, Progress(**json.loads(file.metadata()["progress"]))


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of each parameter by "INDEX.NAME"."""
    return {
        f"{index}.{name}": torch.as_tensor(value)
        for index, entries in optimizer.state_dict()["state"].items()
        for name, value in entries.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, entry = name.split(".", 1)
        state.setdefault(int(index), {})[entry] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
