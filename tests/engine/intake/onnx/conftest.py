import logging
import warnings
from pathlib import Path

import pytest
import torch

from benchmarks.foreign import FOREIGN, settled
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
            example = example if dynamic else example[:1]
            _export(module, example, path, opset, dynamic)
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


def _export(module, example, path, opset, dynamic):
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporters, about themselves
        if opset is None:
            shapes = {"dynamic_shapes": ({0: torch.export.Dim("batch", min=1)},)} if dynamic else {}
            torch.onnx.export(
                module,
                (example,),
                path,
                dynamo=True,
                external_data=False,
                verbose=False,
                input_names=["x"],
                **shapes,
            )
        else:
            axes = {"dynamic_axes": {"x": {0: "batch"}, "y": {0: "batch"}}} if dynamic else {}
            torch.onnx.export(
                module,
                (example,),
                path,
                dynamo=False,
                opset_version=opset,
                input_names=["x"],
                output_names=["y"],
                **axes,
            )
