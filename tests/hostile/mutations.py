"""Sound files of each format with something changed: bytes anywhere, or a place that the format's own reader gets to.

Every change is drawn from a `random.Random`, so its seed makes the file again.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from compression.container.sections import join, split
from compression.container.text import pack, unpack
from compression.errors import Refusal
from tests.hostile.case import Kind
from tests.hostile.valid import (
    MODEL,
    WEIGHTS,
    archive_members,
    archive_of,
    images,
    npz,
    nwk,
    pt2,
    safetensors,
    with_header,
    zip_of,
)

ODD: tuple[Any, ...] = (
    None, True, 0, 1, -1, 3, 2**31, 2**63, 2**80, 0.5, 1e308, "", "x", "relu", "\0", "../x", "a" * 300, [], {}, [1],
    [[]], {"as_int": 4}, "Infinity",
)  # fmt: skip


@dataclass(frozen=True)
class Format:
    filename: str
    kind: Kind
    sound: Callable[[], bytes]
    change: Callable[[bytes, Random], bytes]  # below the container's checksums

    def mutated(self, random: Random) -> bytes:
        data = self.sound()
        for _ in range(random.randint(1, 2)):
            data = _bytes_changed(data, random) if random.random() < 0.3 else self.change(data, random)
            if random.random() < 0.5:
                break
        return data


def _bytes_changed(data: bytes, random: Random) -> bytes:
    """A few bytes replaced, a stretch left out, repeated, zeroed or moved, or the end cut off."""
    if not data:
        return data
    at, length = random.randrange(len(data)), random.choice((1, 2, 4, 8, 64, 1000))
    stretch = data[at : at + length]
    ways: tuple[Callable[[], bytes], ...] = (
        lambda: data[:at] + bytes(random.randrange(256) for _ in stretch) + data[at + length :],
        lambda: data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :],
        lambda: data[:at] + data[at + length :],
        lambda: data[:at] + stretch * 2 + data[at + length :],
        lambda: data[:at] + b"\xff" * len(stretch) + data[at + length :],
        lambda: data[:at] + bytes(len(stretch)) + data[at + length :],
        lambda: data[:at],
        lambda: data + stretch,
    )
    return random.choice(ways)()


def _json_changed(value: Any, random: Random) -> Any:
    """The value with one place in it changed, left out or repeated."""
    if isinstance(value, dict) and value and random.random() < 0.9:
        key = random.choice(sorted(value))
        if random.random() < 0.05:
            return {name: entry for name, entry in value.items() if name != key}
        return value | {key: _json_changed(value[key], random)}
    if isinstance(value, list) and value and random.random() < 0.9:
        at = random.randrange(len(value))
        how = random.random()
        if how < 0.05:
            return value[:at] + value[at + 1 :]
        if how < 0.1:
            return [*value[:at], value[at], *value[at:]]
        return [*value[:at], _json_changed(value[at], random), *value[at + 1 :]]
    if isinstance(value, int) and random.random() < 0.5:
        return value + random.choice((-1, 1, 2, 8, 1000, -(2**31), 2**32))
    return random.choice(ODD)


def _members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _pt2_changed(_: bytes, random: Random) -> bytes:
    """One JSON of the archive changed (the graph mostly), or one member's bytes."""
    members = archive_members()
    name = random.choice((MODEL, MODEL, MODEL, WEIGHTS, random.choice(sorted(members))))
    if not name.endswith(".json"):
        return archive_of(members | {name: _bytes_changed(members[name], random)})
    document = json.loads(members[name])
    if name == MODEL:
        module = document["graph_module"]
        holder: Any
        key: Any
        holder, key = random.choice(
            ((module, "signature"), (module["graph"], "tensor_values"), (module["graph"], "nodes"))
        )
        if key == "nodes":
            holder, key = holder[key], random.randrange(len(holder[key]))
        holder[key] = _json_changed(holder[key], random)
    else:
        document = _json_changed(document, random)
    return archive_of(members | {name: json.dumps(document).encode()})


def _safetensors_changed(_: bytes, random: Random) -> bytes:
    data = safetensors()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    if random.random() < 0.7:
        described = json.loads(header["__metadata__"]["niwaki"])
        header["__metadata__"]["niwaki"] = json.dumps(_json_changed(described, random))
    else:
        header = _json_changed(header, random)
    return with_header(json.dumps(header).encode(), data[8 + length :])


def _data_changed(_: bytes, random: Random) -> bytes:
    """Arrays in safetensors: a name, a shape, a type or an offset changed."""
    data = arrays()
    length = int.from_bytes(data[:8], "little")
    return with_header(json.dumps(_json_changed(json.loads(data[8 : 8 + length]), random)).encode(), data[8 + length :])


def _zip_changed(data: bytes, random: Random) -> bytes:
    """A member's bytes changed (its header, mostly), or its name; the zip around it is sound."""
    try:
        members = _members(data)
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError, RuntimeError, EOFError):
        return _bytes_changed(data, random)  # an earlier change left no zip
    name = random.choice(sorted(members)) if members else "x.npy"
    content = members.pop(name, b"")
    if random.random() < 0.1:
        name = random.choice(("y.npy", "../x.npy", "cat/dog/1.png", "train/cat/1.png", "x", "a" * 600, name + "/"))
    elif random.random() < 0.7:
        content = _bytes_changed(content[:160], random) + content[160:]
    else:
        content = _bytes_changed(content, random)
    return zip_of(members | {name: content}, random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))


OPERATORS = (
    "Relu", "Conv", "Gemm", "MatMul", "Reshape", "Transpose", "Add", "Concat", "Split", "Slice", "Gather", "Expand",
    "Tile", "Pad", "Resize", "Range", "ReduceMean", "Softmax", "Shape", "Squeeze", "Flatten", "MaxPool", "Loop", "If",
    "LSTM", "BatchNormalization", "Einsum", "ConstantOfShape", "Constant", "Cast", "Where", "TopK", "NonZero",
)  # fmt: skip


def _onnx_changed(_: bytes, random: Random) -> bytes:
    """A node, an attribute, a weight or a declared shape changed."""
    model = ModelProto.FromString(onnx_model())
    node = random.choice(model.graph.node)
    weight: TensorProto = random.choice(model.graph.initializer)
    number = random.choice((-1, 0, 1, 2, 3, 7, 1000, 2**31, 2**62, -(2**63)))
    how = random.randrange(9)
    if how == 0:
        node.op_type = random.choice(OPERATORS)
    elif how == 1 and node.input:
        names = ["", "x", "gone", *(name for other in model.graph.node for name in other.output)]
        node.input[random.randrange(len(node.input))] = random.choice(names)
    elif how == 2 and node.attribute:
        attribute = random.choice(node.attribute)
        if attribute.ints:
            attribute.ints[random.randrange(len(attribute.ints))] = number
        else:
            attribute.i = number
    elif how == 3:
        del weight.dims[:]
        weight.dims.extend(random.choice(([], [number], [1, number], [3, 4], [4, 3, 1])))
    elif how == 4:
        weight.CopyFrom(numpy_helper.from_array(np.array([number, 1]), weight.name))
    elif how == 5:
        weight.raw_data = _bytes_changed(weight.raw_data, random)
    elif how == 6:
        model.graph.input[0].type.tensor_type.shape.dim[random.randrange(4)].dim_value = number
    elif how == 7:
        node.attribute.append(helper.make_attribute(random.choice(("axis", "axes", "to", "pads")), [number]))
    else:
        model.graph.node.insert(random.randrange(len(model.graph.node)), node)
    data: bytes = model.SerializeToString()
    return data


@cache
def onnx_model() -> bytes:
    """Convolution, a reshape through its shape, and a head."""
    random = np.random.default_rng(0)

    def tensor(name: str, values: Any) -> TensorProto:
        return numpy_helper.from_array(np.asarray(values), name)

    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Shape", ["p"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"], axis=0),
        helper.make_node("Concat", ["n", "rest"], ["flat"], axis=0),
        helper.make_node("Reshape", ["p", "flat"], ["f"]),
        helper.make_node("Gemm", ["f", "g", "h"], ["y"], transB=1),
    ]
    weights = [
        tensor("w", random.normal(size=(4, 1, 3, 3)).astype(np.float32)),
        tensor("b", np.zeros(4, np.float32)),
        tensor("zero", np.array([0])),
        tensor("rest", np.array([-1])),
        tensor("g", random.normal(size=(3, 36)).astype(np.float32)),
        tensor("h", np.zeros(3, np.float32)),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 6, 6])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])]
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs, weights), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 9
    data: bytes = model.SerializeToString()
    return data


@cache
def arrays() -> bytes:
    """The dataset of `npz()` as safetensors."""
    header, data = {}, b""
    with np.load(io.BytesIO(npz())) as stored:
        for name, dtype in (("x", "F32"), ("y", "I64")):
            content = stored[name].tobytes()
            offsets = [len(data), len(data) + len(content)]
            header[name] = {"dtype": dtype, "shape": list(stored[name].shape), "data_offsets": offsets}
            data += content
    return with_header(json.dumps(header).encode(), data)


def _nwk_changed(data: bytes, random: Random) -> bytes:
    """The description or the data changed, with checksums that fit."""
    try:
        description, body = split(data)
        if random.random() < 0.6:
            return join(pack(json.dumps(_json_changed(json.loads(unpack(description)), random))), body)
        return join(description, _bytes_changed(body, random))
    except (Refusal, ValueError):
        return data  # it is past changing


FORMATS: Mapping[str, Format] = {
    "pt2": Format("model.pt2", "model", pt2, _pt2_changed),
    "safetensors model": Format("model.safetensors", "model", safetensors, _safetensors_changed),
    "nwk": Format("model.nwk", "model", nwk, _nwk_changed),
    "onnx": Format("model.onnx", "model", onnx_model, _onnx_changed),
    "npz": Format("data.npz", "data", npz, _zip_changed),
    "safetensors data": Format("data.safetensors", "data", arrays, _data_changed),
    "images": Format("images.zip", "data", images, _zip_changed),
}
