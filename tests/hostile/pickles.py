"""Pickles under every name and inside every container."""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib

import numpy as np
import torch

from tests.hostile.case import Cases, Touch, trap
from tests.hostile.valid import archive_members, archive_of, zip_of

CASES = Cases()
NAMES = ("pth", "pt", "pkl", "joblib", "bin", "ckpt", "pt2", "onnx", "safetensors", "h5", "tflite", "engine", "mlmodel")

for _suffix in NAMES:
    CASES.add(f"pickle named .{_suffix}", f"model.{_suffix}", "model-unsafe")(trap)
for _suffix in ("npz", "npy", "safetensors", "zip", "csv"):
    CASES.add(f"pickle as data named .{_suffix}", f"x.{_suffix}", "data-invalid", "data-unreadable", kind="data")(trap)


@CASES.add("pickle of protocol 0", "model.pkl", "model-unsafe")
def _(canary: str) -> bytes:
    return trap(canary, 0)


def _saved(canary: str, *, new: bool) -> bytes:
    stream = io.BytesIO()
    torch.save({"weight": Touch(canary)}, stream, _use_new_zipfile_serialization=new)
    return stream.getvalue()


@CASES.add("torch.save", "model.pth", "model-unsafe")
def _(canary: str) -> bytes:
    return _saved(canary, new=True)


@CASES.add("torch.save before 1.6", "model.pth", "model-unsafe")
def _(canary: str) -> bytes:
    return _saved(canary, new=False)


@CASES.add("torch.save named .pt2", "model.pt2", "model-unsafe")
def _(canary: str) -> bytes:
    return _saved(canary, new=True)


@CASES.add("TorchScript", "model.pt", "model-unsafe")
def _(canary: str) -> bytes:
    code = b"import os\n" + f"os.system('touch {canary}')\n".encode()
    return zip_of({"m/data.pkl": trap(canary, 2), "m/constants.pkl": trap(canary, 2), "m/code/__torch__.py": code})


@CASES.add("compressed joblib", "model.joblib", "model-unsafe", "model-unsupported")
def _(canary: str) -> bytes:
    return zlib.compress(trap(canary))


@CASES.add("pickle in gzip", "model.pkl.gz", "model-unsafe", "model-unsupported")
def _(canary: str) -> bytes:
    return gzip.compress(trap(canary))


@CASES.add("pickles in a zip", "models.zip", "model-unsafe")
def _(canary: str) -> bytes:
    return zip_of({"a/model.pkl": trap(canary)})


@CASES.add("pickle in front of a sound .pt2", "model.pt2", "model-unsafe")
def _(canary: str) -> bytes:
    return trap(canary) + archive_of(archive_members())


@CASES.add("pt2: data.pkl beside the program", "model.pt2", "model-unsafe")
def _(canary: str) -> bytes:
    return archive_of(archive_members() | {"data.pkl": trap(canary)})


@CASES.add("pt2: the program is a pickle", "model.pt2", "model-unreadable")
def _(canary: str) -> bytes:
    return archive_of(archive_members() | {"models/model.json": trap(canary)})


@CASES.add("pt2: an extra model that is a pickle", "model.pt2", "model-unreadable", "model-unsafe")
def _(canary: str) -> bytes:
    return archive_of(archive_members() | {"models/model.pkl": trap(canary)})


@CASES.add("pt2: extra files are never opened", "model.pt2")
def _(canary: str) -> bytes:
    return archive_of(archive_members() | {"extra/notes.pkl": trap(canary)})


def _object_array(canary: str) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([Touch(canary)], dtype=object), allow_pickle=True)
    return stream.getvalue()


@CASES.add("npz: an array of objects", "data.npz", "data-invalid", kind="data")
def _(canary: str) -> bytes:
    return zip_of({"x.npy": _object_array(canary)})


@CASES.add("npz: an array of objects, compressed", "data.npz", "data-invalid", kind="data")
def _(canary: str) -> bytes:
    return zip_of({"x.npy": _object_array(canary)}, zipfile.ZIP_DEFLATED)


@CASES.add("npz: an array that is a pickle", "data.npz", "data-invalid", "data-unreadable", kind="data")
def _(canary: str) -> bytes:
    return zip_of({"x.npy": trap(canary)})


@CASES.add("npz: a pickle beside the arrays", "data.npz", "data-invalid", "data-unreadable", "data-unsafe", kind="data")
def _(canary: str) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros((4, 2), np.float32))
    return zip_of({"x.npy": stream.getvalue(), "y.pkl": trap(canary)})


@CASES.add("npy: an array of objects", "x.npy", "data-invalid", "data-unreadable", kind="data")
def _(canary: str) -> bytes:
    return _object_array(canary)


@CASES.add("images: a pickle named .png", "images.zip", "data-invalid", "data-unreadable", "data-unsafe", kind="data")
def _(canary: str) -> bytes:
    return zip_of({"cat/1.png": trap(canary), "dog/1.png": trap(canary)})
