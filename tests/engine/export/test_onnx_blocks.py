"""Blocks of four bits in an `.onnx` file: ONNX Runtime multiplies with them packed, and they come back as they were."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from compression.encodings import Blocks
from compression.errors import IntakeError
from compression.export.onnx import write_onnx
from compression.export.writers import compare_file, export_network
from compression.intake.model import read_model
from compression.network import Network
from compression.opaque import OpaqueOnnx
from compression.quantization.blocks import blocks_for
from compression.verify import check_equal
from compression.zoo.catalog import zoo_network
from tests.engine.nets import network_of

SMALL = {"in_channels": 1, "height": 12, "width": 8, "embedding": 40, "depth": 2, "heads": 2, "hidden": 72}


class Perceptron(nn.Module):
    """Gemm with and without a bias; a batch norm that the exporter folds; a last block of each row cut short."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.norm = nn.Linear(100, 96), nn.BatchNorm1d(96)
        self.square, self.head = nn.Linear(96, 96, bias=False), nn.Linear(96, 33)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.square(torch.relu(self.norm(self.wide(x))))))


def blocked(network: Network, size: int, *, zeros: bool) -> Network:
    weights = {name: value for name, value in network.module.named_parameters() if value.dim() == 2}
    encodings = {name: blocks_for(value, size, zeros=zeros) for name, value in weights.items()}
    network = network.replaced(encodings=encodings)
    network.project()
    return network


NETWORKS: dict[str, Callable[[], Network]] = {
    "perceptron": lambda: network_of(Perceptron(), 100),
    "transformer": lambda: zoo_network("vit-tiny", SMALL, seed=0),
}


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("size", [16, 64])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_file_computes_what_the_network_does_and_comes_back(
    name: str, size: int, zeros: bool, tmp_path: Path
) -> None:
    network = blocked(NETWORKS[name](), size, zeros=zeros)
    (file,) = export_network(network, ["onnx"], tmp_path)  # compared at two batch sizes, to 1e-5
    assert file.plain == {}
    path = tmp_path / "model.onnx"
    model = onnx.load(path)
    packed = [node for node in model.graph.node if node.op_type == "MatMulNBits"]
    assert len(packed) == len(network.encodings)
    assert not {"MatMul", "Gemm"} & {node.op_type for node in model.graph.node if set(node.input) & _stored(model)}
    again = read_model(path)
    assert isinstance(again, Network)
    check_equal(again, network, what="reading it back")
    found = dict(again.encodings)
    assert len(found) == len(network.encodings)
    for weight, encoding in network.encodings.items():
        back = found[weight] if weight in found else _same_levels(found, encoding)
        assert isinstance(back, Blocks)
        assert isinstance(encoding, Blocks)
        assert back.size == size
        if weight != "wide.weight":  # the norm is in it
            assert torch.equal(back.step, encoding.step)
        assert (back.zero is None) == (not zeros)
        assert encoding.zero is None or (back.zero is not None and torch.equal(back.zero, encoding.zero))
    (once_more,) = export_network(again, ["onnx"], tmp_path, stem="again")
    assert once_more.plain == {}


def _stored(model: onnx.ModelProto) -> set[str]:
    return {entry.name for entry in model.graph.initializer if len(entry.dims) == 2}


def _same_levels(found: dict[str, Any], encoding: Any) -> Any:
    return next(entry for entry in found.values() if torch.equal(entry.step, encoding.step))


def test_it_is_a_seventh_of_the_floats(tmp_path: Path) -> None:
    network = network_of(nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 512)), 512)
    (plain,) = export_network(network, ["onnx"], tmp_path, stem="plain")
    (packed,) = export_network(blocked(network, 32, zeros=False), ["onnx"], tmp_path)
    # Four bits and a step of 32 for 32 weights are five bits a weight.
    assert 6.2 < plain.bytes / packed.bytes < 6.4
    (larger,) = export_network(blocked(network, 128, zeros=False), ["onnx"], tmp_path)
    assert 7.3 < plain.bytes / larger.bytes < 7.53


def test_layers_keep_their_names_and_activations_stay_floats(tmp_path: Path) -> None:
    network = blocked(network_of(Perceptron(), 100), 32, zeros=False)
    write_onnx(network.module, network.signature, network.example(2), tmp_path / "net.onnx", network.encodings)
    model = onnx.load(tmp_path / "net.onnx")
    named = {node.name: node for node in model.graph.node}
    assert named["wide"].op_type == named["head"].op_type == "MatMulNBits"
    assert named["head/Add"].op_type == "Add"
    for node in model.graph.node:
        if node.op_type == "MatMulNBits":
            assert {attribute.name: attribute.i for attribute in node.attribute}["accuracy_level"] == 1


def test_a_weight_that_something_else_uses_too_stays_plain(tmp_path: Path) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = nn.Linear(64, 64, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.hidden(x) + torch.matmul(x, self.hidden.weight)

    network = blocked(network_of(Twice(), 64), 16, zeros=False)
    (file,) = export_network(network, ["onnx"], tmp_path)
    assert file.plain == {"hidden.weight": "something else than a product uses it"}
    tiny = blocked(network_of(nn.Sequential(nn.Linear(4, 2)), 4), 256, zeros=False)
    (file,) = export_network(tiny, ["onnx"], tmp_path)
    assert file.plain == {"0.weight": "it takes no more bytes as it is"}


def packed_model(**changes: Any) -> onnx.ModelProto:
    """One product of 40 inputs with 6 rows of blocks of 16, with zeros; `changes` replace its parts and attributes."""
    random = np.random.default_rng(0)
    parts: dict[str, Any] = {
        "codes": random.integers(0, 256, (6, 3, 8)).astype(np.uint8),
        "steps": random.normal(size=(6, 3)).astype(np.float32),
        "zeros": random.integers(0, 256, (6, 2)).astype(np.uint8),
    }
    given: dict[str, Any] = {"K": 40, "N": 6, "bits": 4, "block_size": 16}
    for name, value in changes.items():
        (parts if name in parts else given)[name] = value
    given = {name: value for name, value in given.items() if value is not None}
    node = helper.make_node(
        "MatMulNBits", ["x", *(f"w/{name}" for name in parts)], ["y"], "product", domain="com.microsoft", **given
    )
    graph = helper.make_graph(
        [node],
        "graph",
        [helper.make_tensor_value_info("x", 1, ["n", 40])],
        [helper.make_tensor_value_info("y", 1, ["n", 6])],
        [numpy_helper.from_array(value, f"w/{name}") for name, value in parts.items() if value is not None],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def test_a_file_of_another_writer_is_read_by_the_formula(tmp_path: Path) -> None:
    """Steps and zeros as flat vectors, as ONNX Runtime's own quantizer writes them; level 0: nothing said."""
    model = packed_model()
    for tensor in model.graph.initializer[1:]:
        tensor.dims[:] = [int(np.prod(tensor.dims))]
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    network = read_model(tmp_path / "a.onnx")
    assert isinstance(network, Network)
    codes, steps, zeros = (numpy_helper.to_array(tensor) for tensor in model.graph.initializer)
    ((name, weight),) = network.module.state_dict().items()
    for row in range(6):
        for column in range(40):
            block, place = divmod(column, 16)
            code = codes[row, block, place // 2] >> 4 * (place % 2) & 15
            zero = zeros[2 * row + block // 2] >> 4 * (block % 2) & 15
            assert float(weight[row, column]) == np.float32(int(code) - int(zero)) * steps[3 * row + block]
    assert isinstance(network.encodings[name], Blocks)


def test_with_activations_in_eight_bits_it_only_runs(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(packed_model(accuracy_level=4).SerializeToString())
    model = read_model(tmp_path / "a.onnx")
    assert isinstance(model, OpaqueOnnx)
    x = np.random.default_rng(0).normal(size=(3, 40)).astype(np.float32)
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(model.run({"x": x})["y"], session.run(None, {"x": x})[0])


LIES: dict[str, dict[str, Any]] = {
    "more columns than codes": {"K": 4000},
    "more rows than codes": {"N": 600},
    "no rows": {"N": 0},
    "a negative length": {"K": -40},
    "an absurd length": {"N": 2**40},
    "blocks of other sizes": {"block_size": 32},
    "blocks of one": {"block_size": 1},
    "two bits": {"bits": 2},
    "eight bits": {"bits": 8},
    "a layout of a GPU's": {"weight_prepacked": 1},
    "an accuracy that nobody knows": {"accuracy_level": 7},
    "an attribute of text": {"K": "40"},
    "no block size": {"block_size": None},
    "no codes": {"codes": np.zeros((0, 3, 8), np.uint8)},
    "codes that aren't stored": {"codes": None},
    "steps that aren't stored": {"steps": None},
    "too few steps": {"steps": np.ones((6, 2), np.float32)},
    "steps of another type": {"steps": np.ones((6, 3), np.float64)},
    "zeros as floats": {"zeros": np.ones((6, 3), np.float32)},
    "too few zeros": {"zeros": np.zeros((6, 1), np.uint8)},
}


@pytest.mark.parametrize("name", LIES)
def test_what_does_not_fit_is_refused_before_it_runs(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(packed_model(**LIES[name]).SerializeToString())
    with pytest.raises(IntakeError) as fault:
        read_model(tmp_path / "a.onnx")
    assert fault.value.where == "product"


def test_parts_that_an_input_may_replace_are_refused(tmp_path: Path) -> None:
    model = packed_model()
    model.graph.input.append(helper.make_tensor_value_info("w/codes", 2, [6, 3, 8]))
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(IntakeError, match="stored") as fault:
        read_model(tmp_path / "a.onnx")
    assert fault.value.where == "product"


def test_other_operators_of_the_domain_stay_refused(tmp_path: Path) -> None:
    for operator in ("Gelu", "MatMulNBits2", "MatMulFpQ4"):
        model = packed_model()
        model.graph.node[0].op_type = operator
        (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(IntakeError, match="standard domain"):
            read_model(tmp_path / "a.onnx")


def test_products_of_one_packed_matrix_are_one_layer(tmp_path: Path) -> None:
    network = blocked(network_of(_Shared(), 64), 16, zeros=False)
    assert compare_file(network, "full", _exported(network, tmp_path)) < 1e-5
    again = read_model(tmp_path / "model.onnx")
    assert isinstance(again, Network)
    assert len([name for name, value in again.module.named_parameters() if value.dim() == 2]) == 1


class _Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.relu(self.layer(x)))


def _exported(network: Network, folder: Path) -> Path:
    export_network(network, ["onnx"], folder)
    return folder / "model.onnx"
