"""The machine and versions that figures were taken on; figures of two machines don't compare."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import version
from pathlib import Path

# What decides which kernels ONNX Runtime picks on x86 and ARM.
_X86 = ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "amx_bf16")
_ARM = ("asimd", "asimddp", "i8mm", "bf16")


def versions() -> dict[str, str]:
    """Versions of what the figures and files depend on."""
    packages = {name: version(name) for name in ("niwaki", "torch", "onnx", "onnxruntime", "numpy")}
    return {"python": platform.python_version(), **packages}


def device_profile() -> dict[str, object]:
    """The CPU's model, the instruction sets that kernels depend on, its cores, and the threads of the figures."""
    path = Path("/proc/cpuinfo")
    text = path.read_text() if path.exists() else ""
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    present = set(flags[1].split()) if flags else set()
    return {
        "machine": platform.machine(),
        "cpu": model[1].strip() if model else platform.processor() or "unknown",
        "instruction_sets": [name for name in (*_X86, *_ARM) if name in present],
        "cores": os.cpu_count(),
        "measured_threads": 1,
    }
