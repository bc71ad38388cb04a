"""NNCodec 2.1.3 (Fraunhofer HHI's software of the standard ISO/IEC 15938-17) as a peer, in an environment of its own:
it wants numpy below 2 and builds an extension. Its streams hold tensors alone, no architecture; they are decoded."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from compression.network import Network

ENVIRONMENT = Path("out/benchmarks/nncodec")
_PACKAGES = (
    # torch first, so that nncodec doesn't ask for another; its own dependencies are many, and few of them are used.
    ["torch==2.13.0"],
    ["--no-deps", "nncodec==2.1.3"],
    ["numpy==1.26.4", "pandas==2.2.3", "h5py==3.11.0", "scikit-learn==1.5.2", "click", "tqdm"],
)
_ABSENT = "torchvision torchvision.datasets torchvision.transforms torchvision.models torchmetrics cv2 ptflops wandb"
"""What it imports and doesn't need."""
_CODE = """
import json, sys
from unittest.mock import MagicMock
sys.modules.update((name, MagicMock()) for name in sys.argv[1].split())
import numpy as np
from nncodec.nnc import compress, decompress
tensors, sizes = dict(np.load(sys.argv[2])), {}
for qp in map(int, sys.argv[4:]):
    path = f"{sys.argv[3]}/{qp}"
    stream = compress(dict(tensors), qp=qp, use_dq=True, return_bitstream=True, bitstream_path=path + ".nnc")
    np.savez(path + ".npz", **decompress(stream))
    sizes[qp] = len(stream)
print(json.dumps(sizes))
"""


def interpreter() -> Path:
    """Of the environment, which is built where it isn't there yet: minutes, with a C++ compiler."""
    python = ENVIRONMENT.absolute() / "bin/python"
    if not (ENVIRONMENT / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", ENVIRONMENT], check=True)
        for packages in _PACKAGES:
            subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        (ENVIRONMENT / "complete").touch()
    return python


def coded(network: Network, quantisation: Sequence[int], python: Path) -> Iterator[tuple[int, int, Network]]:
    """For each of these quantisation parameters (the higher, the coarser): it, the stream's bytes, what is decoded."""
    state = network.module.state_dict()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "tensors.npz"
        np.savez(source, **{name: value.numpy() for name, value in state.items()})
        arguments = [_ABSENT, str(source), folder, *map(str, quantisation)]
        command = [str(python), "-W", "ignore", "-c", _CODE, *arguments]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        sizes: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
        for qp in quantisation:
            decoded = network.replaced(encodings={}).copy()
            tensors = {name: torch.from_numpy(value) for name, value in np.load(f"{folder}/{qp}.npz").items()}
            decoded.module.load_state_dict(tensors)
            yield qp, sizes[str(qp)], decoded
