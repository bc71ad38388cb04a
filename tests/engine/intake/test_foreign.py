"""Models of other kinds are refused by their content, whatever their name, with the lines that export them instead."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
import zlib

import numpy as np
import pytest
import torch
from torch import nn

from compression.errors import IntakeError
from compression.intake.foreign import foreign
from compression.intake.model import read_model
from compression.intake.tensors import write_tensors


def varint(number):
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)


def field(number, content):
    """A length-delimited field of a protobuf message."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def zipped(**members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def saved(**options):
    stream = io.BytesIO()
    torch.save({"fc.weight": torch.zeros(2, 2)}, stream, **options)
    return stream.getvalue()


def scripted():
    stream = io.BytesIO()
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), stream)
    return stream.getvalue()


def npy():
    stream = io.BytesIO()
    np.save(stream, np.zeros(3))
    return stream.getvalue()


TFLITE = struct.pack("<I", 28) + b"TFL3" + bytes(20)
HDF5 = b"\x89HDF\r\n\x1a\n\0\0\0\0\0\x08\x08\0\x04\0\x10\0" + bytes(60)
SAVED_MODEL = b"\x08\x01" + field(2, field(1, field(4, b"serve") + field(5, b"2.15.0")))
NODE = field(1, b"input") + field(2, b"Placeholder") + field(5, b"")
CORE_ML = b"\x08\x04" + field(2, field(1, field(1, b"image") + field(3, b"\x2a\x00")) + field(10, b"")) + bytes(50)
PADDLE = field(1, b"\x08\x00\x10" + b"\xff" * 9 + b"\x01" + field(3, b"x"))
TAR = b"model/weights".ljust(257, b"\0") + b"ustar\x0000" + bytes(300)

UNSAFE = {
    "torch.save": (saved, "torch.export.save"),
    "torch.save before 1.6": (lambda: saved(_use_new_zipfile_serialization=False), "torch.export.save"),
    "a pickled module": (lambda: saved(pickle_protocol=4), "torch.export.save"),
    "TorchScript": (scripted, "TorchScript"),
    **{f"pickle {n}": (lambda n=n: pickle.dumps({"a": [1.5, "b"]}, protocol=n), "skl2onnx") for n in range(6)},
    "pickle of a list": (lambda: pickle.dumps([1, 2], protocol=0), "skl2onnx"),
    "pickle with a call first": (lambda: b"cos\nsystem\n(S'true'\ntR.", "skl2onnx"),
    "pickles in a zip": (lambda: zipped(**{"a/model.pkl": b"\x80\x04."}), "skl2onnx"),
    "checkpoints in a zip": (lambda: zipped(**{"net.pth": b"x", "readme": b""}), "torch.export.save"),
}
UNSUPPORTED = {
    "Keras 2 (.h5)": (lambda: HDF5, "tf2onnx.convert --keras"),
    "Keras 3 (.keras)": (lambda: zipped(**{"config.json": "{}", "model.weights.h5": HDF5}), 'model.export("FOLDER")'),
    "TensorFlow Lite": (lambda: TFLITE, "tf2onnx.convert --tflite"),
    "SavedModel": (lambda: SAVED_MODEL, "tf2onnx.convert --saved-model"),
    "a zipped SavedModel": (lambda: zipped(**{"m/saved_model.pb": SAVED_MODEL}), "tf2onnx.convert --saved-model"),
    "a frozen graph": (lambda: field(1, NODE) * 3, "tf2onnx.convert --graphdef"),
    "PaddlePaddle": (lambda: PADDLE, "paddle2onnx"),
    "Core ML": (lambda: CORE_ML, "Core ML"),
    "Core ML package": (lambda: zipped(**{"a.mlpackage/Data/model.mlmodel": CORE_ML}), "Core ML"),
    "TensorRT": (lambda: b"ftrt" + bytes(60), "TensorRT"),
    "ExecuTorch": (lambda: struct.pack("<I", 32) + b"ET12" + bytes(60), "ExecuTorch"),
    ".ort": (lambda: struct.pack("<I", 32) + b"ORTM" + bytes(60), ".ort"),
    "OpenVINO": (lambda: b'<?xml version="1.0"?>\n<net name="a" version="11">', "OpenVINO"),
    "machine code": (lambda: b"\x7fELF\x02\x01\x01" + bytes(60), "machine code"),
    "GGUF": (lambda: b"GGUF\x03\0\0\0" + bytes(60), "GGUF"),
    "one array": (npy, ".safetensors"),
    "arrays": (lambda: zipped(**{"x.npy": npy()}), "upload it as a dataset"),
    "images": (lambda: zipped(**{"cats/1.png": b"", "dogs/2.JPG": b"", "readme": b""}), "upload it as a dataset"),
    "compressed joblib": (lambda: zlib.compress(pickle.dumps({"a": 1})), "joblib"),
    "tar": (lambda: TAR, "tar"),
    "a zipped model": (lambda: zipped(**{"net.onnx": b""}), "Unpack"),
}


@pytest.mark.parametrize("name", [*UNSAFE, *UNSUPPORTED])
@pytest.mark.parametrize("suffix", ["pt2", "onnx", "safetensors"])
def test_a_foreign_model_is_refused_with_the_way_out(tmp_path, name, suffix):
    make, way_out = {**UNSAFE, **UNSUPPORTED}[name]
    path = tmp_path / f"model.{suffix}"
    path.write_bytes(make())
    with pytest.raises(IntakeError) as caught:
        read_model(path)
    assert caught.value.kind == ("model-unsafe" if name in UNSAFE else "model-unsupported")
    assert way_out in caught.value.message
    assert caught.value.where == path.name


def test_the_lines_for_torch_run(tmp_path):
    """The three lines that a refusal tells, on a model of one's own."""
    path = tmp_path / "weights.pth"
    path.write_bytes(saved())
    with pytest.raises(IntakeError) as caught:
        read_model(path)
    lines = [line.strip() for line in caught.value.message.splitlines() if line.startswith("    ")]
    assert len(lines) == 3
    lines[2] = lines[2].replace('"model.pt2"', repr(str(tmp_path / "model.pt2")))
    exec("\n".join(lines), {"torch": torch, "model": nn.Linear(3, 2), "example": torch.zeros(2, 3)})  # noqa: S102 - ours
    assert read_model(tmp_path / "model.pt2").signature.inputs[0].shape == (3,)


@pytest.mark.parametrize("length", [376, 640, 35616])
def test_a_safetensors_header_whose_length_looks_like_another_kind_is_none(tmp_path, length):
    """The first bytes are a number: 640 is also the start of a pickle, 376 of zlib, 35616 nearly that of gzip."""
    path = tmp_path / "a.safetensors"
    write_tensors({"a": torch.zeros(1)}, path, "")
    padding = length - int.from_bytes(path.read_bytes()[:8], "little")
    write_tensors({"a": torch.zeros(1)}, path, "x" * padding)
    assert int.from_bytes(path.read_bytes()[:8], "little") == length
    assert foreign(path) is None


def test_an_exported_program_is_not_foreign(archive):
    assert foreign(archive("residual")) is None
