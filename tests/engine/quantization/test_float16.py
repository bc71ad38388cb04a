"""`quantize.float16`: rounding against numpy, what files hold, and what is told of what doesn't fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from compression.container.file import read_container
from compression.container.network import encode, read_nwk
from compression.encodings import BFloat16, Codebook, Float16, Half, Mask
from compression.errors import IntakeError, MethodError, SpecError, VerificationError
from compression.export.writers import export_network
from compression.intake.model import read_model
from compression.intake.tensors import read_tensors, write_tensors
from compression.intake.weights import load_network, save_network
from compression.methods.quantize.float16 import QuantizeFloat16, apply, check
from compression.network import Network
from compression.quantization.codebook import clustered
from compression.quantization.float16 import shortened
from compression.zoo.catalog import zoo_network
from tests.engine.quantization.test_codebook import chain, run
from tests.engine.training.test_loop import context_for

SHORT = [f"{layer}.{part}" for layer in ("conv1", "hidden", "head") for part in ("weight", "bias")] + ["conv2.weight"]
NUMPY = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
DTYPES = pytest.mark.parametrize("dtype", NUMPY)


def made(dtype: str, network: Network | None = None) -> Network:
    return shortened(network or chain(), SHORT, getattr(torch, dtype))[0]


def masked(network: Network) -> Network:
    keep = torch.rand(20, 48, generator=torch.Generator().manual_seed(0)) > 0.6
    network = network.replaced(encodings={"hidden.weight": Mask(keep)})
    network.project()
    return network


@DTYPES
def test_values_are_rounded_as_numpy_rounds_them(dtype: str) -> None:
    for encoding in (Float16(), BFloat16()):
        numbers = torch.randn(4000, generator=torch.Generator().manual_seed(0)) * torch.logspace(-9, 4, 4000)
        if encoding.kind == dtype:
            wanted = numbers.numpy().astype(NUMPY[dtype]).astype(np.float32)
            np.testing.assert_array_equal(encoding.value(numbers).numpy(), wanted)


@DTYPES
def test_weights_and_biases_are_short_and_norms_are_not(dtype: str, tmp_path: Path) -> None:
    result = apply(chain(), QuantizeFloat16(dtype=dtype), context_for(tmp_path, chain()))
    assert set(result.network.encodings) == set(SHORT) == set(result.facts["parameters"])
    for name, before in chain().module.named_parameters():
        after = result.network.module.get_parameter(name).detach().numpy()
        short = before.detach().numpy().astype(NUMPY[dtype]).astype(np.float32)
        np.testing.assert_array_equal(after, short if name in SHORT else before.detach().numpy())
        if name in SHORT:
            noise = (after.astype(np.float64) - before.detach().numpy()) ** 2
            decibels = 10 * np.log10((before.detach().numpy().astype(np.float64) ** 2).sum() / noise.sum())
            assert result.facts["parameters"][name]["sqnr_db"] == pytest.approx(float(decibels), abs=0.01)


def test_gradients_pass_straight_through_but_not_beyond_the_largest_number() -> None:
    free = torch.tensor([1.0001, -3.0, 70000.0, -70000.0], requires_grad=True)
    value = Float16(torch.tensor([True, False, True, True])).value(free)
    value.backward(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert value.tolist() == [1.0, 0.0, 65504.0, -65504.0]
    assert free.grad is not None
    assert free.grad.tolist() == [1.0, 0.0, 0.0, 0.0]


@DTYPES
def test_what_is_too_large_is_refused_by_name(dtype: str) -> None:
    network = chain()
    with torch.no_grad():
        network.module.get_parameter("hidden.weight")[3, 4] = {"float16": 65520.0, "bfloat16": 3.4e38}[dtype]
    with pytest.raises(MethodError, match="1 entries are beyond") as fault:
        made(dtype, network)
    assert fault.value.where == "hidden.weight"
    with torch.no_grad():
        network.module.get_parameter("hidden.weight")[3, 4] = 65519.0
    assert float(made("float16", network).module.get_parameter("hidden.weight")[3, 4].detach()) == 65504


def test_what_becomes_zero_or_subnormal_is_told() -> None:
    network = chain()
    with torch.no_grad():
        network.module.get_parameter("head.weight")[0, :5] = torch.tensor([2e-8, -2e-8, 2.9e-8, 4e-8, 6e-5])
        network.module.get_parameter("head.weight")[0, 5] = 0
    facts = shortened(network, SHORT, torch.float16)[1]
    assert (facts["head.weight"]["became_zero"], facts["head.weight"]["subnormal"]) == (3, 2)
    assert set(shortened(network, SHORT, torch.bfloat16)[1]["head.weight"]) == {"sqnr_db"}


@DTYPES
@pytest.mark.parametrize("sparse", [False, True])
def test_every_file_holds_it_in_half_the_bytes_and_exactly(dtype: str, sparse: bool, tmp_path: Path) -> None:
    plain = zoo_network("lenet300", {"features": 48, "classes": 5}, seed=0).replaced(provenance=())
    keep = torch.rand(300, 48, generator=torch.Generator().manual_seed(0)) > 0.6
    plain = plain.replaced(encodings={"f1.weight": Mask(keep)} if sparse else {})
    plain.project()
    names = [name for name, _ in plain.module.named_parameters()]
    short = shortened(plain, names, getattr(torch, dtype))[0]
    weights = sum(value.numel() for value in plain.module.parameters())
    sizes = {}
    for kind, network in (("plain", plain), ("short", short)):
        folder = tmp_path / kind
        folder.mkdir()
        exported = export_network(network, ["onnx", "nwk", "safetensors"], folder)  # which compares every tensor
        sizes[kind] = {file.format: file.bytes for file in exported}
        assert set(exported[0].plain) <= {"f3.bias"}
    for form in ("onnx", "safetensors"):
        assert sizes["plain"][form] - sizes["short"][form] > 2 * weights - 3000
    assert sizes["short"]["nwk"] < 0.6 * sizes["plain"]["nwk"]
    for form in ("nwk", "safetensors"):
        again = read_model(tmp_path / "short" / f"model.{form}", None)
        assert isinstance(again, Network)
        for name, value in short.module.named_parameters():
            assert torch.equal(again.module.get_parameter(name), value)
            encoding = again.encodings[name]
            assert isinstance(encoding, Half)
            assert encoding.kind == dtype
            assert (encoding.keep is not None) == (sparse and name == "f1.weight")
    assert encode(again).file == encode(short).file


@DTYPES
def test_onnx_runtime_widens_once_and_the_file_comes_back(dtype: str, tmp_path: Path) -> None:
    network = made(dtype)
    export_network(network, ["onnx"], tmp_path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(tmp_path / "model.onnx", options, providers=["CPUExecutionProvider"])
    assert "Cast" in [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    assert "Cast" not in [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    again = read_model(tmp_path / "model.onnx", None)
    assert isinstance(again, Network)
    assert torch.equal(again.module.get_parameter("hidden.weight"), network.module.get_parameter("hidden.weight"))


def test_a_network_that_computes_in_float16_is_not_taken_for_one_that_stores_it(tmp_path: Path) -> None:
    helper, half = onnx.helper, onnx.TensorProto.FLOAT16
    shape = ["batch", 3]
    nodes = [
        helper.make_node("Cast", ["x"], ["short"], to=half),
        helper.make_node("Mul", ["short", "w"], ["product"], "scaled"),
        helper.make_node("Cast", ["product"], ["y"], to=onnx.TensorProto.FLOAT),
    ]
    inputs, outputs = ([helper.make_tensor_value_info(name, 1, shape)] for name in "xy")
    weights = [onnx.numpy_helper.from_array(np.ones(3, np.float16), "w")]
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "m.onnx")
    assert not isinstance(read_model(tmp_path / "m.onnx", None), Network)


def test_a_mask_stays_and_shared_values_are_left(tmp_path: Path) -> None:
    network = masked(chain())
    coded = clustered(network, {"conv2.weight": 3}, None)[0]
    assert "conv2.weight: it has a codebook" in check(coded).details
    spec = QuantizeFloat16.model_validate({"finetune": {"epochs": 1}})
    result = apply(coded, spec, context_for(tmp_path, coded))
    assert result.facts["left_in_fewer_bits"] == ["conv2.weight"]
    assert isinstance(result.network.encodings["conv2.weight"], Codebook)
    hidden = result.network.module.get_parameter("hidden.weight").detach()
    assert torch.equal(hidden == 0, network.module.get_parameter("hidden.weight") == 0)
    assert torch.equal(hidden.half().float(), hidden)
    assert result.facts["training"]["best_epoch"] > 0
    every = clustered(chain(), dict.fromkeys(["conv1.weight"], 3), None)[0]
    refused = QuantizeFloat16.model_validate({"layers": {"include": ["norm1"]}})
    with pytest.raises(SpecError) as fault:
        apply(every, refused, context_for(tmp_path / "b", every))
    assert fault.value.where == "/layers"


def test_a_cut_takes_the_mask_along_and_a_wrong_one_is_refused() -> None:
    keep = torch.arange(12).reshape(3, 4) % 2 == 0
    cut = Float16(keep).select(1, torch.tensor([0, 3]))
    assert cut.keep is not None
    assert cut.keep.tolist() == [[True, False]] * 3
    assert BFloat16().select(0, torch.tensor([1])).tensors() == {}
    for tensors, match in (({"keep": keep}, "shape"), ({"keep": keep.int()}, "type"), ({"other": keep}, "consists")):
        with pytest.raises(ValueError, match=match):
            BFloat16.read(tensors, torch.Size((4, 3)))


def test_a_file_in_another_type_is_refused_and_what_does_not_obey_is_not_written(tmp_path: Path) -> None:
    network = made("float16")
    save_network(network, tmp_path / "a.safetensors")
    tensors, metadata = read_tensors(tmp_path / "a.safetensors")
    assert tensors["hidden.weight"].dtype == torch.float16
    for wrong in (torch.float32, torch.bfloat16):
        changed = {**tensors, "hidden.weight": tensors["hidden.weight"].to(wrong)}
        write_tensors(changed, tmp_path / "b.safetensors", metadata["niwaki"])
        with pytest.raises(IntakeError, match="stored as"):
            load_network(tmp_path / "b.safetensors")
    write_tensors(tensors, tmp_path / "b.safetensors", metadata["niwaki"].replace('"float16"', '"float15"', 1))
    with pytest.raises(IntakeError, match="isn't known"):
        load_network(tmp_path / "b.safetensors")
    with torch.no_grad():
        network.module.get_parameter("hidden.weight").add_(1e-5)
    with pytest.raises(VerificationError, match="obey"):
        save_network(network, tmp_path / "b.safetensors")


@DTYPES
def test_odd_numbers_come_back_from_a_container(dtype: str, tmp_path: Path) -> None:
    network = zoo_network("lenet300", {"features": 6, "classes": 2}, seed=0)
    kind: type[Half] = Float16 if dtype == "float16" else BFloat16
    tiny = float(torch.finfo(kind.dtype).smallest_normal) / 2**4
    with torch.no_grad():
        largest = torch.finfo(kind.dtype).max
        network.module.get_parameter("f1.weight")[0] = torch.tensor([0.0, tiny, -tiny, largest, -largest, 1.0])
    network = network.replaced(encodings={"f1.weight": kind()})
    network.project()
    (tmp_path / "a.nwk").write_bytes(encode(network).file)
    assert torch.equal(
        read_nwk(tmp_path / "a.nwk").module.get_parameter("f1.weight"), network.module.get_parameter("f1.weight")
    )
    head = read_container(encode(network).file).tensors[0].head()
    assert head[1:3] == ["plain", dtype]


def test_pruned_shortened_trained_coded(tmp_path: Path) -> None:
    steps: list[dict[str, Any]] = [
        {"method": "prune.weights", "sparsity": 0.7, "rounds": 1, "finetune": None},
        {"method": "quantize.float16", "dtype": "bfloat16"},
        {"method": "finetune", "training": {"epochs": 1}},
        {"method": "encode"},
    ]
    network = run(steps, tmp_path).network
    weights = [network.module.get_parameter(name).detach() for name in SHORT if "weight" in name]
    assert sum(int((value == 0).sum()) for value in weights) == round(0.7 * sum(value.numel() for value in weights))
    assert all(torch.equal(value.bfloat16().float(), value) for value in weights)
