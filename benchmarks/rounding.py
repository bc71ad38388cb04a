"""`python -m benchmarks.rounding`: levels and shared values without training. Rate-distortion optimised quantisation
against plain rounding to fewer levels, and codebooks for groups of rows against one for each tensor, on the base nets
of MNIST-5k's fold 0 (`benchmarks.coding`; trained where they aren't there). Whole `.nwk` files, decoded; validation
alone, 500 images, on which nothing is chosen. `--quick`: LeNet-300-100.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.claim import claim
from benchmarks.coding import CPU, applied, base_of, dataset_of, right
from compression import device
from compression.container.network import encode, read_nwk
from compression.data import Dataset
from compression.measure.cost import cost_of
from compression.network import Network
from compression.spec import parse_job

PLAIN = [("rounded", levels, {"levels": levels, "rdoq": {"bit_price": 1e-12}}) for levels in (3, 5, 7, 15)]
RDOQ = [
    ("RDOQ", price, {"levels": levels, "rdoq": {"bit_price": price}})
    for levels, price in ((31, 1e-10), (31, 1e-9), (15, 3e-10), (15, 3e-9), (15, 1e-8))
]
BITS = (2, 3, 4)
Point = tuple[str, float, float]
"""Its name, the ratio, validation accuracy in per cent."""


def point(name: str, base: Network, data: Dataset, step: Mapping[str, Any]) -> Point:
    with tempfile.TemporaryDirectory() as folder:
        coded = applied(base, parse_job({"steps": [step]}).steps, data, 0, Path(folder))
        path = Path(folder) / "net.nwk"
        path.write_bytes(encode(coded.replaced(provenance=())).file)
        accuracy = 100 * float(np.mean(right(read_nwk(path), data.validation)))
        found = (name, cost_of(base).bytes / path.stat().st_size, accuracy)
    print(f"{name}: {found[1]:.1f}×, validation {accuracy:.1f}", flush=True)
    return found


def _compared(text: str, tried: list[Point], peers: list[Point]) -> None:
    """How many of the peers' points one that was tried beats: as small at least, and as good."""
    beaten = [peer for peer in peers if any(own[1] >= peer[1] and own[2] >= peer[2] for own in tried)]
    target = f"more than half of {len(peers)}"
    claim(text, len(beaten), peer=None, target=target, met=2 * len(beaten) > len(peers), seeds=1, spread=None)


def measure(network: str) -> None:
    data, base = dataset_of(network, "mnist5k", 0), base_of(network, "mnist5k", 0, None, False)
    print(f"{network}: base, validation {100 * float(np.mean(right(base, data.validation))):.1f} on {CPU}", flush=True)
    entropy = {"method": "quantize.entropy", "training": None}
    plain = [
        point(f"{name}, {levels} levels a side", base, data, {**entropy, **fields}) for name, levels, fields in PLAIN
    ]
    rdoq = [
        point(f"{name}, price {price:g}, {fields['levels']} levels a side", base, data, {**entropy, **fields})
        for name, price, fields in RDOQ
    ]
    _compared(f"{network}: points of plain rounding that RDOQ beats", rdoq, plain)
    shared = {"method": "quantize.codebook", "finetune": None}
    whole, groups = [], []
    for bits in BITS:
        step = {**shared, "convolution_bits": bits, "linear_bits": bits}
        whole.append(point(f"codebooks of {bits} bits, one a tensor", base, data, step))
        groups += [
            point(f"codebooks of {bits} bits, {rows} rows each", base, data, {**step, "group_rows": rows})
            for rows in (10, 50)
        ]
    _compared(f"{network}: points of one codebook a tensor that codebooks of groups beat", groups, whole)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    device.make_deterministic(threads=1)
    for network in ["lenet300"] if options.quick else ["lenet300", "lenet5"]:
        measure(network)


if __name__ == "__main__":
    main()
