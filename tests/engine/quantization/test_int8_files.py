"""The written files: what ONNX Runtime fuses of them, and their numbers against integer arithmetic in numpy and against
ONNX Runtime's own quantizer."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static
from torch import nn

from compression.export.onnx import write_onnx
from compression.measure.runtime import predict
from compression.quantization.int8.bias import shift
from compression.quantization.int8.calibrate import activations
from compression.quantization.int8.dynamic import dynamic_layers, write_dynamic
from compression.quantization.int8.graph import prepared
from compression.quantization.int8.placement import placement
from compression.quantization.int8.qdq import weights_of, write_static
from compression.quantization.int8.ranges import affine, range_of
from tests.engine.nets import network_of


class Net(nn.Module):
    """Convolutions with norms, ReLU and ReLU6, a depthwise one, sums of two, a concatenation, pools and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.one = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU6())
        self.two = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.BatchNorm2d(16))
        self.side, self.pool = nn.Conv2d(16, 8, 1), nn.MaxPool2d(2)
        self.relu, self.head = nn.ReLU(), nn.Linear(24, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = self.relu(x + self.two(self.one(x)))
        x = self.pool(torch.cat([x, self.relu(self.side(x))], 1))
        return self.head(torch.mean(x, [2, 3]))


@pytest.fixture(scope="module")
def net():
    return network_of(Net(), 3, 12, 12)


@pytest.fixture(scope="module")
def file(net, tmp_path_factory):
    path = tmp_path_factory.mktemp("int8") / "float.onnx"
    write_onnx(net.module, net.signature, net.example(2), path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def samples(net):
    return {"x": net.example(96, seed=1)[0].numpy()}


def static(file, samples, layers=None, correct=True):
    graph = prepared(file)
    chosen = list(graph.layers) if layers is None else layers
    where = placement(graph, chosen)
    seen = activations(graph, where.ranges, samples)
    ranges = {name: affine(*range_of(seen.histograms[name], "minmax")) for name in where.ranges}
    return write_static(graph, chosen, where, ranges, means=seen.means if correct else None)


def fused(file, tmp_path):
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)


def error(found, wanted):
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def test_a_residual_network_runs_in_integers_from_end_to_end(file, samples, tmp_path):
    operators = fused(static(file, samples), tmp_path)
    assert operators["QLinearConv"] == 4
    assert operators["QLinearAdd"] == 1
    assert operators["QLinearConcat"] == 1
    assert operators["QLinearGlobalAveragePool"] == 1
    assert operators["QGemm"] == 1
    assert operators["QuantizeLinear"] == 1  # the input
    assert operators["DequantizeLinear"] == 0
    for left in ("Conv", "FusedConv", "Add", "Relu", "Clip", "Concat", "Gemm"):
        assert left not in operators


def test_the_outputs_are_near_and_the_batch_stays_free(file, samples):
    quantized = static(file, samples)
    wanted = predict(file, samples)[0]
    assert error(predict(quantized, samples)[0], wanted) < 0.02
    one = predict(quantized, {"x": samples["x"][:1]})[0]
    np.testing.assert_allclose(one, predict(quantized, samples)[0][:1], atol=1e-6)
    assert len(quantized) < len(file)


class Reader(CalibrationDataReader):
    def __init__(self, values):
        self.batches = iter([{"x": values}])

    def get_next(self):
        return next(self.batches, None)


def test_no_worse_than_onnx_runtimes_own_recipe(file, samples, tmp_path):
    (tmp_path / "float.onnx").write_bytes(file)
    quantize_static(
        tmp_path / "float.onnx",
        tmp_path / "theirs.onnx",
        Reader(samples["x"]),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    wanted = predict(file, samples)[0]
    theirs = error(predict(tmp_path / "theirs.onnx", samples)[0], wanted)
    assert error(predict(static(file, samples), samples)[0], wanted) < 1.1 * theirs


def test_one_layer_against_integer_arithmetic(tmp_path):
    """Sums of bytes in int32, as numpy has them; the output is rounded to the level that the sum lies nearest to."""
    random = np.random.default_rng(0)
    module = nn.Sequential(nn.Conv2d(2, 5, 1), nn.Conv2d(5, 3, 1))
    net = network_of(module, 2, 4, 4)
    write_onnx(net.module, net.signature, net.example(2), tmp_path / "float.onnx")
    samples = {"x": random.normal(size=(6, 2, 4, 4)).astype(np.float32)}
    graph = prepared((tmp_path / "float.onnx").read_bytes())
    first = next(iter(graph.layers))
    where = placement(graph, [first])
    seen = activations(graph, where.ranges, samples)
    levels = {name: affine(*range_of(seen.histograms[name], "minmax")) for name in where.ranges}
    file = write_static(graph, [first], where, levels)
    layer = graph.layers[first]
    weights, given, made = weights_of(layer), levels["x"], levels[layer.node.output[0]]
    x = np.clip(np.rint(samples["x"] / given.scale) + given.zero_point, 0, 255).astype(np.int64) - given.zero_point
    sums = np.einsum("oi,nihw->nohw", weights.integers[:, :, 0, 0].astype(np.int64), x)
    steps = given.scale * weights.scale.astype(np.float64)
    sums = sums + np.rint(layer.bias / steps).astype(np.int64)[None, :, None, None]
    value = made.rounded(sums * steps[None, :, None, None])
    second = graph.layers[list(graph.layers)[1]]
    wanted = np.einsum("oi,nihw->nohw", second.weight[:, :, 0, 0], value) + second.bias[None, :, None, None]
    # A sum that lies between two levels may be rounded to the other one.
    slack = made.scale * np.abs(second.weight).sum() * 0.02
    found = predict(file, samples)[0]
    assert np.quantile(np.abs(found - wanted), 0.98) < 1e-4 + slack
    assert np.abs(found - wanted).max() <= made.scale * np.abs(second.weight[:, :, 0, 0]).sum(1).max() + 1e-4


@pytest.mark.parametrize("groups", [1, 2])
def test_bias_correction_takes_the_mean_shift_back(groups, tmp_path):
    """Of a 1 × 1 convolution the shift is exact: the mean of (W' − W) x over all samples, computed by torch."""
    net = network_of(nn.Sequential(nn.Conv2d(4, 6, 1, groups=groups)), 4, 5, 5)
    write_onnx(net.module, net.signature, net.example(2), tmp_path / "float.onnx")
    x = np.random.default_rng(0).uniform(0, 3, (40, 4, 5, 5)).astype(np.float32)
    graph = prepared((tmp_path / "float.onnx").read_bytes())
    (layer,) = graph.layers.values()
    means = activations(graph, [], {"x": x}).means[layer.name]
    np.testing.assert_allclose(means, x.mean((0, 2, 3)), rtol=1e-5)
    coarse = weights_of(layer, high=3).rounded(0)
    change = torch.from_numpy(coarse - layer.weight)
    wanted = torch.nn.functional.conv2d(torch.from_numpy(x).double(), change, groups=groups).mean((0, 2, 3))
    np.testing.assert_allclose(shift(layer, coarse, means), wanted.numpy(), rtol=1e-4, atol=1e-6)
    where = placement(graph, [layer.name])
    seen = activations(graph, where.ranges, {"x": x})
    levels = {name: affine(*range_of(seen.histograms[name], "minmax")) for name in where.ranges}
    float_means = predict((tmp_path / "float.onnx").read_bytes(), {"x": x})[0].mean((0, 2, 3))
    off = {}
    for given in (None, seen.means):
        file = write_static(graph, [layer.name], where, levels, high=7, means=given)
        off[given is None] = np.abs(predict(file, {"x": x})[0].mean((0, 2, 3)) - float_means).max()
    assert off[False] < 0.1 * off[True]


def test_dynamic_products_are_those_of_onnx_runtimes_own_quantizer(tmp_path):
    net = network_of(nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 6)), 7, 12)
    write_onnx(net.module, net.signature, net.example(2), tmp_path / "float.onnx")
    graph = prepared((tmp_path / "float.onnx").read_bytes())
    ours = write_dynamic(graph, dynamic_layers(graph))
    quantize_dynamic(tmp_path / "float.onnx", tmp_path / "theirs.onnx", per_channel=True, weight_type=QuantType.QInt8)
    samples = {"x": net.example(9, seed=4)[0].numpy()}
    wanted = predict((tmp_path / "float.onnx").read_bytes(), samples)[0]
    found, theirs = predict(ours, samples)[0], predict(tmp_path / "theirs.onnx", samples)[0]
    assert error(found, wanted) < 0.02
    assert error(found, theirs) < 1.5 * error(theirs, wanted) + 1e-3
    operators = fused(ours, tmp_path)
    assert operators["MatMulInteger"] == operators["MatMul"] == operators["Gemm"] == 0
    assert operators["DynamicQuantizeMatMul"] + operators["MatMulIntegerToFloat"] == 2


def test_a_layer_may_have_the_name_of_what_it_gives(tmp_path):
    """As the exporter names a product without a bias: nodes and values have names of their own."""
    net = network_of(nn.Sequential(nn.Linear(8, 3, bias=False), nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 4)), 8)
    path = tmp_path / "m.onnx"
    write_onnx(net.module, net.signature, net.example(2), path)
    model = onnx.load(path)
    for node in model.graph.node:
        node.name = node.output[0]
    graph = prepared(model.SerializeToString())
    values = {"x": net.example(5)[0].numpy()}
    ranges = {name: affine(-4.0, 4.0) for name in placement(graph, graph.layers).ranges}
    wanted = predict(model.SerializeToString(), values)[-1]
    dynamic = write_dynamic(graph, dynamic_layers(graph))
    static = write_static(graph, graph.layers, placement(graph, graph.layers), ranges)
    for file in (dynamic, static):
        assert error(predict(file, values)[-1], wanted) < 0.1


def test_a_node_may_have_a_name_that_is_given_here():
    """As exporters name nodes after modules: `a/Add`, and a tensor `a/bias` with other numbers than the layer's."""
    draw = np.random.default_rng(0)
    stored = {"w": draw.normal(size=(4, 3)), "bias": draw.normal(size=3), "a/bias": draw.normal(size=(1, 3))}
    nodes = [
        helper.make_node("Gemm", ["x", "w", "bias"], ["h"], name="a"),
        helper.make_node("Add", ["h", "a/bias"], ["y"], name="a/Add"),
        helper.make_node("MatMul", ["x", "w"], ["z"], name="a/Mul"),
    ]
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in stored.items()]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in "yz"]
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs, tensors), opset_imports=opset, ir_version=9
    )
    graph = prepared(model.SerializeToString())
    values = {"x": draw.normal(size=(6, 4)).astype(np.float32)}
    for found, wanted in zip(
        predict(write_dynamic(graph, dynamic_layers(graph)), values),
        predict(model.SerializeToString(), values),
        strict=True,
    ):
        assert error(found, wanted) < 0.05


def test_layers_share_a_weight_each_its_own_way_round():
    """Outputs along either axis, each with scales of its own."""
    weight = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32) * np.float32([1, 9, 1, 30])
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="one"),
        helper.make_node("Gemm", ["h", "w"], ["y"], name="two", transB=1),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])]
    inner = helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(inner, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    graph = prepared(model.SerializeToString())
    values = {"x": np.random.default_rng(1).normal(size=(50, 4)).astype(np.float32)}
    where = placement(graph, graph.layers)
    seen = activations(graph, where.ranges, values)
    ranges = {name: affine(*range_of(seen.histograms[name], "minmax")) for name in where.ranges}
    file = write_static(graph, graph.layers, where, ranges)
    assert error(predict(file, values)[-1], predict(model.SerializeToString(), values)[-1]) < 0.03


def test_layers_that_are_not_chosen_stay_float(file, samples, tmp_path):
    graph = prepared(file)
    names = [name for name in graph.layers if name != "side"]
    operators = fused(static(file, samples, names), tmp_path)
    assert operators["QLinearConv"] == 3
    assert operators["Conv"] + operators["FusedConv"] == 1


def test_old_files_and_constants_in_nodes(tmp_path):
    """Opset 11, weights in a Constant node, a product with a stored bias behind it: brought up and folded."""
    random = np.random.default_rng(0)
    w = numpy_helper.from_array(random.normal(size=(6, 4)).astype(np.float32))
    b = numpy_helper.from_array(random.normal(size=4).astype(np.float32), "b")
    nodes = [
        helper.make_node("Constant", [], ["w"], value=w),
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("Add", ["p", "b"], ["y"]),
    ]
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", size]) for n, size in (("x", 6), ("y", 4))]
    model = helper.make_model(
        helper.make_graph(nodes, "g", info[:1], info[1:], [b]),
        opset_imports=[helper.make_opsetid("", 11)],
        ir_version=6,
    )
    samples = {"x": random.normal(size=(20, 6)).astype(np.float32)}
    file = static(model.SerializeToString(), samples)
    assert error(predict(file, samples)[0], predict(model.SerializeToString(), samples)[0]) < 0.02
    assert fused(file, tmp_path)["QGemm"] == 1


def test_a_bias_that_dwarfs_its_weights_stays_exact(tmp_path):
    net = network_of(nn.Sequential(nn.Linear(4, 3)), 4)
    with torch.no_grad():
        leaf = net.module.get_submodule("0")
        leaf.weight[0] = 1e-12
        leaf.weight[1] = 0
        leaf.bias[:] = torch.tensor([1000.0, -3.0, 0.5])
    write_onnx(net.module, net.signature, net.example(2), tmp_path / "float.onnx")
    file = (tmp_path / "float.onnx").read_bytes()
    samples = {"x": net.example(30)[0].numpy()}
    found, wanted = predict(static(file, samples), samples)[0], predict(file, samples)[0]
    np.testing.assert_allclose(found[:, :2], wanted[:, :2], rtol=1e-3)
