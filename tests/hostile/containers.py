"""`.nwk` files that lie, with checksums that fit."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from typing import Any

from compression.container.sections import MAGIC, join, split, varint
from compression.container.text import pack, unpack
from tests.hostile.case import Cases
from tests.hostile.valid import nwk

CASES = Cases()
KINDS = ("model-unsafe", "model-unreadable")


def _described(edit: Callable[[dict[str, Any]], Any]) -> bytes:
    description, data = split(nwk())
    document = json.loads(unpack(description))
    edit(document)
    return join(pack(json.dumps(document)), data)


def _plain(shape: list[int]) -> bytes:
    """One mask of that shape, whatever data there is."""
    return _described(lambda document: document.update(tensors=[["x", "mask", "float32", shape]]))


def _blocks(shape: list[int], size: Any, zeros: Any) -> bytes:
    return _described(lambda document: document.update(tensors=[["x", "blocks", "float32", shape, size, zeros]]))


def _bomb() -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    blank = b" " * (1 << 20)
    return join(b"".join(packer.compress(blank) for _ in range(2000)) + packer.flush(), b"")


def _system(document: dict[str, Any]) -> None:
    modules = document["network"]["graph"]["modules"]
    modules[next(iter(modules))]["kind"] = "os.system"


def _head(document: dict[str, Any], what: str) -> Any:
    return next(head for head in document["tensors"] if what in head[:3])


def _another_short(document: dict[str, Any]) -> None:
    _head(document, "float16")[2] = "bfloat16"


FILES: dict[str, Callable[[], bytes]] = {
    "only its first bytes": lambda: MAGIC,
    "another version": lambda: MAGIC + b"\x02" + nwk()[5:],
    "a section of 2^41 bytes": lambda: nwk()[:5] + varint(2**41) + nwk()[6:],
    "a length without end": lambda: nwk()[:5] + b"\xff" * 64,
    "half of the bytes": lambda: nwk()[: len(nwk()) // 2],
    "a description of 2 GB": _bomb,
    "a description that is code": lambda: join(pack("__import__('os').system('true')"), b""),
    "nesting without end": lambda: join(pack("[" * 100_000), b""),
    "a tensor of 2^62": lambda: _plain([2**31 - 1, 2**31 - 1]),
    "a tensor of 2^40": lambda: _plain([2**20, 2**20]),
    "a tensor of 2^28 for nothing": lambda: _plain([2**14, 2**14]),
    "a negative length": lambda: _plain([-8, 4]),
    "100,001 tensors": lambda: _described(lambda d: d.update(tensors=[["x", "plain", "float32", [0]]] * 100_001)),
    "a tensor of objects": lambda: _described(lambda d: d["tensors"][0].__setitem__(2, "object")),
    "a tensor by another name": lambda: _described(lambda d: d["tensors"][0].__setitem__(0, "__class__")),
    "short floats of another type": lambda: _described(_another_short),
    "a mask of no type there is": lambda: _described(lambda d: _head(d, "mask").__setitem__(2, "float8")),
    "blocks of 2^40 for nothing": lambda: _blocks([2**20, 2**20], 16, True),
    "2^24 rows of a block each": lambda: _blocks([2**24 - 1, 1], 256, True),
    "blocks of no entries": lambda: _blocks([8, 8], 0, False),
    "blocks of no matrix": lambda: _blocks([8], 16, False),
    "blocks of a list": lambda: _blocks([8, 8], [16], {}),
    "a module that isn't listed": lambda: _described(_system),
}

for _name, _make in FILES.items():
    kinds = {"another version": ("model-unsupported",)}.get(_name, KINDS)
    CASES.add(f"nwk: {_name}", "net.nwk", *kinds)(lambda _, make=_make: make())
