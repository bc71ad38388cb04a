from pathlib import Path

import pytest
import torch

from benchmarks.foreign import FOREIGN, export, settled
from compression.intake.model import read_model


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """`exported(name, opset, dynamic=True)`: the `.onnx` of a network of `FOREIGN`, made once a session by the older
    exporter of torch, or by the newer one where the opset is None."""
    folder: Path = tmp_path_factory.mktemp("onnx")

    def made(name, opset, *, dynamic=True):
        path = folder / f"{name}-{opset}-{dynamic}.onnx"
        if not path.exists():
            torch.manual_seed(0)
            cls, shape = FOREIGN[name]
            module, example = settled(cls(), shape)
            export(module, example if dynamic else example[:1], path, opset, dynamic=dynamic)
        return path

    return made


@pytest.fixture(scope="session")
def network(exported):
    """`network(name, opset, dynamic=True)`: what is read of that file, once a session."""
    read = {}

    def of(name, opset=17, *, dynamic=True):
        key = name, opset, dynamic
        if key not in read:
            read[key] = read_model(exported(name, opset, dynamic=dynamic))
        return read[key].copy()

    return of
