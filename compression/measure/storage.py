"""What zeros are worth in a file: the same tensors written plain, sparse and entropy-coded, and read back."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from compression.container.network import encode
from compression.encodings import Mask
from compression.errors import VerificationError
from compression.export.sparse import read_sparse, write_sparse
from compression.measure.claims import CLEAR_SIZE, Claim
from compression.network import Network
from compression.vocabulary import used_tensors


@dataclass(frozen=True)
class Storage:
    """Bytes of files of the compressed network's tensors: `dense` as safetensors; `sparse`, in which `bit_masks` and
    `csr` tensors leave their zeros out; `coded`, a whole `.nwk` file by the fast static coder. `zeros`: the share of
    the masked weights that is zero."""

    dense: int
    sparse: int
    coded: int
    bit_masks: int
    csr: int
    zeros: float

    def claim(self) -> Claim:
        """Whether the zeros pay, from the bytes alone. These files aren't delivered, so nothing is called better."""
        shares = f"{self.zeros:.1%} of the masked weights are zero"
        figures = f"{self.dense:,} bytes dense, {self.sparse:,} sparse, {self.coded:,} entropy-coded"
        best = min(self.sparse, self.coded)
        if self.dense < best * CLEAR_SIZE:
            return Claim("zeros", "no gain", "none", f"{shares}, and no file is smaller for it ({figures})")
        kind = "sparse" if self.sparse < self.coded else "entropy-coded"
        text = f"{shares}, which pays only in a file that leaves them out: {self.dense / best:.2f}× smaller {kind}"
        return Claim("zeros", "pays when coded", "none", f"{text} ({figures})")


def measure_storage(network: Network) -> Storage | None:
    """None where nothing is masked. VerificationError: a file doesn't give back what was written."""
    masks = [encoding for encoding in network.encodings.values() if isinstance(encoding, Mask)]
    if not masks:
        return None
    tensors = {name: value.detach().cpu().numpy() for name, value in used_tensors(network.module).items()}
    with tempfile.TemporaryDirectory(prefix="niwaki-storage-") as folder:
        dense, sparse = Path(folder) / "dense", Path(folder) / "sparse"
        save_file({name: np.asarray(value, order="C") for name, value in tensors.items()}, dense)
        layouts = write_sparse(tensors, sparse)
        again = read_sparse(sparse)
        for name, value in tensors.items():
            if not np.array_equal(again[name], value):
                raise VerificationError("the sparse file doesn't hold exactly this tensor", name)
        sizes = dense.stat().st_size, sparse.stat().st_size
    entries = sum(mask.keep.numel() for mask in masks)
    zeros = sum(int((~mask.keep).sum()) for mask in masks)
    return Storage(
        *sizes,
        coded=len(encode(network, "range").file),
        bit_masks=layouts.get("bits", 0),
        csr=layouts.get("csr", 0),
        zeros=zeros / max(1, entries),
    )
