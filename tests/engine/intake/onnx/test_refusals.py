"""What isn't read, with the kind of the refusal and the thing at fault; nothing large is allocated on the way."""

import contextlib

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from compression.errors import IntakeError, Refusal, SpecError
from compression.intake.model import read_model
from compression.intake.onnx.wire import MOST_FIELDS
from tests.engine.intake.onnx.graphs import model, tensor, weights, write

node = helper.make_node
draw = weights()
WHOLE = np.int64
RELU = [node("Relu", ["x"], ["y"], name="last")]


def external():
    stored = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    entry = stored.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"
    return stored


def with_tensor(change):
    stored = draw("w", 4)
    change(stored)
    return model([node("Add", ["x", "w"], ["y"])], [stored])


def constant(stored):
    made = node("Constant", [], ["w"], name="holder")
    attribute = made.attribute.add()
    attribute.name, attribute.type = "value", onnx.AttributeProto.TENSOR
    attribute.t.CopyFrom(stored)
    return made


def graph(nodes, inputs=(), outputs=("o",)):
    values = [helper.make_tensor_value_info(name, kind, None if name == "v" else ()) for name, kind in inputs]
    results = [
        helper.make_tensor_value_info(name, TensorProto.BOOL if name == "more" else TensorProto.FLOAT, None)
        for name in outputs
    ]
    return helper.make_graph(nodes, "inner", values, results)


def branch(inner):
    """x behind a condition that is computed from it."""
    nodes = [
        node("ReduceSum", ["x"], ["s"], keepdims=0),
        node("Cast", ["s"], ["c"], to=TensorProto.BOOL),
        node("If", ["c"], ["y"], name="choice", then_branch=inner, else_branch=graph([node("Relu", ["x"], ["o"])])),
    ]
    return model(nodes)


def deep(levels):
    inner = graph([node("Relu", ["x"], ["o"])])
    condition = constant(tensor("", True, np.bool_))
    for _ in range(levels):
        inner = graph([condition, node("If", ["w"], ["o"], then_branch=inner, else_branch=inner)])
    return branch(inner)


def with_model(change):
    made = model(RELU)
    change(made)
    return made


def function(made):
    made.functions.append(
        helper.make_function("mine", "f", ["a"], ["b"], [node("Relu", ["a"], ["b"])], [helper.make_opsetid("", 17)])
    )


def loop(body_node):
    body = graph(
        [node("Identity", ["go"], ["more"]), body_node],
        [("step", TensorProto.INT64), ("go", TensorProto.BOOL), ("v", TensorProto.FLOAT)],
        ("more", "o"),
    )
    stored = [tensor("count", 2**62, WHOLE), tensor("true", True, np.bool_)]
    return model([node("Loop", ["count", "true", "x"], ["y"], name="endless", body=body)], stored)


def bomb(operator, lengths, *inputs, shape=("n", 4), **attributes):
    nodes = [node(operator, [*inputs, "s"], ["big"], name="bomb", **attributes), node("Relu", ["big"], ["y"])]
    return model(nodes, [tensor("s", lengths, WHOLE)], shape)


def negative(stored):
    stored.dims[0] = -4


def enormous(stored):
    stored.dims[0] = 2**40


def short(stored):
    stored.raw_data = stored.raw_data[:-1]


def twice(stored):
    stored.float_data.append(1.0)


def strings(stored):
    stored.ClearField("raw_data")
    stored.data_type = TensorProto.STRING
    stored.string_data.extend([b"a"] * 4)


def training(made):
    made.training_info.add()


def wide(count):
    """A message of `count` empty nodes: two bytes each here, some hundred each once they are parsed."""
    body = b"\x0a\x00" * count
    return b"\x08\x08\x3a" + onnx_length(len(body)) + body


def onnx_length(value):
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


CASES = {
    "external data": (lambda: model([node("Add", ["x", "w"], ["y"])], [external()]), "model-unsafe", "w"),
    "external data of a constant": (
        lambda: model([constant(external()), node("Add", ["x", "w"], ["y"])]),
        "model-unsafe",
        "holder",
    ),
    "external data in a branch": (
        lambda: branch(graph([constant(external()), node("Add", ["x", "w"], ["o"])])),
        "model-unsafe",
        "holder",
    ),
    "a custom domain": (
        lambda: model([node("Relu", ["x"], ["y"], name="last", domain="com.microsoft")]),
        "model-unsupported",
        "last",
    ),
    "a function of its own": (lambda: with_model(function), "model-unsupported", "mine.f"),
    "training information": (lambda: with_model(training), "model-unsupported", "training_info"),
    "an old opset": (lambda: model(RELU, opset=10), "model-unsupported", "opset_import"),
    "a later opset": (lambda: model(RELU, opset=24), "model-unsupported", "opset_import"),
    "a tensor of strings": (lambda: with_tensor(strings), "model-unsupported", "w"),
    "too few bytes": (lambda: with_tensor(short), "model-unreadable", "w"),
    "numbers in two places": (lambda: with_tensor(twice), "model-unreadable", "w"),
    "a negative length": (lambda: with_tensor(negative), "model-unsafe", "w"),
    "an absurd length": (lambda: with_tensor(enormous), "model-unsafe", "w"),
    "an absurd input": (lambda: model(RELU, shape=("n", 2**31 - 1, 2**31 - 1)), "model-unsafe", "x"),
    "a cycle": (
        lambda: model([node("Add", ["x", "b"], ["a"], name="first"), node("Relu", ["a"], ["b"]), *RELU]),
        "model-unreadable",
        "first",
    ),
    "a value that nothing makes": (lambda: model([node("Relu", ["z"], ["y"], name="n")]), "model-unreadable", "n"),
    "a name made twice": (lambda: model([node("Relu", ["x"], ["y"]), *RELU]), "model-unreadable", "last"),
    "a name made again inside": (
        lambda: branch(graph([node("Relu", ["x"], ["s"], name="n"), node("Relu", ["s"], ["o"])])),
        "model-unreadable",
        "n",
    ),
    "graphs in graphs": (lambda: deep(9), "model-unsafe", None),
    "too many nodes": (lambda: wide(MOST_FIELDS), "model-unsafe", ""),
    "a loop without end": (lambda: loop(node("Identity", ["v"], ["o"])), "model-unsafe", "endless"),
    "a loop that grows": (lambda: loop(node("Concat", ["v", "v"], ["o"], axis=0)), "model-unsafe", "endless"),
    "ConstantOfShape": (lambda: bomb("ConstantOfShape", [2**20, 2**20]), "model-unsafe", "bomb"),
    "ConstantOfShape that overflows": (lambda: bomb("ConstantOfShape", [2**62, 4]), "model-unsafe", "bomb"),
    "Expand": (lambda: bomb("Expand", [2**30, 1, 4], "x"), "model-unsafe", "bomb"),
    "Tile": (lambda: bomb("Tile", [1, 2**40], "x"), "model-unsafe", "bomb"),
    "Pad": (lambda: bomb("Pad", [0, 0, 0, 2**40], "x"), "model-unsafe", "bomb"),
    "Resize": (lambda: bomb("Resize", [1, 3, 2**20, 2**20], "x", "", "", shape=(1, 3, 8, 8)), "model-unsafe", "bomb"),
    "Range": (
        lambda: model(
            [node("Range", ["a", "b", "c"], ["r"], name="bomb"), *RELU],
            [tensor("a", 0.0), tensor("b", 1e30), tensor("c", 1e-30)],
        ),
        "model-unsafe",
        "bomb",
    ),
    "constants that grow": (
        lambda: model(
            [node("Concat", [f"c{i}", f"c{i}"], [f"c{i + 1}"], axis=0) for i in range(40)]
            + [node("ReduceSum", ["c40"], ["s"], keepdims=0), node("Add", ["x", "s"], ["y"])],
            [draw("c0", 64)],
        ),
        "model-unsafe",
        None,
    ),
    "a bomb behind what isn't lifted": (
        lambda: model(
            [
                node("NonZero", ["x"], ["z"], name="first"),
                node("ConstantOfShape", ["s"], ["c"]),
                node("ReduceSum", ["c"], ["t"], keepdims=0),
                node("Add", ["x", "t"], ["y"]),
            ],
            [tensor("s", [2**20, 2**10], WHOLE)],
        ),
        "model-unsafe",
        "first",
    ),
    "more work than a sample may take": (
        lambda: model([node("Conv", ["x", "w"], ["y"])], [draw("w", 64, 3, 65, 65)], ("n", 3, 1000, 1000)),
        "model-unsafe",
        None,
    ),
    "whole numbers as the output": (
        lambda: helper.make_model(
            helper.make_graph(
                [node("ArgMax", ["x"], ["y"], axis=1, keepdims=0)],
                "graph",
                [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("n", 4))],
                [helper.make_tensor_value_info("y", TensorProto.INT64, ("n",))],
            ),
            opset_imports=[helper.make_opsetid("", 17)],
            ir_version=8,
        ),
        "output-unsupported",
        "y",
    ),
    "shapes that don't meet": (
        lambda: model([node("Add", ["x", "w"], ["y"], name="last")], [draw("w", 3)]),
        "model-unsupported",
        "last",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_file_is_refused_for_what_is_wrong_with_it(name, tmp_path, monkeypatch):
    monkeypatch.setattr("compression.intake.onnx.probe.SECONDS", 3.0)  # a loop without end takes all of them
    made, kind, where = CASES[name]
    with pytest.raises(IntakeError) as caught:
        read_model(write(made(), tmp_path / "model.onnx"))
    assert caught.value.kind == kind
    assert where is None or caught.value.where == where


def test_a_file_that_is_cut_short_is_refused_at_every_length(tmp_path):
    whole = model([node("Conv", ["x", "w"], ["y"])], [draw("w", 3, 4, 3, 3)], ("n", 4, 8, 8)).SerializeToString()
    for length in range(3, len(whole), 7):
        with pytest.raises(IntakeError):
            read_model(write(whole[:length], tmp_path / "model.onnx"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4),
    st.sampled_from(["squeeze-excite", "vit", "lstm"]),
)
def test_a_changed_file_is_read_or_refused(exported, tmp_path, changes, name):
    data = bytearray(exported(name, 17).read_bytes())
    for place, value in changes:
        data[3 + place % min(len(data) - 3, 6000)] = value
    with contextlib.suppress(Refusal):
        read_model(write(bytes(data), tmp_path / "model.onnx"))


@pytest.mark.parametrize(
    "architecture",
    [
        {"architecture": "lenet5"},
        {"inputs": [3]},
        {"inputs": {"z": [4]}},
        {"inputs": {"x": [5]}},
        {"inputs": {"x": [4, 4]}},
        {"inputs": {"x": "4"}},
    ],
)
def test_shapes_that_do_not_fit_the_file(architecture, tmp_path):
    with pytest.raises(SpecError):
        read_model(write(model(RELU), tmp_path / "model.onnx"), architecture)
