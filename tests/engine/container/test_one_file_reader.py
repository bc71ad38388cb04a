"""docs/nwk_reader.py, the format's second implementation: it reads what the first one writes, and refuses what that one
refuses, without the project."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from compression.coding.coder import CODERS
from compression.container import text
from compression.container.file import Container, arrays, read_container, write_container
from compression.container.sections import join, split
from compression.container.tensors import Tensor, chooser
from compression.errors import IntakeError

READER = Path(__file__).parents[3] / "docs" / "nwk_reader.py"
spec = importlib.util.spec_from_file_location("nwk_reader", READER)
assert spec is not None
assert spec.loader is not None
reader = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reader)

NETWORK = {"graph": {"nodes": []}, "encodings": {"grid": "grid"}}
ALONE = """
import runpy, sys
for name in ("compression", "api", "worker", "store", "torch", "numba", "constriction"):
    sys.modules[name] = None
reader, *sys.argv[1:] = sys.argv[1:]
runpy.run_path(reader, run_name="__main__")
"""


def drawn(shape: tuple[int, ...], low: int, high: int, seed: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(low, high, shape)


def sparse(shape: tuple[int, ...], density: float, seed: int = 0) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).random(shape) < density


def grid(name: str, levels: NDArray[np.int64], step: NDArray[np.float32], limit: int) -> Tensor:
    along = step.reshape(-1, *[1] * (levels.ndim - 1)) if step.ndim else step
    values = levels.astype(np.float32) * along
    return Tensor(name, "grid", values, {"step": step, "range": np.array([-limit, limit])})


def codebook(name: str, codes: NDArray[np.int64], rows: NDArray[np.int64] | None = None) -> Tensor:
    table = np.random.default_rng(7).normal(size=(codes.max() + 1) * (1 if rows is None else rows.max() + 1))
    places = codes if rows is None else codes + (rows * (codes.max() + 1)).reshape(-1, *[1] * (codes.ndim - 1))
    values = np.where(codes < 0, 0, table[np.maximum(places, 0)]).astype(np.float32)
    return Tensor(name, "codebook", values, {"codes": codes} if rows is None else {"codes": codes, "rows": rows})


def short_mask(name: str, keep: NDArray[np.bool_], values: NDArray[Any], bfloat16: bool = False) -> Tensor:
    kept = np.where(keep, values.reshape(-1)[: keep.size].reshape(keep.shape), values.dtype.type(0))
    return Tensor(name, "mask", kept, {"keep": keep}, bfloat16)


def blocks(name: str, shape: tuple[int, int], size: int, *, zeros: bool = False) -> Tensor:
    random = np.random.default_rng(4)
    by_block = (shape[0], -(-shape[1] // size))
    step = random.normal(size=by_block).astype(np.float32)
    zero = random.integers(0, 16, by_block) if zeros else np.full(by_block, 8)
    along = [np.repeat(part, size, axis=1)[:, : shape[1]] for part in (step, zero)]
    values = (random.integers(0, 16, shape) - along[1]).astype(np.float32) * along[0]
    parts = {"step": step, "size": np.array(size)} | ({"zero": zero.astype(np.uint8)} if zeros else {})
    return Tensor(name, "blocks", values, parts)


def tensors(wide: int = 100) -> list[Tensor]:
    normal = np.random.default_rng(1).normal(size=(50, 40)).astype(np.float32)
    keep = sparse((5, 4, 3, 3), 0.3)
    return [
        Tensor("mask", "mask", np.where(keep, normal.reshape(-1)[: keep.size].reshape(keep.shape), 0), {"keep": keep}),
        codebook("codebook", drawn((12, 20), -1, 5)),
        codebook("codebooks", drawn((10, 4, 2, 3), -1, 6), np.arange(10) // 4),
        codebook("one code", np.zeros(30, np.int64)),
        grid("grid", drawn((20, 30), -1, 2) * sparse((20, 1), 0.5) * sparse((1, 30), 0.6, 1), np.float32(0.02), 1),
        grid("picture", np.tile(drawn((8, 8), -9, 10), 4) * sparse((8, 32), 0.7), np.float32(0.1), 9),
        grid("rows", drawn((16, 5), -127, 128), np.linspace(0.01, 0.2, 16, dtype=np.float32), 127),
        grid("wide", drawn((wide,), -(2**20), 2**20), np.float32(1), 2**20),
        grid("nearly empty", 70 * sparse((40, 30, 5), 0.002), np.float32(0.5), 127),
        grid("zero", np.zeros((4, 3), np.int64), np.float32(0.5), 1),
        grid("nothing", np.zeros((0, 3), np.int64), np.float32(0.5), 1),
        blocks("blocks", (12, 70), 32),
        blocks("blocks with zeros", (5, 40), 16, zeros=True),
        blocks("one block", (3, 5), 256),
        blocks("no blocks", (4, 0), 64, zeros=True),
        Tensor("float32", "plain", normal),
        Tensor("float64", "plain", normal.astype(np.float64)[:5] / 3),
        Tensor("float16", "plain", normal.astype(np.float16)),
        Tensor("bfloat16", "plain", (normal.view(np.uint32) & 0xFFFF0000).view(np.float32), {}, bfloat16=True),
        short_mask("kept float16", keep, normal.astype(np.float16)),
        short_mask("kept bfloat16", keep, (normal.view(np.uint32) & 0xFFFF0000).view(np.float32), bfloat16=True),
        Tensor("odd", "plain", np.array([-0.0, np.nan, np.inf, 1e-45], np.float32)),
        Tensor("int64", "plain", np.array(-(2**40))),
        Tensor("int32", "plain", drawn((3000,), -5, 5).astype(np.int32)),
        Tensor("bool", "plain", sparse((3, 5), 0.5)),
    ]


def written(coder: str, chosen: list[Tensor]) -> bytes:
    return write_container(Container(NETWORK, chosen), chooser(coder)).file


def assert_same(found: dict[str, NDArray[np.generic]], file: bytes) -> None:
    wanted = arrays(read_container(file))
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        assert found[name].tobytes() == array.tobytes(), name


def run_alone(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-c", ALONE, str(READER), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


@pytest.mark.parametrize("coder", ["auto", *CODERS])
def test_every_kind_of_tensor_is_read_bit_for_bit(coder: str) -> None:
    chosen = tensors(100 if coder in ("auto", "adaptive") else 6000)  # more than an alphabet's letters
    file = written(coder, chosen)
    network, found = reader.read(file)
    assert network == NETWORK
    assert_same(found, file)
    wanted = {tensor.name: tensor.values for tensor in chosen}  # and what was read is what was written
    assert all(np.array_equal(found[name], wanted[name], equal_nan=wanted[name].dtype.kind == "f") for name in wanted)


def test_it_runs_without_the_project(tmp_path: Path) -> None:
    file = written("adaptive", tensors())
    (tmp_path / "a.nwk").write_bytes(file)
    done = run_alone("a.nwk", "--out", "a.npz", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "'codebooks' codebook float32 [10, 4, 2, 3]" in done.stdout.splitlines()
    with np.load(tmp_path / "a.npz") as archive:
        assert_same(dict(archive), file)


def test_a_file_cut_short_is_refused_with_a_message(tmp_path: Path) -> None:
    (tmp_path / "a.nwk").write_bytes(written("adaptive", tensors()[:3])[:-1])
    done = run_alone("a.nwk", cwd=tmp_path)
    assert done.returncode == 1
    assert "a.nwk: not a .nwk file, or a damaged one: it is cut short" in done.stderr
    assert "Traceback" not in done.stderr


SMALL = [tensors()[0], codebook("codebooks", drawn((6, 5), -1, 3), np.arange(6) // 3), tensors()[8], tensors()[10]]
SMALL.append(grid("wide", drawn((12,), -(2**20), 2**20), np.float32(1), 2**20))
SMALL.append(blocks("blocks with zeros", (3, 20), 16, zeros=True))
FILES = {coder: written(coder, SMALL) for coder in CODERS}


@pytest.mark.parametrize("coder", CODERS)
def test_every_truncation_and_every_altered_byte_is_refused(coder: str) -> None:
    file = FILES[coder]
    for place in range(len(file)):
        with pytest.raises(ValueError, match=r"\w"):
            reader.read(file[:place])
        with pytest.raises(ValueError, match=r"\w"):
            reader.read(file[:place] + bytes([file[place] ^ 0x11]) + file[place + 1 :])


@settings(max_examples=100, deadline=None)
@given(data=st.data(), coder=st.sampled_from(list(CODERS)))
def test_both_readers_refuse_and_read_the_same(data: st.DataObject, coder: str) -> None:
    """Data that was altered, under checksums that fit."""
    description, body = split(FILES[coder])
    altered = bytearray(body)
    for _ in range(data.draw(st.integers(1, 3))):
        altered[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    file = join(description, bytes(altered))
    try:
        read_container(file)
    except IntakeError:
        with pytest.raises(ValueError, match=r"\w"):
            reader.read(file)
    else:
        assert_same(reader.read(file)[1], file)


@pytest.mark.parametrize(
    ("tensor", "place", "value"),
    [
        (0, 1, "pickle"), (0, 1, ["mask"]), (0, 2, "object"), (0, 2, "float64"), (0, 3, [-1]), (0, 3, "5433"),
        (0, 3, [5, 4, 9.0]), (0, 3, [2**31 - 1] * 4), (1, 4, 2**31), (1, 5, 0), (1, 5, True), (2, 4, 1), (2, 5, 1),
        (2, 6, [7]), (3, 0, "mask"), (1, 2, "float16"), (2, 2, "bfloat16"), (0, 2, "uint16"),
        (5, 4, 33), (5, 4, 0), (5, 4, 16.0), (5, 4, True), (5, 5, 0), (5, 3, [3, 20, 1]), (5, 3, [60]),
        (5, 2, "float16"), (5, 3, [3, 2**31 - 1]), (2, 1, "blocks"),
    ],
)  # fmt: skip
def test_a_head_that_lies_is_refused(tensor: int, place: int, value: object) -> None:
    description, body = split(FILES["huffman"])
    document = json.loads(text.unpack(description))
    assert [head[1] for head in document["tensors"][:3]] == ["mask", "codebook", "grid"]
    document["tensors"][tensor][place] = value
    with pytest.raises(ValueError, match=r"not a \.nwk file, or a damaged one: \w"):
        reader.read(join(text.pack(json.dumps(document)), body))


NO_DESCRIPTIONS = {
    "a key twice": '{"network":{},"network":{},"tensors":[]}',
    "no JSON number": '{"network":{"a":NaN},"tensors":[]}',
    "no tensors": '{"network":{}}',
    "no network": '{"network":[],"tensors":[]}',
    "without end": "[" * 100_000,
    "cut short": "{",
}


@pytest.mark.parametrize("description", NO_DESCRIPTIONS.values(), ids=NO_DESCRIPTIONS)
def test_a_description_that_is_none_is_refused(description: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        reader.read(join(text.pack(description), b""))
    assert reader.read(join(text.pack('{"network":{},"tensors":[]}'), b"")) == ({}, {})


def test_the_dictionary_is_that_of_the_format() -> None:
    assert reader.DICTIONARY == text._DICTIONARY
