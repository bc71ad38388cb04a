"""Code that runs a delivered file on samples as they lie in the data file: declared preprocessing included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from compression.export.writers import ExportedFile
from compression.layout import image_shape
from compression.network import Input, Signature
from compression.spec import Preprocess

TAKEN = frozenset(
    {"np", "onnxruntime", "torch", "session", "outputs", "model", "output", "Path", "load_network", "read_nwk"}
)
"""Names that the code uses itself."""
FIRST = "# Your own samples in place of the zeros, as they lie in the data file; the first axis counts them."


def usage(file: ExportedFile, signature: Signature, preprocess: Mapping[str, Preprocess]) -> str:
    """Python for one file; zeros stand for the samples. `preprocess` is by input name."""
    names = {entry.name: f"{entry.name}_input" if entry.name in TAKEN else entry.name for entry in signature.inputs}
    samples = "\n".join(
        line
        for entry in signature.inputs
        for line in _prepared(names[entry.name], entry, preprocess.get(entry.name, Preprocess()))
    )
    samples = f"{FIRST}\n{samples}"
    if file.format == "onnx":
        feed = ", ".join(f'"{entry}": {name}' for entry, name in names.items())
        run = f'session = onnxruntime.InferenceSession("{file.name}")\noutputs = session.run(None, {{{feed}}})'
        return f"import numpy as np\nimport onnxruntime\n\n{samples}\n{run}"
    call = f"output = model({', '.join(f'torch.from_numpy({name})' for name in names.values())})"
    if file.format == "pt2":
        load = f'model = torch.export.load("{file.name}").module()'
        return f"import numpy as np\nimport torch\n\n{samples}\n{load}\n{call}"
    read, module = ("read_nwk", "container.network") if file.format == "nwk" else ("load_network", "intake.weights")
    imports = (
        f"from pathlib import Path\n\nimport numpy as np\nimport torch\n\nfrom compression.{module} import {read}\n\n"
    )
    return f'{imports}{samples}\nmodel = {read}(Path("{file.name}")).module\n{call}'


def _prepared(name: str, entry: Input, declared: Preprocess) -> list[str]:
    """Lines that bring one input's samples to what the network takes, in the order of `Preprocess`."""
    image = image_shape(entry.shape) if len(entry.shape) == 3 else None
    last = image is not None and image.channels_last
    stored, turn = tuple(entry.shape), ""
    if image is not None and declared.layout == "NHWC" and not last:
        stored, turn = (image.height, image.width, image.channels), ".transpose(0, 3, 1, 2)"
    elif image is not None and declared.layout == "NCHW" and last:
        stored, turn = (image.channels, image.height, image.width), ".transpose(0, 2, 3, 1)"
    lines = [f"{name} = np.zeros({(1, *stored)}, np.{'bool_' if entry.dtype == 'bool' else entry.dtype})"]
    if declared.resize is not None:
        kept = f", the middle {declared.resize.crop_fraction:g} kept" if declared.resize.crop == "center" else ""
        lines[0] += f"  # resized by Pillow: {declared.resize.method}{kept}"
    if turn:
        lines.append(f"{name} = np.ascontiguousarray({name}{turn})")
    if not entry.dtype.startswith("float"):
        return lines
    axes = [1] * len(entry.shape)
    value = f"{name}.astype(np.float32)"
    if declared.scale != 1:
        value += f" * {declared.scale!r}"
    if any(number != 0 for number in declared.mean):
        value = f"{value} - {_by_channel(declared.mean, axes, last=last)}"
    if any(number != 1 for number in declared.std):
        value = f"({value}) / {_by_channel(declared.std, axes, last=last)}"
    cast = "" if entry.dtype == "float32" else f".astype(np.{entry.dtype})"
    return [*lines, f"{name} = ({value}){cast}" if cast else f"{name} = {value}"]


def _by_channel(numbers: Sequence[float], axes: Sequence[int], *, last: bool) -> str:
    """A number, or an array that goes along the axis of the channels."""
    if len(numbers) == 1:
        return repr(numbers[0])
    shape = [*axes]
    shape[-1 if last else 0] = len(numbers)
    return f"np.array({list(numbers)}, np.float32).reshape({', '.join(map(str, shape))})"
