"""The one place where a device is chosen and numerics are made repeatable."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from compression.errors import SpecError


def choose(wanted: str) -> torch.device:
    """`auto`, `cpu`, `cuda` or `cuda:N`. Asking for CUDA where there is none is an error, never a silent CPU run."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d{1,2})?", wanted):
        raise SpecError(f"a device is auto, cpu, cuda or cuda:N, not {wanted[:20]!r}", "/device")
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise SpecError("this machine has no usable CUDA device", "/device")
    return torch.device(wanted)


def make_deterministic(threads: int) -> None:
    """The same seed and thread count give the same bytes on one machine. Called once, before any numerics."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS: deterministic only with a fixed workspace
    torch.set_num_threads(threads)
    # Some operators have no deterministic gradient on CUDA (adaptive pooling, bilinear upsampling): they warn there.
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    torch.backends.cudnn.benchmark = False


@contextmanager
def mixed_precision(device: torch.device) -> Iterator[None]:
    """bfloat16 autocast on CUDA devices that have it; float32 elsewhere (CPU runs stay comparable to the original)."""
    enabled = device.type == "cuda" and torch.cuda.is_bf16_supported()
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled):
        yield
