"""Model files of other kinds, told by their content: refused, with the lines that export the model instead.

Signatures: the formats' own documents (HDF5's superblock, FlatBuffers' file identifiers at byte 4, the field numbers of
TensorFlow's and Core ML's protobuf messages, Python's pickle opcodes). Nothing is parsed, let alone unpickled.
"""

from __future__ import annotations

import re
from pathlib import Path

from compression.errors import IntakeError
from compression.intake.archive import ZIP_ERRORS, Zip
from compression.intake.data_zip import MAX_DIRECTORY
from compression.intake.picture import format_of

HEAD = 4096

EXPORT_YOUR_MODEL = """\
Pickled models run code when they are loaded, so they are not accepted. Export yours with these three lines:
    batch = torch.export.Dim("batch", min=1, max=1024)
    program = torch.export.export(model.eval(), (example,), dynamic_shapes=({0: batch},))
    torch.export.save(program, "model.pt2")"""

_TORCHSCRIPT = f"""\
TorchScript carries code and pickles. Build the Python model again, load its weights there, and export that. \
{EXPORT_YOUR_MODEL}"""

_KERAS = """\
Keras files can't be read. Export the model to ONNX:
    pip install tf2onnx
    python -m tf2onnx.convert --keras FILE --opset 17 --output model.onnx
or, where that fails (layers of your own, a Normalization), by a folder that Keras 3 writes:
    model = keras.saving.load_model("FILE")
    model.export("FOLDER")
    python -m tf2onnx.convert --saved-model FOLDER --opset 17 --output model.onnx"""

_SAVED_MODEL = """\
TensorFlow's SavedModels can't be read. Export the folder to ONNX:
    pip install tf2onnx
    python -m tf2onnx.convert --saved-model FOLDER --opset 17 --output model.onnx"""

_FROZEN = """\
Frozen TensorFlow graphs can't be read. Export the graph to ONNX, with the names of its inputs and outputs:
    pip install tf2onnx
    python -m tf2onnx.convert --graphdef FILE --inputs INPUT:0 --outputs OUTPUT:0 --opset 17 --output model.onnx"""

_TFLITE = """\
TensorFlow Lite files can't be read. Export the model to ONNX, best from the Keras model or SavedModel it was made of \
(an already quantised network can't be compressed well):
    pip install tf2onnx
    python -m tf2onnx.convert --tflite FILE --opset 17 --output model.onnx"""

_SKLEARN = f"""\
Pickles (.pkl, .joblib) run code when they are loaded, so they are not accepted. A network of scikit-learn exports to \
ONNX:
    pip install skl2onnx
    onx = skl2onnx.to_onnx(model, X[:1].astype("float32"), options={{"zipmap": False}})
    open("model.onnx", "wb").write(onx.SerializeToString())
A PyTorch model: {EXPORT_YOUR_MODEL}"""

_PADDLE = """\
PaddlePaddle's files can't be read. Export the model to ONNX:
    pip install paddle2onnx
    paddle2onnx --model_dir FOLDER --model_filename FILE --params_filename PARAMETERS --opset_version 17 \\
        --save_file model.onnx"""

_CORE_ML = """\
Core ML models can't be read, and there is no way back from them: export the network that it was converted from, with \
torch.export.save (.pt2) or to ONNX."""

_COMPILED = """\
This is a model that was compiled for one runtime or device ({what}). Export the network that it was built from, with \
torch.export.save (.pt2) or to ONNX."""

_PACKED = """\
This is a packed file ({what}). Unpack it and upload the model itself: a .pt2, .onnx or .safetensors file."""

_WEIGHTS = """\
{what} can't be read. Plain weights go into a .safetensors file, uploaded with the name of their architecture; a whole \
network into a .pt2 (torch.export.save) or .onnx file."""

_DATA = "this is a data file ({what}), not a model: upload it as a dataset"

_UNSAFE, _UNSUPPORTED = "model-unsafe", "model-unsupported"
_VARINT = rb"[\x80-\xff]{0,4}[\x00-\x7f]"

_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    # torch.save before 1.6 begins with a pickle of the number 0x1950a86a20f9469cfc6c.
    (rb"\x80.\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19\.", _UNSAFE, EXPORT_YOUR_MODEL),
    (rb"\x80[\x02-\x05]", _UNSAFE, _SKLEARN),
    (rb"(?:\((?:[dl]|i?[cp]|S')|c[a-z_][\w.]*\n\w+\n|[\]}l]q\x00|\(dp\d|\(lp\d)", _UNSAFE, _SKLEARN),  # protocols 0, 1
    (rb"\x89HDF\r\n\x1a\n", _UNSUPPORTED, _KERAS),
    (rb".{4}TFL3", _UNSUPPORTED, _TFLITE),
    (rb".{4}ET1\d", _UNSUPPORTED, _COMPILED.format(what="ExecuTorch")),
    (rb".{4}ORTM", _UNSUPPORTED, _COMPILED.format(what="ONNX Runtime's own format, .ort")),
    (rb"[fp]trt", _UNSUPPORTED, _COMPILED.format(what="TensorRT engine")),
    (rb"RKNN", _UNSUPPORTED, _COMPILED.format(what="RKNN")),
    (rb"\x7fELF|MZ.{58}|\xcf\xfa\xed\xfe", _UNSUPPORTED, _COMPILED.format(what="machine code")),
    (rb"ML\xefR", _UNSUPPORTED, _COMPILED.format(what="MLIR bytecode")),
    (rb"\x08[\x01-\x20]\x12" + _VARINT + rb"\x0a" + _VARINT + rb"\x0a", _UNSUPPORTED, _CORE_ML),
    # SavedModel: version 1, then a MetaGraphDef; ONNX began with version 3.
    (rb"\x08\x01\x12", _UNSUPPORTED, _SAVED_MODEL),
    (rb"\x0a" + _VARINT + rb"\x0a" + _VARINT + rb"[\w./:-]{1,200}\x12.[A-Z]\w+", _UNSUPPORTED, _FROZEN),
    (rb"\x0a" + _VARINT + rb"\x08\x00\x10", _UNSUPPORTED, _PADDLE),  # a ProgramDesc: block 0, its parent
    (rb"GGUF", _UNSUPPORTED, _WEIGHTS.format(what="GGUF files")),
    (rb"\x93NUMPY", _UNSUPPORTED, _WEIGHTS.format(what="Single arrays (.npy)")),
    (rb"\s*<\?xml.{0,200}<net\b", _UNSUPPORTED, _COMPILED.format(what="OpenVINO")),
    (
        rb"\x1f\x8b",
        _UNSUPPORTED,
        _PACKED.format(what="gzip; compressed joblib files look the same and aren't accepted"),
    ),
    (rb"\x78[\x01\x5e\x9c\xda].{2}", _UNSUPPORTED, _PACKED.format(what="zlib; compressed joblib files look the same")),
    (rb"BZh[1-9]", _UNSUPPORTED, _PACKED.format(what="bzip2")),
    (rb"\xfd7zXZ\x00", _UNSUPPORTED, _PACKED.format(what="xz")),
    (rb"\x28\xb5\x2f\xfd", _UNSUPPORTED, _PACKED.format(what="zstd")),
    (rb"7z\xbc\xaf\x27\x1c", _UNSUPPORTED, _PACKED.format(what="7z")),
    (rb"Rar!\x1a\x07", _UNSUPPORTED, _PACKED.format(what="rar")),
    (rb".{257}ustar", _UNSUPPORTED, _PACKED.format(what="tar")),
)

_PICKLED: tuple[tuple[str, str, str], ...] = (
    (r"[^/]*/(constants\.pkl|code/__torch__.*)", _UNSAFE, _TORCHSCRIPT),
    (r"([^/]*/)?data\.pkl", _UNSAFE, EXPORT_YOUR_MODEL),
)
_MEMBERS: tuple[tuple[str, str, str], ...] = (
    (r"(.*/)?model\.weights\.h5", _UNSUPPORTED, _KERAS),
    (r"(.*/)?saved_model\.pb(txt)?", _UNSUPPORTED, _SAVED_MODEL),
    (r".*\.(mlmodel|mlpackage/.*)|(.*/)?coremldata\.bin", _UNSUPPORTED, _CORE_ML),
    (r".*\.(pkl|pickle|joblib)", _UNSAFE, _SKLEARN),
    (r".*\.(pth|pt|ckpt)", _UNSAFE, EXPORT_YOUR_MODEL),
    (r".*\.(h5|hdf5|keras)", _UNSUPPORTED, _KERAS),
    (r".*\.tflite", _UNSUPPORTED, _TFLITE),
    (r".*\.(onnx|pt2|safetensors)", _UNSUPPORTED, _PACKED.format(what="zip")),
)


def foreign(path: Path) -> IntakeError | None:
    """Why the file can't be a model that Niwaki reads, and what to do; None where it isn't known as anything else."""
    with path.open("rb") as stream:
        head = stream.read(HEAD)
    if head.startswith(b"PK\x03\x04"):
        return _foreign_zip(path)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        return None  # .safetensors begins with a number, which may look like anything
    for pattern, kind, message in _SIGNATURES:
        if re.match(pattern, head, re.DOTALL):
            return IntakeError(message, path.name, kind)
    return None


def _foreign_zip(path: Path) -> IntakeError | None:
    try:
        with Zip(path, MAX_DIRECTORY) as archive:
            names = [name[:500] for name in archive.namelist()]
    except ZIP_ERRORS:
        return None  # what opens it next says what is wrong
    if names and all(name.endswith(".npy") for name in names):
        return IntakeError(_DATA.format(what=".npz"), path.name, _UNSUPPORTED)
    exported = any(re.fullmatch(r"[^/]*/models/[^/]*\.json", name) for name in names)
    # An exported program may hold a pickle: its sample inputs, which are never read.
    for pattern, kind, message in _PICKLED if exported else (*_PICKLED, *_MEMBERS):
        if any(re.fullmatch(pattern, name, re.DOTALL) for name in names):
            return IntakeError(message, path.name, kind)
    if not exported and any(map(format_of, names)):
        return IntakeError(_DATA.format(what="a zip of images"), path.name, _UNSUPPORTED)
    return None
