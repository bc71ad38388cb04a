"""How other exporters write layers: each form is read exactly, as the layer it is."""

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper

from compression.errors import SpecError
from compression.intake.model import read_model
from tests.engine.intake.onnx.graphs import kinds, lifted, model, reference, tensor, weights, write

node = helper.make_node
draw = weights()
IMAGE = ("n", 4, 8, 8)


def conv(name, source="x", result=None, **attributes):
    return node("Conv", [source, name], [result or f"{name}_out"], name=f"/{name}/Conv", **attributes)


def layer_norm_in_pieces(eps=1e-5):
    """As torch writes it before opset 17, and Paddle."""
    return [
        node("ReduceMean", ["x"], ["mean"], axes=[-1]),
        node("Sub", ["x", "mean"], ["centred"]),
        node("Pow", ["centred", "two"], ["squared"]),
        node("ReduceMean", ["squared"], ["variance"], axes=[-1]),
        node("Add", ["variance", "eps"], ["more"]),
        node("Sqrt", ["more"], ["deviation"]),
        node("Div", ["centred", "deviation"], ["normed"]),
        node("Mul", ["normed", "gamma"], ["scaled"]),
        node("Add", ["scaled", "beta"], ["y"]),
    ], [tensor("two", 2.0), tensor("eps", eps), draw("gamma", 4), draw("beta", 4)]


def keras_layer_norm(*, negated=False):
    """As Keras writes it: x · s + (beta − mean · s), s = gamma · rsqrt(variance + ε)."""
    last = [node("Mul", ["mean", "s"], ["moved"]), node("Sub", ["beta", "moved"], ["two"])]
    if negated:
        last = [node("Neg", ["mean"], ["less"]), node("Mul", ["less", "s"], ["moved"])]
        last += [node("Add", ["moved", "beta"], ["two"])]
    return [
        node("ReduceMean", ["x"], ["mean"], axes=[2]),
        node("Sub", ["x", "mean"], ["centred"]),
        node("Mul", ["centred", "centred"], ["squared"]),
        node("ReduceMean", ["squared"], ["variance"], axes=[2]),
        node("Add", ["variance", "eps"], ["more"]),
        node("Sqrt", ["more"], ["root"]),
        node("Reciprocal", ["root"], ["inverse"]),
        node("Mul", ["inverse", "gamma"], ["s"]),
        node("Mul", ["x", "s"], ["one"]),
        *last,
        node("Add", ["one", "two"], ["y"]),
    ], [tensor("eps", 1e-3), draw("gamma", 4), draw("beta", 4)]


def group_norm_in_pieces():
    """As torch's older exporter writes it."""
    return [
        node("Reshape", ["x", "grouped"], ["r"]),
        node("InstanceNormalization", ["r", "ones", "zeros"], ["i"], epsilon=1e-5),
        node("Shape", ["x"], ["s"]),
        node("Reshape", ["i", "s"], ["back"]),
        node("Mul", ["back", "gamma"], ["scaled"]),
        node("Add", ["scaled", "beta"], ["y"]),
    ], [
        tensor("grouped", [0, 2, -1], np.int64),
        tensor("ones", np.ones(2)),
        tensor("zeros", np.zeros(2)),
        draw("gamma", 4, 1, 1),
        draw("beta", 4, 1, 1),
    ]


def attention(scale_on):
    """Products around a softmax, with a mask; the scale on the scores, or its root on q and k."""
    root = 2.0**-0.5
    nodes = [
        node("MatMul", ["x", "wq"], ["q0"]),
        node("MatMul", ["x", "wk"], ["k0"]),
        node("MatMul", ["x", "wv"], ["v0"]),
        *[node("Reshape", [f"{p}0", "split"], [f"{p}1"]) for p in "qkv"],
        node("Transpose", ["q1"], ["q"], perm=[0, 2, 1, 3]),
        node("Transpose", ["k1"], ["k"], perm=[0, 2, 3, 1]),
        node("Transpose", ["v1"], ["v"], perm=[0, 2, 1, 3]),
    ]
    if scale_on == "scores":
        nodes += [node("MatMul", ["q", "k"], ["raw"]), node("Mul", ["raw", "half"], ["scores"])]
    else:
        nodes += [node("Mul", ["q", "root"], ["qs"]), node("Mul", ["k", "root"], ["ks"])]
        nodes += [node("MatMul", ["qs", "ks"], ["scores"])]
    nodes += [
        node("Add", ["scores", "mask"], ["masked"]),
        node("Softmax", ["masked"], ["p"], axis=-1),
        node("MatMul", ["p", "v"], ["o"]),
        node("Transpose", ["o"], ["t"], perm=[0, 2, 1, 3]),
        node("Reshape", ["t", "join"], ["y"]),
    ]
    stored = [draw(name, 8, 8) for name in ("wq", "wk", "wv")]
    mask = np.triu(np.full((5, 5), -np.inf), 1)
    stored += [tensor("half", 0.5), tensor("root", root), tensor("mask", mask)]
    stored += [tensor("split", [0, 5, 2, 4], np.int64), tensor("join", [0, 5, 8], np.int64)]
    return nodes, stored


def einsum_attention():
    """Scores and sums as einsums over b n h d."""
    return [
        node("Reshape", ["x", "split"], ["q"]),
        node("Einsum", ["q", "q"], ["raw"], equation="bnhd,bmhd->bhnm"),
        node("Mul", ["raw", "half"], ["scores"]),
        node("Softmax", ["scores"], ["p"], axis=-1),
        node("Einsum", ["p", "q"], ["o"], equation="bhnm,bmhd->bnhd"),
        node("Reshape", ["o", "join"], ["y"]),
    ], [tensor("half", 0.5), tensor("split", [0, 5, 2, 4], np.int64), tensor("join", [0, 5, 8], np.int64)]


def gelu(order):
    pieces = {
        "half first": [node("Mul", ["x", "half"], ["h"]), node("Mul", ["h", "e1"], ["y"])],
        "half last": [node("Mul", ["x", "e1"], ["h"]), node("Mul", ["h", "half"], ["y"])],
        "half inside": [node("Mul", ["e1", "half"], ["h"]), node("Mul", ["x", "h"], ["y"])],
    }[order]
    start = [
        node("Div", ["x", "root"], ["d"]),
        node("Erf", ["d"], ["e"]),
        node("Add", ["e", "one"], ["e1"]),
    ]
    return start + pieces, [tensor("root", 2**0.5), tensor("one", 1.0), tensor("half", 0.5)]


def tanh_gelu():
    return [
        node("Pow", ["x", "three"], ["cube"]),
        node("Mul", ["cube", "small"], ["c"]),
        node("Add", ["x", "c"], ["sum"]),
        node("Mul", ["sum", "factor"], ["inner"]),
        node("Tanh", ["inner"], ["t"]),
        node("Add", ["t", "one"], ["t1"]),
        node("Mul", ["x", "t1"], ["xt"]),
        node("Mul", ["xt", "half"], ["y"]),
    ], [
        tensor("three", 3.0),
        tensor("small", 0.044715),
        tensor("factor", (2 / np.pi) ** 0.5),
        tensor("one", 1.0),
        tensor("half", 0.5),
    ]


def hard_swish(order):
    clip = [node("Add", ["x", "three"], ["a"]), node("Clip", ["a", "zero", "six"], ["c"])]
    rest = {
        "divided last": [node("Mul", ["x", "c"], ["m"]), node("Div", ["m", "six"], ["y"])],
        "divided first": [node("Div", ["c", "six"], ["d"]), node("Mul", ["x", "d"], ["y"])],
        "multiplied": [node("Mul", ["c", "sixth"], ["d"]), node("Mul", ["d", "x"], ["y"])],
    }[order]
    return clip + rest, [tensor("three", 3.0), tensor("zero", 0.0), tensor("six", 6.0), tensor("sixth", 1 / 6)]


SEQUENCE = ("n", 5, 4)
IDIOMS = {
    "layer norm in pieces": (*layer_norm_in_pieces(), SEQUENCE, 13, ["LayerNorm"]),
    "layer norm of Keras": (*keras_layer_norm(), SEQUENCE, 13, ["LayerNorm"]),
    "group norm in pieces": (*group_norm_in_pieces(), IMAGE, 13, ["GroupNorm"]),
    "GELU, half first": (*gelu("half first"), SEQUENCE, 13, ["GELU"]),
    "GELU, half last": (*gelu("half last"), SEQUENCE, 13, ["GELU"]),
    "GELU, half inside": (*gelu("half inside"), SEQUENCE, 13, ["GELU"]),
    "GELU by tanh": (*tanh_gelu(), SEQUENCE, 13, ["GELU"]),
    "SiLU": ([node("Sigmoid", ["x"], ["s"]), node("Mul", ["x", "s"], ["y"])], [], SEQUENCE, 13, ["SiLU"]),
    "Mish": (
        [node("Softplus", ["x"], ["s"]), node("Tanh", ["s"], ["t"]), node("Mul", ["x", "t"], ["y"])],
        [],
        SEQUENCE,
        13,
        ["Mish"],
    ),
    "HardSwish, divided last": (*hard_swish("divided last"), SEQUENCE, 13, ["Hardswish"]),
    "HardSwish, divided first": (*hard_swish("divided first"), SEQUENCE, 13, ["Hardswish"]),
    "HardSwish, multiplied": (*hard_swish("multiplied"), SEQUENCE, 13, ["Hardswish"]),
    "HardSwish of HardSigmoid": (
        [node("HardSigmoid", ["x"], ["s"], alpha=1 / 6, beta=0.5), node("Mul", ["x", "s"], ["y"])],
        [],
        SEQUENCE,
        13,
        ["Hardswish"],
    ),
    "attention, scaled scores": (
        *attention("scores"),
        ("n", 5, 8),
        13,
        [*["Linear"] * 3, *["reshape"] * 3, "scaled_dot_product_attention", "flatten"],
    ),
    "attention, scaled q and k": (
        *attention("q and k"),
        ("n", 5, 8),
        13,
        [*["Linear"] * 3, *["reshape"] * 3, "scaled_dot_product_attention", "flatten"],
    ),
    "attention by einsum": (
        *einsum_attention(),
        ("n", 5, 8),
        13,
        ["reshape", "scaled_dot_product_attention", "flatten"],
    ),
    "dense of Keras, MatMul and Add": (
        [node("MatMul", ["x", "w"], ["m"]), node("Add", ["m", "b"], ["y"])],
        [draw("w", 4, 6), draw("b", 6)],
        ("n", 4),
        13,
        ["Linear"],
    ),
    "dense of Keras over heads, Einsum and Add": (
        [node("Einsum", ["x", "w"], ["m"], equation="abc,cde->abde"), node("Add", ["m", "b"], ["y"])],
        [draw("w", 4, 2, 3), draw("b", 2, 3)],
        SEQUENCE,
        17,
        ["Linear", "reshape"],
    ),
    "dense of Keras that joins heads": (
        [
            node("Reshape", ["x", "s"], ["h"]),
            node("Einsum", ["h", "w"], ["m"], equation="abcd,ecd->abe"),
            node("Add", ["m", "b"], ["y"]),
        ],
        [tensor("s", [0, 5, 2, 2], np.int64), draw("w", 3, 2, 2), draw("b", 3)],
        SEQUENCE,
        17,
        ["Linear"],
    ),
    "LayerNorm of Keras 3, the mean negated": (*keras_layer_norm(negated=True), SEQUENCE, 13, ["LayerNorm"]),
    "dense of Keras over a sequence": (
        [
            node("Reshape", ["x", "rows"], ["r"]),
            node("MatMul", ["r", "w"], ["m"]),
            node("Reshape", ["m", "back"], ["t"]),
            node("Add", ["t", "b"], ["y"]),
        ],
        [tensor("rows", [-1, 4], np.int64), tensor("back", [-1, 5, 3], np.int64), draw("w", 4, 3), draw("b", 3)],
        SEQUENCE,
        13,
        ["Linear"],
    ),
    "convolution over one axis, from Keras": (
        [
            node("Unsqueeze", ["x", "one"], ["u"]),
            node("Transpose", ["u"], ["t"], perm=[0, 3, 1, 2]),
            node("Conv", ["t", "w"], ["c"], pads=[0, 1, 0, 1]),
            node("Squeeze", ["c", "two"], ["s"]),
            node("Add", ["s", "b"], ["y"]),
        ],
        [tensor("one", [1], np.int64), tensor("two", [2], np.int64), draw("w", 6, 4, 1, 3), draw("b", 1, 6, 1)],
        SEQUENCE,
        13,
        ["transpose", "Conv1d"],
    ),
    "convolution of Paddle, the bias added": (
        [conv("w", pads=[1] * 4), node("Add", ["w_out", "b"], ["y"])],
        [draw("w", 6, 4, 3, 3), draw("b", 1, 6, 1, 1)],
        IMAGE,
        11,
        ["Conv2d"],
    ),
    "weights in Constant nodes": (
        [
            node("Constant", [], ["w"], value=draw("", 6, 4, 3, 3)),
            node("Constant", [], ["shape"], value=tensor("", [6], np.int64)),
            node("Constant", [], ["flat"], value=draw("", 6, 1)),
            node("Reshape", ["flat", "shape"], ["b"]),
            node("Conv", ["x", "w", "b"], ["y"]),
        ],
        [],
        IMAGE,
        11,
        ["Conv2d"],
    ),
    "a batch of one burnt into a flatten": (
        [node("GlobalAveragePool", ["x"], ["p"]), node("Reshape", ["p", "s"], ["y"])],
        [tensor("s", [1, 4], np.int64)],
        (1, 4, 8, 8),
        13,
        ["AdaptiveAvgPool2d", "flatten"],
    ),
    "channels last, from Keras": (
        [
            node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
            conv("w", "t", "c", auto_pad="SAME_UPPER", strides=[2, 2]),
            node("Relu", ["c"], ["r"]),
            node("Transpose", ["r"], ["back"], perm=[0, 2, 3, 1]),
            node("ReduceMean", ["back"], ["p"], axes=[1, 2], keepdims=0),
            node("MatMul", ["p", "d"], ["m"]),
            node("Add", ["m", "b"], ["y"]),
        ],
        [draw("w", 6, 4, 3, 3), draw("d", 6, 3), draw("b", 3)],
        ("n", 8, 8, 4),
        13,
        ["permute", "pad", "Conv2d", "ReLU", "permute", "mean", "Linear"],
    ),
    "transposes that cancel": (
        [
            node("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]),
            node("Transpose", ["t"], ["u"], perm=[0, 3, 1, 2]),
            node("Relu", ["u"], ["y"]),
        ],
        [],
        IMAGE,
        13,
        ["ReLU"],
    ),
}


@pytest.mark.parametrize("name", IDIOMS)
def test_an_idiom_is_the_layer_it_means(name, tmp_path):
    nodes, stored, shape, opset, wanted = IDIOMS[name]
    network = lifted(model(nodes, stored, shape, opset), tmp_path / "model.onnx")
    found = kinds(network)
    if "scaled_dot_product_attention" in wanted:  # the moves around it may be written in several ways
        found = [kind for kind in found if kind not in {"transpose", "permute"}]
    assert found == wanted


def test_a_condition_that_is_known_is_no_branch(tmp_path):
    """As torch's older exporter guards a squeeze."""
    branch = helper.make_graph(
        [node("Squeeze", ["x", "axis"], ["o"])],
        "then",
        [],
        [helper.make_tensor_value_info("o", TensorProto.FLOAT, None)],
    )
    other = helper.make_graph(
        [node("Identity", ["x"], ["o"])], "else", [], [helper.make_tensor_value_info("o", TensorProto.FLOAT, None)]
    )
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "axis"], ["length"]),
        node("Equal", ["length", "axis"], ["is_one"]),
        node("If", ["is_one"], ["y0"], then_branch=branch, else_branch=other),
        node("Relu", ["y0"], ["y"]),
    ]
    network = lifted(model(nodes, [tensor("axis", [1], np.int64)], ("n", 1, 4)), tmp_path / "model.onnx")
    assert kinds(network) == ["squeeze", "ReLU"]


def test_shape_arithmetic_folds_and_the_batch_stays_free(tmp_path):
    """x.view(x.size(0), x.size(1) * x.size(2)) as the older exporter spells it out."""
    nodes = [
        node("Shape", ["x"], ["s"]),
        *[node("Gather", ["s", f"i{place}"], [f"n{place}"], axis=0) for place in range(3)],
        node("Mul", ["n1", "n2"], ["flat"]),
        node("Unsqueeze", ["n0", "zero"], ["a"]),
        node("Unsqueeze", ["flat", "zero"], ["b"]),
        node("Concat", ["a", "b"], ["shape"], axis=0),
        node("Reshape", ["x", "shape"], ["r"]),
        node("MatMul", ["r", "w"], ["y"]),
    ]
    stored = [*[tensor(f"i{place}", place, np.int64) for place in range(3)], tensor("zero", [0], np.int64)]
    network = lifted(model(nodes, [*stored, draw("w", 20, 3)], SEQUENCE), tmp_path / "model.onnx")
    assert kinds(network) == ["flatten", "Linear"]


def test_several_inputs_and_outputs_keep_their_names(tmp_path):
    inputs = [
        helper.make_tensor_value_info("ids:0", TensorProto.INT64, ("n", 3)),
        helper.make_tensor_value_info("x.1", TensorProto.FLOAT, ("n", 4)),
    ]
    nodes = [
        node("Gather", ["table", "ids:0"], ["e"]),
        node("ReduceMean", ["e"], ["m"], axes=[1], keepdims=0),
        node("Add", ["m", "x.1"], ["sum/out"]),
        node("Relu", ["sum/out"], ["y"]),
    ]
    made = model(nodes, [draw("table", 7, 4)], inputs=inputs, outputs=("sum/out", "y"))
    network = lifted(made, tmp_path / "model.onnx")
    assert [(entry.name, entry.dtype) for entry in network.signature.inputs] == [("ids_0", "int64"), ("x_1", "float32")]
    assert network.signature.outputs == ("sum_out", "y")
    assert kinds(network)[0] == "Embedding"


def test_free_axes_get_the_lengths_that_are_told(tmp_path):
    made = model([conv("w", result="y")], [draw("w", 6, 4, 3, 3)], ("n", 4, "h", "w"))
    network = lifted(made, tmp_path / "a.onnx", {"inputs": {"x": [4, 12, 9]}})
    assert network.signature.inputs[0].shape == (4, 12, 9)
    assert network.provenance[0]["fixed_axes"] == ["x: axis 2 = 12", "x: axis 3 = 9"]
    assert lifted(made, tmp_path / "b.onnx").signature.inputs[0].shape == (4, 224, 224)


def test_weights_that_several_layers_share_stay_one(tmp_path):
    nodes = [
        node("Gather", ["table", "x"], ["e"]),
        node("ReduceMean", ["e"], ["m"], axes=[1], keepdims=0),
        node("Transpose", ["table"], ["t"], perm=[1, 0]),
        node("MatMul", ["m", "t"], ["y"]),
    ]
    network = lifted(model(nodes, [draw("table", 7, 4)], ("n", 3), dtype=TensorProto.INT64), tmp_path / "model.onnx")
    assert len(list(network.module.parameters())) == 1


@pytest.mark.parametrize("count", ["CumSum", "Mul"])
def test_a_mask_that_places_are_counted_from_stays_a_mask(count, tmp_path):
    """Drawn as ids are, it would count beyond the stored places, and the file wouldn't run."""
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ("n", 12)) for name in ("ids", "mask")]
    nodes = [
        node(count, ["mask", "by"], ["p"]),
        node("Gather", ["places", "p"], ["e"]),
        node("Gather", ["words", "ids"], ["w"]),
        node("Add", ["e", "w"], ["y"]),
    ]
    by = 1 if count == "CumSum" else np.arange(1, 13)[None]
    made = model(nodes, [draw("places", 20, 4), draw("words", 50, 4), tensor("by", by, np.int64)], inputs=inputs)
    assert kinds(lifted(made, tmp_path / "model.onnx")).count("Embedding") == 2


@pytest.mark.parametrize(("width", "parts", "bias"), [(1, None, (1, 1, 1, 1)), (6, [0, -1, 2, 3], (1, 1, 1, 2, 3))])
def test_a_sum_of_more_axes_than_its_layer_is_no_bias(width, parts, bias, tmp_path):
    layer = [node("MatMul", ["x", "w"], ["m"])]
    layer += [node("Reshape", ["m", "parts"], ["r"])] if parts else []
    nodes = [
        *layer,
        node("Add", [layer[-1].output[0], "b"], ["a"]),
        node("Squeeze", ["a", "first"], ["y"]),
    ]
    stored = [draw("w", 4, width), draw("b", *bias), tensor("parts", parts or [], np.int64)]
    made = model(nodes, [*stored, tensor("first", [0], np.int64)], SEQUENCE)
    assert "add" in kinds(lifted(made, tmp_path / "model.onnx"))


def test_an_input_that_no_operator_reads_is_left_out_and_told(tmp_path):
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ("n", "k")) for name in ("more", "x")]
    path = write(model([node("MatMul", ["x", "w"], ["y"])], [draw("w", 4, 3)], inputs=inputs), tmp_path / "model.onnx")
    network = read_model(path, {"inputs": {"x": [4]}})
    assert [entry.name for entry in network.signature.inputs] == ["x"]
    assert network.provenance[0]["unused_inputs"] == ["more"]
    (x,) = network.example(2)
    (wanted,) = reference(path, (torch.zeros(1, 1), x))
    torch.testing.assert_close(network.module(x), wanted, rtol=1e-5, atol=1e-6)
    with pytest.raises(SpecError, match="no operator reads the input more; it has x"):
        read_model(path, {"inputs": {"x": [4], "more": [4]}})
