"""`.nwk`: everything comes back bit for bit, the same bytes every time, and nothing in a file is trusted."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compression.coding.coder import CODERS
from compression.container.file import read_container
from compression.container.network import container_of, encode, read_nwk, write_nwk
from compression.container.sections import join, split, varint
from compression.container.text import pack, unpack
from compression.encodings import BFloat16, Codebook, Encoding, Float16, Grid, Mask
from compression.errors import IntakeError, VerificationError
from compression.network import Network
from compression.vocabulary import used_tensors
from compression.zoo.catalog import ARCHITECTURES, zoo_network


def drawn(shape: tuple[int, ...], low: int, high: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed))


def encoded() -> Network:
    network = zoo_network("lenet5", {}, seed=0)
    rows = torch.arange(50) // 20
    encodings: dict[str, Encoding] = {
        "c1.weight": Mask(drawn((20, 1, 5, 5), 0, 3) > 1),
        "c2.weight": Codebook(drawn((50, 20, 5, 5), -1, 6), rows),
        "f1.weight": Grid(torch.tensor(0.02), -1, 1),
        "f1.bias": Grid(torch.tensor(0.001), -127, 127),
        "f2.weight": Grid(torch.rand(10, generator=torch.Generator().manual_seed(1)) * 0.05 + 0.01, -7, 7),
        "f2.bias": Codebook(drawn((10,), 0, 3)),
    }
    network = network.replaced(encodings=encodings)
    network.project()
    return network


def shortened() -> Network:
    encodings: dict[str, Encoding] = {
        "f1.weight": Float16(),
        "f1.bias": BFloat16(),
        "f2.weight": BFloat16(drawn((100, 300), 0, 4) > 2),
        "f3.weight": Float16(drawn((10, 100), 0, 4) > 2),
    }
    network = zoo_network("lenet300", {}, seed=0).replaced(encodings=encodings)
    network.project()
    return network


def saved(network: Network, path: Path, coder: str = "auto") -> Path:
    write_nwk(network.replaced(delivery={"nwk": {"coder": coder}}), path)
    return path


def same(one: Network, other: Network) -> bool:
    tensors, others = used_tensors(one.module), used_tensors(other.module)
    return tensors.keys() == others.keys() and all(torch.equal(tensors[name], others[name]) for name in tensors)


@pytest.mark.parametrize("made", [encoded, shortened])
@pytest.mark.parametrize("coder", ["auto", *CODERS])
def test_an_encoded_network_comes_back_bit_for_bit(tmp_path: Path, coder: str, made: Callable[[], Network]) -> None:
    network = made()
    again = read_nwk(saved(network, tmp_path / "a.nwk", coder))
    assert same(network, again)
    assert again.signature == network.signature
    assert again.provenance == network.provenance
    assert {name: encoding.kind for name, encoding in again.encodings.items()} == {
        name: encoding.kind for name, encoding in network.encodings.items()
    }
    for name, encoding in network.encodings.items():
        for part, value in encoding.tensors().items():
            assert torch.equal(again.encodings[name].tensors()[part], value), (name, part)
    assert encode(again, coder).file == encode(network, coder).file


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures_of_the_zoo_come_back(tmp_path: Path, name: str) -> None:
    network = zoo_network(name, {}, seed=0)
    again = read_nwk(saved(network, tmp_path / "a.nwk", "range"))
    assert same(network, again)
    x = network.example(2)
    assert torch.equal(again.module(*x), network.module(*x))


def test_odd_floats_come_back() -> None:
    network = zoo_network("lenet300", {"features": 4, "classes": 2}, seed=0)
    odd = torch.tensor([0.0, -0.0, 1e-45, -1e38])
    with torch.no_grad():
        network.module.get_parameter("f1.weight")[0] = odd
    values = {tensor.name: tensor.values for tensor in read_container(encode(network).file).tensors}
    assert values["f1.weight"][0].tobytes() == odd.numpy().tobytes()


def test_what_does_not_obey_its_encoding_is_not_written() -> None:
    network = zoo_network("lenet5", {}, seed=0).replaced(encodings={"f2.weight": Grid(torch.tensor(0.02), -1, 1)})
    with pytest.raises(VerificationError, match=r"f2\.weight"):
        container_of(network)


def test_the_bytes_are_pinned() -> None:
    """A file of version 1 stays readable: what is written for a fixed network is pinned."""
    network = zoo_network("lenet300", {"features": 6, "classes": 3}, seed=0).replaced(provenance=())
    with torch.no_grad():
        for name, parameter in network.module.named_parameters():
            levels = torch.arange(parameter.numel()).remainder(7) - 3
            parameter.copy_((levels * (levels.abs() < 2)).reshape(parameter.shape) * 0.5)
            network = network.replaced(encodings={**network.encodings, name: Grid(torch.tensor(0.5), -1, 1)})
    file = encode(network, "range").file
    assert hashlib.sha256(split(file)[1]).hexdigest() == GOLDEN_DATA
    assert unpack(bytes.fromhex("231047b500")) == '{"name":"c1","op":"call_module"}'  # by the dictionary


def test_tensors_are_read_without_torch(tmp_path: Path) -> None:
    network = encoded()
    path = saved(network, tmp_path / "a.nwk")
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from compression.container.file import arrays, read_container\n"
        f"found = arrays(read_container(open({str(path)!r}, 'rb').read()))\n"
        "print({name: float(value.astype('float64').sum()) for name, value in found.items()})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    sums = {name: float(value.detach().double().sum()) for name, value in used_tensors(network.module).items()}
    found = json.loads(done.stdout.replace("'", '"'))
    assert found.keys() == sums.keys()
    assert found == pytest.approx(sums)


def test_every_truncation_and_every_altered_byte_is_refused() -> None:
    file = encode(small()).file
    for length in range(len(file)):
        with pytest.raises(IntakeError):
            read_container(file[:length])
    for place in range(len(file)):
        with pytest.raises(IntakeError):
            read_container(file[:place] + bytes([file[place] ^ 0x11]) + file[place + 1 :])
    with pytest.raises(IntakeError, match="follows"):
        read_container(file + b"\0")


def small() -> Network:
    network = zoo_network("lenet300", {"features": 3, "classes": 2}, seed=0).replaced(provenance=())
    encodings: dict[str, Encoding] = {
        "f1.weight": Grid(torch.tensor(0.3), -1, 1),
        "f2.weight": Codebook(drawn((100, 300), -1, 4)),
        "f3.weight": Mask(drawn((2, 100), 0, 2) > 0),
    }
    network = network.replaced(encodings=encodings)
    network.project()
    return network


SMALL = encode(small(), "range").file


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_altered_data_with_a_fitting_checksum_is_refused_or_a_network(data: st.DataObject) -> None:
    description, body = split(SMALL)
    altered = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        altered[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(len(body) - 3, len(body)))
    try:
        container = read_container(join(description, bytes(altered[:cut])))
    except IntakeError:
        return
    shapes = {tensor.name: tensor.values.shape for tensor in container.tensors}
    assert shapes == {name: tuple(value.shape) for name, value in used_tensors(small().module).items()}


def altered(edit: Any) -> bytes:
    description, body = split(SMALL)
    document = json.loads(unpack(description))
    document = edit(document) or document
    return join(pack(json.dumps(document)), body)


def head(document: Any, name: str) -> Any:
    return next(entry for entry in document["tensors"] if entry[0] == name)


EDITS = {
    "no list": lambda d: {"network": d["network"], "tensors": {}},
    "no network": lambda d: {"tensors": d["tensors"]},
    "something else": lambda d: {**d, "more": 1},
    "a kind of its own": lambda d: head(d, "f1.weight").__setitem__(1, "pickle"),
    "an object type": lambda d: head(d, "f1.bias").__setitem__(2, "object"),
    "a negative length": lambda d: head(d, "f1.bias").__setitem__(3, [-300]),
    "a huge tensor": lambda d: head(d, "f1.bias").__setitem__(3, [2**31 - 1, 2**31 - 1]),
    "a long codebook": lambda d: head(d, "f2.weight").__setitem__(5, 2**31),
    "many codebooks": lambda d: head(d, "f2.weight").__setitem__(4, 2**31),
    "a range without zero": lambda d: head(d, "f1.weight").__setitem__(4, 1),
    "a level out of range": lambda d: head(d, "f1.weight").__setitem__(5, 0),
    "steps of another length": lambda d: head(d, "f1.weight").__setitem__(6, [7]),
    "a tensor twice": lambda d: d["tensors"].__setitem__(1, [*d["tensors"][0][:1], *d["tensors"][1][1:]]),
    "a tensor less": lambda d: d["tensors"].pop(),
    "an encoding that isn't there": lambda d: d["network"]["encodings"].pop("f1.weight"),
    "another kind of encoding": lambda d: d["network"]["encodings"].__setitem__("f1.weight", "mask"),
    "a codebook of another type": lambda d: head(d, "f2.weight").__setitem__(2, "float16"),
    "a mask of another type": lambda d: head(d, "f3.weight").__setitem__(2, "bfloat16"),
    "floats of another type": lambda d: head(d, "f1.bias").__setitem__(2, "float16"),
    "an encoding that nobody knows": lambda d: d["network"]["encodings"].__setitem__("f1.weight", "float8"),
    "short floats that are levels": lambda d: d["network"]["encodings"].__setitem__("f1.weight", "float16"),
    "another shape": lambda d: head(d, "f3.weight").__setitem__(3, [100, 2]),
    "an operator that isn't allowed": lambda d: d["network"]["graph"]["modules"]["f1"].__setitem__("kind", "os.system"),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_description_that_lies_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.nwk").write_bytes(altered(EDITS[name]))
    with pytest.raises(IntakeError):
        read_nwk(tmp_path / "a.nwk")


def test_a_text_that_unpacks_without_end_is_refused() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = packer.compress(b" " * (1 << 20)) * 1
    bomb += b"".join(packer.compress(b" " * (1 << 20)) for _ in range(80)) + packer.flush()
    with pytest.raises(IntakeError, match="64 MiB"):
        read_container(join(bomb, b""))


@given(value=st.integers(0, 2**42 - 1))
def test_a_varint_is_leb128(value: int) -> None:
    coded = varint(value)
    assert sum((byte & 127) << 7 * place for place, byte in enumerate(coded)) == value
    assert all(byte & 128 for byte in coded[:-1])
    assert coded[-1] < 128


def test_masks_keep_the_values_that_they_keep() -> None:
    network = small()
    tensor = next(entry for entry in read_container(SMALL).tensors if entry.name == "f3.weight")
    wanted = network.module.get_parameter("f3.weight").detach().numpy()
    assert np.array_equal(tensor.values, wanted)
    assert np.array_equal(tensor.parts["keep"], wanted != 0)


GOLDEN_DATA = "35094d059c135b496365f94de1624a6839f030bb5c51dab540d1dfca49533207"
