"""Headers of arrays and weights that lie: `.safetensors`, as a model and as data, and `.npy` in `.npz`."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

from tests.hostile.case import Cases
from tests.hostile.raw_zip import Entry, raw_zip
from tests.hostile.valid import npy, safetensors, with_header

CASES = Cases()
UNLISTED = ("operator-unsupported",)
MODEL_KINDS = ("model-unsafe", "model-unreadable")
DATA_KINDS = ("data-unsafe", "data-unreadable", "data-invalid")


def _tensor(shape: list[int], start: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def _file(header: Any, data: bytes = bytes(32)) -> bytes:
    return with_header(header if isinstance(header, bytes) else json.dumps(header).encode(), data)


HEADERS: dict[str, Callable[[], bytes]] = {
    "a header of 2^63 bytes": lambda: struct.pack("<Q", 2**63 - 1) + b'{"x":',
    "a header of 100 GB": lambda: struct.pack("<Q", 10**11) + b"{}",
    "a header that is cut": lambda: struct.pack("<Q", 100) + b'{"x": {"dty',
    "a shape that overflows": lambda: _file({"x": _tensor([2**33, 2**33], 0, 32)}),
    "a shape of 2^62": lambda: _file({"x": _tensor([2**62], 0, 32)}),
    "a shape beyond the bytes": lambda: _file({"x": _tensor([1000], 0, 4000)}),
    "a negative length": lambda: _file({"x": _tensor([-8], 0, 32)}),
    "offsets backwards": lambda: _file({"x": _tensor([8], 32, 0)}),
    "offsets that overlap": lambda: _file({"x": _tensor([8], 0, 32), "y": _tensor([4], 16, 32)}),
    "a hole between tensors": lambda: _file({"x": _tensor([2], 0, 8), "y": _tensor([2], 24, 32)}),
    "an unknown type": lambda: _file({"x": _tensor([8], 0, 32, "PICKLE")}),
    "a name twice": lambda: _file(b'{"x":{"dtype":"F32","shape":[8],"data_offsets":[0,32]},'
                                  b'"x":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'),
    "metadata that is no text": lambda: _file({"__metadata__": {"niwaki": {"a": 1}}, "x": _tensor([8], 0, 32)}),
    "nesting without end": lambda: _file(b'{"x":' * 100_000 + b"1" + b"}" * 100_000),
    "12,000,000 empty objects": lambda: _file(b'{"x":[' + b"{}," * 12_000_000 + b"{}]}"),
    "a number of 1,000,000 digits": lambda: _file(b'{"x":{"dtype":"F32","shape":[' + b"9" * 1_000_000 + b"]}}"),
    "half of the bytes": lambda: safetensors()[: len(safetensors()) // 2],
    "bytes too many": lambda: safetensors() + bytes(64),
}  # fmt: skip
for _name, _make in HEADERS.items():
    CASES.add(f"safetensors model: {_name}", "net.safetensors", *MODEL_KINDS)(lambda _, make=_make: make())
    if "metadata" not in _name:
        CASES.add(f"safetensors data: {_name}", "x.safetensors", *DATA_KINDS, kind="data")(lambda _, make=_make: make())


def _described(edit: Callable[[dict[str, Any]], Any]) -> bytes:
    """Niwaki's own file with another description of its network."""
    length = int.from_bytes(safetensors()[:8], "little")
    header = json.loads(safetensors()[8 : 8 + length])
    described = json.loads(header["__metadata__"]["niwaki"])
    edit(described)
    header["__metadata__"]["niwaki"] = json.dumps(described)
    return with_header(json.dumps(header).encode(), safetensors()[8 + length :])


def _call(target: str, *args: Any, name: str = "evil", op: str = "call_function") -> dict[str, Any]:
    return {"op": op, "name": name, "target": target, "args": list(args), "kwargs": {}}


def _first(node: Callable[[str], dict[str, Any]]) -> Callable[[str], bytes]:
    """The description with one more node behind the input."""
    return lambda canary: _described(lambda described: described["graph"]["nodes"].insert(1, node(canary)))


CASES.add("niwaki: a function that is not listed", "net.safetensors", *UNLISTED)(
    _first(lambda canary: _call("os.system", f"touch '{canary}'"))
)
CASES.add("niwaki: an operator that is not listed", "net.safetensors", *UNLISTED)(
    _first(lambda canary: _call("aten.from_file.default", canary))
)
CASES.add("niwaki: a method", "net.safetensors", *MODEL_KINDS)(
    _first(lambda canary: _call("__reduce__", canary, op="call_method"))
)
CASES.add("niwaki: a name that is code", "net.safetensors", *MODEL_KINDS)(
    _first(lambda canary: _call("neg", 1, name=f"__import__('os').system('touch {canary}')"))
)
CASES.add("niwaki: a tensor of 2^62", "net.safetensors", *MODEL_KINDS)(
    lambda _: _described(lambda described: described["inputs"][0].update(shape=[2**31, 2**31]))
)
CASES.add("niwaki: 300,000 entries of provenance", "net.safetensors", *MODEL_KINDS)(
    lambda _: _described(lambda described: described.update(provenance=[{"a": [1]}] * 300_000))
)
CASES.add("niwaki: a layer of 2^40 weights", "net.safetensors", *MODEL_KINDS)(
    lambda _: _described(lambda described: _widen(described["graph"]))
)


def _widen(graph: dict[str, Any]) -> None:
    for layer in graph["modules"].values() if isinstance(graph["modules"], dict) else graph["modules"]:
        arguments = layer.get("arguments", {})
        for name in ("in_features", "out_features", "in_channels", "out_channels", "num_features"):
            if name in arguments:
                arguments[name] = 2**20


ARRAYS: dict[str, Callable[[], bytes]] = {
    "more than its bytes": lambda: npy(shape="(1000000000000, 6)"),
    "fewer than its bytes": lambda: npy(shape="(2, 6)"),
    "a shape that overflows": lambda: npy(shape="(4294967296, 4294967296, 16)"),
    "a negative length": lambda: npy(shape="(-12, -6)"),
    "objects": lambda: npy("|O"),
    "texts": lambda: npy("<U8"),
    "a structure": lambda: npy(header=b"{'descr': [('b', '|O')], 'fortran_order': False, 'shape': (12,), }"),
    "code for a header": lambda: npy(header=b"{'descr': __import__('os').system('id'), 'shape': ()}"),
    "a header of nested parentheses": lambda: npy(header=b"(" * 60_000),
    "a header of minus signs": lambda: npy(header=b"-" * 60_000 + b"1"),
    "a length of 4,000 digits": lambda: npy(shape=f"({'9' * 4000},)"),
    "64 axes": lambda: npy(shape="(" + "1, " * 64 + ")", data=bytes(4)),
    "a header that is cut": lambda: b"\x93NUMPY\x01\x00\xff\xff{'descr'",
    "version 9": lambda: b"\x93NUMPY\x09\x00" + npy()[8:],
    "a header of 4 GiB": lambda: b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1) + npy()[10:],
    "nothing": lambda: b"",
}  # fmt: skip
for _name, _make in ARRAYS.items():
    CASES.add(f"npz: {_name}", "data.npz", *DATA_KINDS, kind="data")(
        lambda _, make=_make: raw_zip([Entry(b"x.npy", make())])
    )
