"""What a child may touch and how much of it: the launcher's only input."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

Rung = Literal["bubblewrap", "landlock-network", "landlock-files", "none"]

# What a Python with torch reads of a system: libraries, their cache and alternatives, the time zone, the CPUs' shape.
SYSTEM = (
    "/usr",
    "/lib",
    "/lib64",
    "/bin",
    "/sbin",
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/sys/devices/system",
)
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
GPU_SYSTEM = ("/sys/bus/pci", "/sys/devices", "/sys/module/nvidia", "/sys/module/nvidia_uvm")
PACKAGES = Path(__file__).parents[2]  # the folder that holds `worker` and `compression`

PASSED_ON = ("LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "TZ")


@dataclass(frozen=True)
class Limits:
    """Bounds of one child: `memory_bytes` of each process's own memory (and, watched by the parent, of all together),
    `cpu_seconds` of each process, `file_bytes` of each file, `open_files` of each process, `processes` in all."""

    memory_bytes: int
    cpu_seconds: int
    file_bytes: int = 16 * 1024**3
    open_files: int = 1024
    processes: int = 64


@dataclass(frozen=True)
class Box:
    """`writable` folders (the first is the working directory), `readable` trees and `devices`; nothing else exists."""

    rung: Rung
    writable: tuple[str, ...]
    readable: tuple[str, ...]
    limits: Limits
    devices: tuple[str, ...] = DEVICES

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Box:
        value = json.loads(text)
        value["limits"] = Limits(**value["limits"])
        for name in ("writable", "readable", "devices"):
            value[name] = tuple(value[name])
        return cls(**value)


def engine_box(rung: Rung, folder: Path, limits: Limits, device: str = "cpu") -> Box:
    """The box of an engine's child: its job's `folder`, with `out/` and `tmp/` to write and `inputs/` to read."""
    gpu = device != "cpu"
    readable = (
        *SYSTEM,
        *(GPU_SYSTEM if gpu else ()),
        sys.prefix,
        sys.base_prefix,
        str(PACKAGES / "compression"),
        str(folder / "inputs"),
    )
    devices = DEVICES + (tuple(sorted(map(str, Path("/dev").glob("nvidia*")))) if gpu else ())
    return Box(
        rung=rung,
        writable=(str(folder / "out"), str(folder / "tmp")),
        readable=tuple(path for path in dict.fromkeys(readable) if Path(path).exists()),
        limits=limits,
        devices=tuple(path for path in devices if Path(path).exists()),
    )


def environment(folder: Path, threads: int, device: str = "cpu") -> dict[str, str]:
    """The child's whole environment, by an allow-list: no setting and no credential of the service comes with it."""
    return {
        **_passed_on(os.environ),
        "HOME": str(folder / "tmp"),
        "TMPDIR": str(folder / "tmp"),
        "USER": "niwaki",  # torch asks for a name; there is no /etc/passwd inside
        "OMP_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "CUDA_VISIBLE_DEVICES": _visible(device),
        "PYTHONPATH": str(PACKAGES),
        "PYTHONSAFEPATH": "1",  # a file in the job's folder is never imported
        "ORT_DISABLE_TELEMETRY": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _visible(device: str) -> str:
    """The one GPU that "cuda:N" means: the Nth of those that the worker itself may see."""
    if device == "cpu":
        return ""
    number = int(device.removeprefix("cuda:"))
    ours = os.environ.get("CUDA_VISIBLE_DEVICES")
    return str(number) if ours is None else ours.split(",")[number]


def _passed_on(source: Mapping[str, str]) -> dict[str, str]:
    return {"PATH": os.defpath, "LANG": "C.UTF-8"} | {name: source[name] for name in PASSED_ON if name in source}
