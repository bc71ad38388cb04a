"""An `.onnx` file holds codebooks and grids as small integers: it runs, is smaller, costs no time, and comes back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

from compression.encodings import BFloat16, Codebook, Encoding, Float16, Grid, Mask
from compression.export.onnx import write_onnx
from compression.export.onnx_bits import unpacking, width_of
from compression.export.onnx_encodings import encode_parameters
from compression.export.writers import compare_file, export_network
from compression.intake.model import read_model
from compression.network import Network
from compression.verify import check_equal
from compression.zoo.catalog import zoo_network
from tests.engine.nets import network_of

BIG = "hidden.weight"


class Net(nn.Module):
    """A convolution with a norm behind it, which the exporter folds, and linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 16, 5), nn.BatchNorm2d(16)
        self.hidden, self.head = nn.Linear(16 * 16, 40), nn.Linear(40, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        return self.head(torch.relu(self.hidden(torch.flatten(x, 1))))


def codes(*shape: int, low: int = 0, count: int = 16) -> Tensor:
    return torch.randint(low, count, shape, generator=torch.Generator().manual_seed(1))


ROWS = torch.arange(40) // 10
STEPS = torch.rand(40, generator=torch.Generator().manual_seed(3)) * 0.01 + 0.001
CASES: dict[str, dict[str, Encoding]] = {
    "codebook": {BIG: Codebook(codes(40, 256))},
    "codebook with zeros": {BIG: Codebook(codes(40, 256, low=-1))},
    "codebooks by row": {BIG: Codebook(codes(40, 256, low=-1), ROWS)},
    "codebook of 16 bits": {BIG: Codebook(codes(40, 256, count=1000))},
    "grid": {BIG: Grid(torch.tensor(0.004), -8, 7)},
    "grid by row": {BIG: Grid(STEPS, -100, 100)},
    "grid of 16 bits": {BIG: Grid(torch.tensor(1e-4), -3000, 3000)},
    "4 bits": {BIG: Codebook(codes(40, 256))},
    "2 bits": {BIG: Codebook(codes(40, 256, low=-1, count=2))},
    "2 bits by row": {BIG: Codebook(codes(40, 256, low=-1, count=2), torch.arange(40))},
    "1 bit by row": {BIG: Codebook(codes(40, 256, count=2), torch.arange(40))},
    "2 bits of a grid": {BIG: Grid(torch.tensor(0.02), -1, 1)},
    "4 bits of a grid by row": {BIG: Grid(STEPS, -8, 7)},
    "float16": {BIG: Float16()},
    "bfloat16 behind a folded norm": {"conv.weight": BFloat16(), BIG: BFloat16()},
    "behind a folded norm": {"conv.weight": Codebook(codes(16, 1, 5, 5)), BIG: Mask(codes(40, 256) > 7)},
    "a grid behind a folded norm": {"conv.weight": Grid(torch.tensor(0.01), -50, 50)},
}


def encoded(encodings: dict[str, Encoding]) -> Network:
    network = network_of(Net(), 1, 8, 8).replaced(encodings=encodings)
    network.project()
    return network


def write(network: Network, path: Path, *, plainly: bool = False) -> dict[str, str]:
    return write_onnx(
        network.module, network.signature, network.example(2), path, None if plainly else network.encodings
    )


@pytest.mark.parametrize("name", CASES)
def test_the_file_is_smaller_runs_and_comes_back(name: str, tmp_path: Path) -> None:
    network = encoded(CASES[name])
    write(network, tmp_path / "plain.onnx", plainly=True)
    assert write(network, tmp_path / "net.onnx") == {}
    compare_file(network, "full", tmp_path / "net.onnx")
    coded = [network.module.get_parameter(key) for key, entry in network.encodings.items() if entry.kind != "mask"]
    bits = 16 if "16" in name else int(name[0]) if name[0].isdigit() else 8
    tables = 4800 if "16 bits" in name else 1700 if bits < 8 else 800  # and the nodes
    saved = sum(value.numel() for value in coded) * (4 - bits / 8) - tables
    assert (tmp_path / "net.onnx").stat().st_size < (tmp_path / "plain.onnx").stat().st_size - saved
    again = read_model(tmp_path / "net.onnx", None)
    assert isinstance(again, Network)
    assert set(dict(again.module.named_parameters())) == set(
        dict(_imported(tmp_path / "plain.onnx").module.named_parameters())
    )
    check_equal(again, network, what="reading it back")
    if "norm" not in name:
        assert torch.equal(again.module.get_parameter(BIG), network.module.get_parameter(BIG))


def _imported(path: Path) -> Network:
    network = read_model(path, None)
    assert isinstance(network, Network)
    return network


@pytest.mark.parametrize("name", CASES)
def test_onnx_runtime_computes_the_weights_once(name: str, tmp_path: Path) -> None:
    """What it runs, after its own optimisation, is what it runs for plain weights, and gives the same numbers."""
    network = encoded(CASES[name])
    operators, outputs = [], []
    for plainly in (True, False):
        write(network, tmp_path / "net.onnx", plainly=plainly)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        session = onnxruntime.InferenceSession(tmp_path / "net.onnx", options, providers=["CPUExecutionProvider"])
        operators.append([node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node])
        outputs.append(session.run(None, {"x": network.example(3)[0].numpy()})[0])
    assert operators[0] == operators[1]
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 7), (4, 4, 2, 2), (1, 1), (5, 0)])
@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 1), (0, 3), (-8, 7), (5, 5), (-3, 20)])
def test_integers_of_few_bits_are_taken_apart_again(shape: tuple[int, ...], low: int, high: int) -> None:
    """Against numpy, by the operators' own reference implementation."""
    integers = np.random.default_rng(0).integers(low, high + 1, shape)
    integers.flat[:2] = (low, high)[: integers.size]
    width = width_of(integers)
    if not integers.size or high - low > 15:
        assert width == (None if integers.size > 1 and high - low > 15 else 1)
        return
    assert width == next(bits for bits in (1, 2, 4) if int(np.ptp(integers)) < 2**bits)
    nodes, tensors = unpacking("w", integers, width, "out")
    assert len(tensors[0].raw_data) == -(-integers.size * width // 8)
    out = onnx.helper.make_tensor_value_info("out", TensorProto.INT32, shape)
    graph = onnx.helper.make_graph(nodes, "g", [], [out], tensors)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    (found,) = ReferenceEvaluator(model).run(None, {})
    np.testing.assert_array_equal(found, integers)
    assert found.dtype == np.int32


def test_matrices_that_the_exporter_transposes_are_found(tmp_path: Path) -> None:
    small = {"in_channels": 1, "height": 12, "width": 8, "embedding": 24, "depth": 1, "heads": 3, "hidden": 48}
    network = zoo_network("vit-tiny", small, seed=0)
    encodings: dict[str, Encoding] = {
        "blocks.0.attn.qkv.weight": Grid(STEPS.repeat(2)[:72], -20, 20),
        "blocks.0.mlp.fc1.weight": Codebook(codes(48, 24), torch.arange(48) // 24),
        "blocks.0.mlp.fc2.weight": Float16(),
    }
    network = network.replaced(encodings=encodings)
    network.project()
    assert write(network, tmp_path / "net.onnx") == {}
    compare_file(network, "full", tmp_path / "net.onnx")


def test_two_transposed_matrices_of_the_same_numbers_are_both_written(tmp_path: Path) -> None:
    small = {"in_channels": 1, "height": 12, "width": 8, "embedding": 24, "depth": 2, "heads": 3, "hidden": 48}
    network = zoo_network("vit-tiny", small, seed=0)
    names = [f"blocks.{block}.mlp.fc1.weight" for block in range(2)]
    with torch.no_grad():
        for name in names:
            network.module.get_parameter(name).zero_()  # as strong pressure on the rate leaves them
    network = network.replaced(encodings={name: Grid(torch.tensor(0.01), -7, 7) for name in names})
    plain = write(network, tmp_path / "net.onnx")
    assert set(plain.values()) <= {"the exporter made another tensor of it"}
    compare_file(network, "full", tmp_path / "net.onnx")


def test_what_stays_plain_is_named_with_the_reason(tmp_path: Path) -> None:
    network = encoded({"head.bias": Grid(torch.tensor(0.01), -8, 7), BIG: Grid(torch.tensor(1e-7), -(2**22), 2**22)})
    assert write(network, tmp_path / "net.onnx") == {
        "head.bias": "it takes no more bytes as it is",
        BIG: "its integers need more than 16 bits",
    }
    compare_file(network, "full", tmp_path / "net.onnx")


def test_a_weight_that_the_exporter_changed_is_left_and_named(tmp_path: Path) -> None:
    network = encoded({BIG: Codebook(codes(40, 256))})
    write(network, tmp_path / "net.onnx", plainly=True)
    model = onnx.load(tmp_path / "net.onnx")
    stored = next(entry for entry in model.graph.initializer if entry.name == BIG)
    changed = numpy_helper.to_array(stored) + np.eye(40, 256, dtype=np.float32) * 0.01
    stored.CopyFrom(numpy_helper.from_array(changed, BIG))
    before = model.SerializeToString(deterministic=True)
    plain = encode_parameters(model, dict(network.module.named_parameters()), network.encodings)
    assert plain == {BIG: "the exporter made another tensor of it"}
    assert model.SerializeToString(deterministic=True) == before


def test_an_exported_file_says_what_stayed_plain(tmp_path: Path) -> None:
    network = encoded({"head.bias": Grid(torch.tensor(0.01), -8, 7), BIG: Grid(torch.tensor(0.004), -8, 7)})
    (file,) = export_network(network, ["onnx"], tmp_path)
    assert file.plain == {"head.bias": "it takes no more bytes as it is"}
