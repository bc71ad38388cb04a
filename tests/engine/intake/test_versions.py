"""Archives that torch 2.9 to 2.14 wrote (`golden/make.py`): each is read, and computes what the original module did."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from compression.intake.model import read_model

GOLDEN = sorted((Path(__file__).parent / "golden").glob("torch-*.tar.xz"))


def test_five_minor_versions_and_the_next_are_here():
    versions = {path.name.removeprefix("torch-").removesuffix(".tar.xz").rpartition(".")[0] for path in GOLDEN}
    assert versions == {"2.9", "2.10", "2.11", "2.12", "2.13", "2.14"}


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.name)
def test_the_archives_of_a_version_are_read(golden, tmp_path):
    with tarfile.open(golden) as archive:
        archive.extractall(tmp_path, filter="data")
    archives = sorted(tmp_path.glob("*.pt2"))
    assert len(archives) == 15
    for path in archives:
        name, _, batch = path.stem.rpartition("-")
        network = read_model(path)
        written = network.provenance[0]
        assert written["torch"].startswith(golden.name.removeprefix("torch-").removesuffix(".tar.xz"))
        assert written.get("static_batch") == (1 if batch == "static" else None)
        arrays = np.load(tmp_path / f"{name}.npz")
        inputs = [torch.from_numpy(arrays[f"in_{index}"]) for index in range(len(network.signature.inputs))]
        with torch.no_grad():
            outputs = network.module(*inputs)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        for index, output in enumerate(outputs):
            wanted = torch.from_numpy(arrays[f"out_{index}"])
            torch.testing.assert_close(
                output, wanted, rtol=1e-5, atol=1e-6, msg=lambda text, path=path: f"{path}: {text}"
            )
