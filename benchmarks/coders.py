"""`python -m benchmarks.coders`: every coder on the same integers, those of LeNets trained for few bytes
(`integers.py`), and on Gaussian ones of 8 bits. Sizes of whole payloads, against the order-0 entropy; seconds of this
process, best of three.

`--quick`: LeNet-300-100 alone. `--integers FILE.npz …`: these instead. `--nncodec PYTHON`: the interpreter of an
environment with nncodec 2.1.3 (torch 2.13.0 first, then `--no-deps nncodec==2.1.3`, numpy below 2): its DeepCABAC,
without headers, the smaller of its two settings.
"""

from __future__ import annotations

import argparse
import json
import lzma
import subprocess
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.claim import claim
from benchmarks.integers import trained_for_bytes
from compression.coding.coder import CODERS, entropy_bits

Tensors = Mapping[str, NDArray[np.int32]]
_NNCODEC = """
import json, sys
import numpy as np
from nncodec.extensions import deepCABAC
sizes = {}
for name, levels in np.load(sys.argv[1]).items():
    for setting in (0, 1):
        encoder = deepCABAC.Encoder()
        encoder.initCtxModels(10, setting)
        none = np.zeros(0, np.int32)
        mode = deepCABAC.HdspMode.TensorOff
        encoder.encodeLayer(levels, 0, 0, setting, 0, 0, none, mode, none.astype(np.int8), 0, 0)
        sizes[name] = min(sizes.get(name, 1 << 60), encoder.finish().nbytes)
print(json.dumps(sizes))
"""


def best_of_three(work: Callable[[], Any]) -> tuple[Any, float]:
    seconds = []
    for _ in range(3):
        start = time.process_time()
        result = work()
        seconds.append(time.process_time() - start)
    return result, min(seconds)


def nncodec_sizes(python: str, tensors: Tensors) -> dict[str, int]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "integers.npz"
        np.savez(path, **tensors)  # type: ignore[arg-type]
        done = subprocess.run([python, "-c", _NNCODEC, path], check=True, capture_output=True, text=True)
    sizes: dict[str, int] = json.loads(done.stdout)
    return sizes


def measure(title: str, tensors: Tensors, python: str | None) -> None:
    entropy = sum(entropy_bits(levels) for levels in tensors.values()) / 8
    octets = {name: levels.astype(np.int8).tobytes() for name, levels in tensors.items()}
    sizes = {
        "zlib -9": sum(len(zlib.compress(raw, 9)) for raw in octets.values()),
        "xz -9e": sum(len(lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME)) for raw in octets.values()),
    }
    if python:
        sizes["nncodec"] = sum(nncodec_sizes(python, tensors).values())
    speeds = {}
    for name, coder in CODERS.items():
        sizes[name], encoding, decoding = 0, 0.0, 0.0
        for levels in tensors.values():
            coder.decode(coder.encode(levels), levels.shape)  # compiles, where that is done
            payload, seconds = best_of_three(partial(coder.encode, levels))
            encoding += seconds
            decoded, seconds = best_of_three(partial(coder.decode, payload, levels.shape))
            decoding += seconds
            assert np.array_equal(decoded, levels)
            sizes[name] += len(payload)
        megabytes = sum(levels.size for levels in tensors.values()) * 4e-6
        speeds[name] = [round(megabytes / encoding, 1), round(megabytes / decoding, 1)]
    shares = {name: round(size / entropy, 4) for name, size in sizes.items()}
    print(json.dumps({"integers": title, "entropy": round(entropy), "sizes": sizes, "shares": shares, "MB/s": speeds}))
    _claims(title, tensors, sizes, entropy, speeds)


def _claims(
    title: str, tensors: Tensors, sizes: Mapping[str, int], entropy: float, speeds: Mapping[str, list[float]]
) -> None:
    large = [levels for levels in tensors.values() if levels.size >= 4096]
    static = sum(len(CODERS["range"].encode(levels)) for levels in large)
    share = static / (sum(map(entropy_bits, large)) / 8)
    text = f"{title}: range, tensors of 4,096 symbols and more, bytes / order-0 entropy"
    claim(text, share, peer=None, target="<= 1.005", met=share <= 1.005, seeds=1, spread=None)
    text = f"{title}: adaptive, bytes / order-0 entropy"
    ratio, peer = sizes["adaptive"] / entropy, sizes.get("nncodec", 0) / entropy
    limit = 0.69 if "300" in title else 0.93
    met = ratio <= limit and (not peer or ratio < peer)
    claim(text, ratio, peer=peer or None, target=f"<= {limit}, below nncodec", met=met, seeds=1, spread=None)
    for name, least in (("range", (100, 40)), ("adaptive", (2, 2))):
        for what, speed, wanted in zip(("encode", "decode"), speeds[name], least, strict=True):
            text = f"{title}: {name}, {what}, MB/s of the fp32 weights"
            claim(text, speed, peer=None, target=f">= {wanted}", met=speed >= wanted, seeds=1, spread=None)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--integers", nargs="*", type=Path, default=[])
    parser.add_argument("--nncodec", metavar="PYTHON")
    options = parser.parse_args()
    for path in options.integers:
        measure(path.stem, dict(np.load(path)), options.nncodec)
    if options.integers:
        return
    measure("lenet-300-100", trained_for_bytes("lenet300", 2.0, 30), options.nncodec)
    if not options.quick:
        measure("lenet-300-100, sparser", trained_for_bytes("lenet300", 20.0, 40), options.nncodec)
        measure("lenet-5", trained_for_bytes("lenet5", 5.0, 25), options.nncodec)
        gaussian = np.round(np.random.default_rng(0).normal(0, 24, (500, 800))).clip(-127, 127)
        measure("gaussian, 8 bits", {"w": gaussian.astype(np.int32)}, options.nncodec)


if __name__ == "__main__":
    main()
