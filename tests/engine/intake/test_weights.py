"""`.safetensors`: Niwaki's own file there and back, weights for the zoo, and files that lie."""

import json
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from compression.encodings import Codebook, Mask
from compression.errors import IntakeError, SpecError
from compression.intake.model import read_model
from compression.intake.weights import load_network, save_network
from compression.network import Variant
from compression.zoo.catalog import build, zoo_network

LENET = {"architecture": "lenet300", "arguments": {"features": 20, "classes": 4}}


@pytest.fixture
def network():
    network = zoo_network("lenet300", {"features": 20, "classes": 4}, seed=0)
    weight = network.module.get_parameter("f1.weight")
    generator = torch.Generator().manual_seed(0)
    encodings = {
        "f1.weight": Mask(torch.rand(weight.shape, generator=generator) > 0.5),
        "f3.weight": Codebook(torch.randint(0, 4, (4, 100), generator=generator)),
    }
    steps = (*network.provenance, {"method": "prune.masks", "ratio": 0.5})
    return network.replaced(encodings=encodings, variants={"full": Variant((0,))}, provenance=steps)


@pytest.fixture
def saved(network, tmp_path):
    save_network(network, tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def test_a_network_comes_back_exactly(network, saved):
    back = load_network(saved)
    x = network.example(3)
    torch.testing.assert_close(back.module(*x), network.module(*x), rtol=0, atol=0)
    assert back.signature == network.signature
    assert back.variants == network.variants
    assert back.provenance == network.provenance
    assert torch.equal(back.encodings["f1.weight"].tensors()["keep"], network.encodings["f1.weight"].tensors()["keep"])
    assert torch.equal(
        back.encodings["f3.weight"].tensors()["codes"], network.encodings["f3.weight"].tensors()["codes"]
    )
    assert not back.module.training


def test_equal_networks_give_equal_bytes(saved, tmp_path):
    save_network(load_network(saved), tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == saved.read_bytes()


def test_a_delivered_file_is_a_model_and_a_state_dict(network, saved):
    assert read_model(saved).signature == network.signature
    tensors = {name: tensor for name, tensor in load_file(saved).items() if not name.startswith("encodings/")}
    module = build("lenet300", LENET["arguments"])
    module.load_state_dict(tensors)
    x = network.example(2)
    torch.testing.assert_close(module(*x), network.module(*x), rtol=0, atol=0)


def test_plain_weights_need_an_architecture(tmp_path):
    path = tmp_path / "w.safetensors"
    module = build("lenet300", LENET["arguments"])
    save_file(module.state_dict(), path)
    network = read_model(path, LENET)
    x = network.example(2)
    torch.testing.assert_close(module(*x), network.module(*x), rtol=0, atol=0)
    assert network.provenance[0]["architecture"] == "lenet300"
    with pytest.raises(IntakeError, match="architecture"):
        read_model(path)


def test_batch_norm_counters_may_be_absent_and_halves_are_widened(tmp_path):
    module = build("resnet20", {"channels": 2})
    state = {name: value.half() for name, value in module.state_dict().items() if "num_batches" not in name}
    save_file(state, tmp_path / "w.safetensors")
    network = read_model(tmp_path / "w.safetensors", {"architecture": "resnet20", "arguments": {"channels": 2}})
    weight = network.module.get_parameter("blocks.3.shortcut.0.weight")
    assert torch.equal(weight, state["blocks.3.shortcut.0.weight"].float())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("f2.bias"), "1 missing (f2.bias)"),
        (lambda s: s.update(zz=torch.zeros(1)), "1 unexpected (zz)"),
        (lambda s: s.update({"f2.bias": torch.zeros(7)}), "1 of another shape or type (f2.bias)"),
        (lambda s: s.update({"f2.bias": torch.zeros(100).double()}), "1 of another shape or type (f2.bias)"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path, change, words):
    state = build("lenet300", LENET["arguments"]).state_dict()
    change(state)
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(IntakeError) as caught:
        read_model(tmp_path / "w.safetensors", LENET)
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("architecture", "pointer"),
    [
        ({"architecture": "alexnet"}, "/architecture"),
        ({"architecture": 3}, "/architecture"),
        ({"architecture": "lenet300", "more": 1}, "/architecture"),
        ({"architecture": "lenet300", "arguments": {"features": 0}}, "/arguments/features"),
        ({"architecture": "lenet300", "arguments": {"depth": 3}}, "/arguments/depth"),
    ],
)
def test_an_architecture_that_is_wrong_is_told(saved, architecture, pointer):
    with pytest.raises(SpecError) as caught:
        read_model(saved, architecture)
    assert caught.value.where == pointer


def rewritten(path, edit):
    """The file with `edit(header)` applied to its header; its data as it was."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    text = edit(header)
    text = json.dumps(header) if text is None else text
    path.write_bytes(struct.pack("<Q", len(text.encode())) + text.encode() + data[8 + length :])
    return path


def edit_network(edit):
    def apply(header):
        document = json.loads(header["__metadata__"]["niwaki"])
        edit(document)
        header["__metadata__"]["niwaki"] = json.dumps(document)

    return apply


@pytest.mark.parametrize(
    "edit",
    [
        lambda d: d.update(format=2),
        lambda d: d.pop("graph"),
        lambda d: d["inputs"][0].update(shape=[2**40]),
        lambda d: d["inputs"][0].update(shape=[-1]),
        lambda d: d["inputs"][0].update(shape=[21]),
        lambda d: d["inputs"][0].update(dtype="int64"),
        lambda d: d["inputs"][0].update(name="y"),
        lambda d: d["outputs"].append("more"),
        lambda d: d["encodings"].pop("f1.weight"),
        lambda d: d["encodings"].update({"f1.weight": "codebook"}),
        lambda d: d["encodings"].update({"f2.weight": "mask"}),
        lambda d: d["variants"].update(full=[1]),
        lambda d: d["variants"].update(full=[]),
        lambda d: d["variants"].clear(),
    ],
)
def test_a_tampered_network_is_refused(saved, edit):
    with pytest.raises(IntakeError):
        load_network(rewritten(saved, edit_network(edit)))


def swap_offsets(header):
    header["f1.bias"]["data_offsets"] = header["f2.bias"]["data_offsets"]


@pytest.mark.parametrize(
    "edit",
    [
        swap_offsets,
        lambda h: h["f1.bias"].update(data_offsets=[0, 2**62]),
        lambda h: h["f1.bias"].update(data_offsets=[8, 4]),
        lambda h: h["f1.bias"].update(shape=[2**62, 2**62]),
        lambda h: h["f1.bias"].update(dtype="F4096"),
        lambda h: h["f1.bias"].update(dtype="C64"),
        lambda h: h.pop("f1.bias") and None,
        lambda h: h["__metadata__"].update(niwaki=3),
        lambda h: h["__metadata__"].update(niwaki="{"),
        lambda h: h["__metadata__"].update(niwaki="NaN"),
        lambda h: h.update(__metadata__=[]),
        lambda h: json.dumps(h)[:-1] + ', "f1.bias": ' + json.dumps(h["f2.bias"]) + "}",
        lambda _: "[" * 100_000,
        lambda _: "[]",
        lambda _: '{"a": NaN}',
    ],
)
def test_a_header_that_lies_is_refused(saved, edit):
    with pytest.raises(IntakeError):
        read_model(rewritten(saved, edit))


def test_every_truncation_is_refused(saved):
    data = saved.read_bytes()
    for length in {len(data) - 1, *range(9, len(data), len(data) // 30)}:
        saved.write_bytes(data[:length])
        with pytest.raises(IntakeError):
            read_model(saved)


def test_codes_out_of_range_are_refused(network, tmp_path):
    bad = network.replaced(encodings={"f3.weight": Codebook(torch.full((4, 100), 2**40))})
    save_network(bad, tmp_path / "bad.safetensors")
    with pytest.raises(IntakeError, match="range"):
        load_network(tmp_path / "bad.safetensors")
