"""Blocks of four bits in `.nwk` and `.safetensors`: they come back bit for bit, and what lies about them is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compression.coding.coder import CODERS
from compression.container.file import read_container
from compression.container.network import encode, read_nwk, write_nwk
from compression.container.sections import join, split
from compression.container.text import pack, unpack
from compression.encodings import Blocks
from compression.errors import IntakeError
from compression.intake.tensors import read_tensors, write_tensors
from compression.intake.weights import load_network, save_network
from compression.network import Network
from compression.vocabulary import used_tensors
from compression.zoo.catalog import zoo_network


def blocked() -> Network:
    """Blocks of two sizes, one kind with zeros; the last of each row has fewer entries."""
    network = zoo_network("lenet300", {"features": 40, "classes": 3}, seed=0).replaced(provenance=())
    random = torch.Generator().manual_seed(0)
    steps = [torch.rand(shape, generator=random) * 0.02 + 0.01 for shape in ((300, 2), (100, 5))]
    steps[0][::2] *= -1
    zero = torch.randint(0, 16, (100, 5), generator=random).to(torch.uint8)
    network = network.replaced(
        encodings={"f1.weight": Blocks(steps[0], 32), "f2.weight": Blocks(steps[1], 64, zero)},
    )
    network.project()
    return network


def assert_same(found: Network, wanted: Network) -> None:
    tensors = used_tensors(found.module)
    for name, value in used_tensors(wanted.module).items():
        assert torch.equal(tensors[name], value), name
    assert found.encodings.keys() == wanted.encodings.keys()
    for name, encoding in wanted.encodings.items():
        assert isinstance(found.encodings[name], Blocks)
        parts = found.encodings[name].tensors()
        assert parts.keys() == encoding.tensors().keys()
        assert all(torch.equal(parts[part], value) for part, value in encoding.tensors().items())


@pytest.mark.parametrize("coder", ["auto", *CODERS])
def test_they_come_back_bit_for_bit(tmp_path: Path, coder: str) -> None:
    network = blocked()
    write_nwk(network.replaced(delivery={"nwk": {"coder": coder}}), tmp_path / "a.nwk")
    assert_same(read_nwk(tmp_path / "a.nwk"), network)
    save_network(network, tmp_path / "a.safetensors")
    assert_same(load_network(tmp_path / "a.safetensors"), network)


def test_a_weight_takes_half_a_byte_and_its_share_of_the_steps() -> None:
    network = blocked()
    sizes = encode(network, "auto").tensors
    assert sizes["f1.weight"] < 300 * 40 / 2 + 300 * 2 * 4 + 100
    assert sizes["f2.weight"] < 100 * 300 / 2 + 100 * 5 * (4 + 0.5) + 100


def test_the_bytes_are_pinned() -> None:
    network = zoo_network("lenet300", {"features": 20, "classes": 3}, seed=0).replaced(provenance=())
    with torch.no_grad():
        for name, parameter in network.module.named_parameters():
            levels = torch.arange(parameter.numel()).remainder(11) - 5
            parameter.copy_(levels.reshape(parameter.shape) * 0.5)
            if parameter.dim() == 2:
                shape = (len(parameter), -(-parameter.shape[1] // 16))
                zero = torch.full(shape, 7, dtype=torch.uint8) if name == "f2.weight" else None
                network = network.replaced(
                    encodings={**network.encodings, name: Blocks(torch.full(shape, 0.5), 16, zero)}
                )
    assert hashlib.sha256(split(encode(network, "range").file)[1]).hexdigest() == GOLDEN_DATA


SMALL = encode(blocked(), "range").file


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_altered_data_with_a_fitting_checksum_is_refused_or_blocks(data: st.DataObject) -> None:
    description, body = split(SMALL)
    altered = bytearray(body)
    for _ in range(data.draw(st.integers(1, 3))):
        altered[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        container = read_container(join(description, bytes(altered)))
    except IntakeError:
        return
    for tensor in container.tensors:
        if tensor.kind == "blocks":
            parts = {part: torch.from_numpy(value.copy()) for part, value in tensor.parts.items()}
            try:
                blocks = Blocks.read(parts, torch.Size(tensor.values.shape))
            except ValueError:
                continue
            values = torch.from_numpy(tensor.values.copy())
            if bool(torch.isfinite(values).all() & (blocks.step.abs() > 1e-30).all()):
                assert torch.equal(blocks.value(values), values)


def edited(place: int, value: Any, name: str = "f1.weight") -> bytes:
    description, body = split(SMALL)
    document = json.loads(unpack(description))
    next(entry for entry in document["tensors"] if entry[0] == name)[place] = value
    return join(pack(json.dumps(document)), body)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (1, "grid"), (2, "float16"), (2, "float64"), (3, [300, 40, 1]), (3, [12000]), (3, [40, 300]),
        (3, [300, 2**31 - 1]), (4, 33), (4, 0), (4, 8), (4, 32.0), (4, True), (4, 64), (5, True), (5, 0), (5, None),
    ],
)  # fmt: skip
def test_a_head_that_lies_is_refused(tmp_path: Path, place: int, value: Any) -> None:
    (tmp_path / "a.nwk").write_bytes(edited(place, value))
    with pytest.raises(IntakeError):
        read_nwk(tmp_path / "a.nwk")


STEP, ZERO, SIZE = (f"encodings/f2.weight/{part}" for part in ("step", "zero", "size"))


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        (STEP, torch.zeros(100, 5)), (STEP, torch.full((100, 5), torch.inf)), (STEP, torch.ones(100, 4)),
        (STEP, torch.ones(100, 5).double()), (STEP, None), (ZERO, torch.full((100, 5), 16, dtype=torch.uint8)),
        (ZERO, torch.zeros(100, 4, dtype=torch.uint8)), (ZERO, torch.zeros(100, 5, dtype=torch.int64)),
        (SIZE, torch.tensor(32)), (SIZE, torch.tensor(0)), (SIZE, torch.tensor(-64)), (SIZE, torch.tensor([64])),
        (SIZE, torch.tensor(2**40)), (SIZE, None),
    ],
)  # fmt: skip
def test_parts_that_do_not_fit_are_refused(tmp_path: Path, name: str, tensor: torch.Tensor | None) -> None:
    save_network(blocked(), tmp_path / "a.safetensors")
    tensors, metadata = read_tensors(tmp_path / "a.safetensors")
    tensors.pop(name)
    if tensor is not None:
        tensors[name] = tensor
    write_tensors(tensors, tmp_path / "b.safetensors", metadata["niwaki"])
    with pytest.raises(IntakeError) as fault:
        load_network(tmp_path / "b.safetensors")
    assert fault.value.where == "f2.weight"


GOLDEN_DATA = "3981239294360f634e7f0ebf6cc8d4b99b42d52b86649c3b1101997f1de83cfa"
