"""ONNX files: other files, other domains, cycles, recursion, and nodes that allocate without end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from tests.hostile.case import Cases, trap

CASES = Cases()
UNSAFE, UNREADABLE, UNSUPPORTED = "model-unsafe", "model-unreadable", "model-unsupported"
ANY = (UNSAFE, UNREADABLE, UNSUPPORTED, "operator-unsupported", "model-inexact", "output-unsupported")
FLOAT = TensorProto.FLOAT


def _value(name: str, shape: Sequence[int | str] = ("N", 4), kind: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, list(shape))


def _tensor(name: str, values: Any, dtype: Any = np.int64) -> TensorProto:
    return numpy_helper.from_array(np.asarray(values, dtype), name)


def _graph(
    nodes: Sequence[NodeProto], tensors: Sequence[TensorProto] = (), output: Sequence[int | str] = ("N", 4)
) -> GraphProto:
    return helper.make_graph(list(nodes), "g", [_value("x")], [_value("y", output)], list(tensors))


def _model(graph: GraphProto, **changes: Any) -> ModelProto:
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], **changes)
    made.ir_version = 9
    return made


def _bytes(nodes: Sequence[NodeProto], tensors: Sequence[TensorProto] = (), **changes: Any) -> bytes:
    data: bytes = _model(_graph(nodes, tensors, **changes)).SerializeToString()
    return data


def _add(name: str, build: Callable[[], bytes], *kinds: str) -> None:
    CASES.add(f"onnx: {name}", "model.onnx", *(kinds or ANY))(lambda _: build())


node = helper.make_node
_WEIGHT = _tensor("w", np.eye(4), np.float32)
_MATMUL = node("MatMul", ["x", "w"], ["y"])


def _external(location: str, *, nested: bool = False) -> bytes:
    weight = TensorProto(name="w", data_type=FLOAT, dims=[4, 4], data_location=TensorProto.EXTERNAL)
    for key, text in (("location", location), ("offset", "0"), ("length", "64")):
        weight.external_data.add(key=key, value=text)
    if not nested:
        return _bytes([_MATMUL], [weight])
    inner = helper.make_graph([node("Constant", [], ["c"], value=weight)], "inner", [], [_value("c", (4, 4))])
    choice = node("If", ["b"], ["w"], then_branch=inner, else_branch=inner)
    return _bytes([choice, _MATMUL], [_tensor("b", True, np.bool_)])


for _place in ("/etc/passwd", "../../../../etc/passwd", "weights.bin", "/proc/self/environ", "\\\\server\\share\\w"):
    _add(f"external data in {_place}", lambda place=_place: _external(place), UNSAFE)
_add("external data in a subgraph's constant", lambda: _external("/etc/passwd", nested=True), UNSAFE)


def _sparse() -> bytes:
    graph = _graph([node("Relu", ["x"], ["y"])])
    inner = TensorProto(name="s", data_type=FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    inner.external_data.add(key="location", value="/etc/passwd")
    graph.sparse_initializer.add(values=inner, indices=_tensor("i", [0]), dims=[2**40])
    data: bytes = _model(graph).SerializeToString()
    return data


_add("external data in a sparse tensor", _sparse, UNSAFE, UNSUPPORTED)
_add("a domain of its own", lambda: _bytes([node("Evil", ["x"], ["y"], domain="com.evil")]))
_add("Microsoft's domain", lambda: _bytes([node("PyOp", ["x"], ["y"], domain="com.microsoft")]))


def _packed(size: int = 16, columns: int = 4, codes: int = 8, *, stored: bool = True) -> bytes:
    """A product with packed codes whose attributes may promise more than is there."""
    parts = ["x", "codes" if stored else "x", "steps"]
    attributes = {"K": columns, "N": 4, "bits": 4, "block_size": size}
    product = node("MatMulNBits", parts, ["y"], domain="com.microsoft", **attributes)
    return _bytes(
        [product], [_tensor("codes", np.zeros((4, 1, codes)), np.uint8), _tensor("steps", [[1.0]] * 4, np.float32)]
    )


_add("packed codes for fewer columns than promised", lambda: _packed(columns=2**31 - 1))
_add("packed codes for smaller blocks than promised", lambda: _packed(size=256))
_add("packed codes for no columns", lambda: _packed(columns=0))
_add("packed codes that are cut short", lambda: _packed(codes=1))
_add("packed codes that the input brings", lambda: _packed(stored=False))
_add("Python's operator", lambda: _bytes([node("PythonOp", ["x"], ["y"], domain="ai.onnx.contrib", module="os")]))
_add("an operator that is none", lambda: _bytes([node("__import__", ["x"], ["y"])]))


def _function() -> bytes:
    body = helper.make_function(
        "own", "F", ["a"], ["b"], [node("F", ["a"], ["b"], domain="own")], [helper.make_opsetid("own", 1)]
    )
    graph = _graph([node("F", ["x"], ["y"], domain="own")])
    made = _model(graph, functions=[body])
    made.opset_import.add(domain="own", version=1)
    data: bytes = made.SerializeToString()
    return data


_add("a function that calls itself", _function)
_add(
    "a cycle of two",
    lambda: _bytes([node("Relu", ["b"], ["a"]), node("Relu", ["a"], ["b"]), node("Add", ["a", "x"], ["y"])]),
)
_add("a node that takes its own output", lambda: _bytes([node("Add", ["x", "y"], ["y"])]))
_add("a value made twice", lambda: _bytes([node("Relu", ["x"], ["y"]), node("Neg", ["x"], ["y"])]))
_add("a value that nothing makes", lambda: _bytes([node("Add", ["x", "gone"], ["y"])]))


def _deep(levels: int) -> bytes:
    inner = helper.make_graph([node("Identity", ["x"], ["o"])], "leaf", [], [_value("o")])
    for _level in range(levels):
        outer = [node("If", ["b"], ["o"], then_branch=inner, else_branch=GraphProto(name="e"))]
        inner = helper.make_graph(outer, "level", [], [_value("o")])
    return _bytes([node("If", ["b"], ["y"], then_branch=inner, else_branch=inner)], [_tensor("b", True, np.bool_)])


_add("subgraphs 30 deep", lambda: _deep(25))


def _raw(number: int, content: bytes) -> bytes:
    """A length-delimited field of a protobuf message."""
    length, head = len(content), b""
    while length >= 128:
        head += bytes([length & 127 | 128])
        length >>= 7
    return bytes([number << 3 | 2]) + head + bytes([length]) + content


_IR = b"\x08\x09" + _raw(2, b"t")


def _nested_types(levels: int) -> bytes:
    content = b""
    for _level in range(levels):  # a sequence of a sequence of …
        content = _raw(1, _raw(4, content))
    return _IR + _raw(7, _raw(11, _raw(1, b"x") + _raw(2, content)))


_add("types 5,000 deep", lambda: _nested_types(5_000), UNSAFE, UNREADABLE)
_add("10,000,000 empty nodes", lambda: _IR + _raw(7, b"\x0a\x00" * 10_000_000), UNSAFE, UNREADABLE)
_add("30,000,000 numbers as varints", lambda: _IR + _raw(7, _raw(5, _raw(7, b"\x01" * 30_000_000))), UNSAFE, UNREADABLE)
_add("a field of 2^60 bytes", lambda: _IR + b"\x3a" + b"\xff" * 8 + b"\x0f", UNREADABLE)
_add("a number without end", lambda: _IR + b"\x3a" + b"\xff" * 40, UNREADABLE)
_add("half of a file", lambda: _bytes([_MATMUL], [_WEIGHT])[:90], UNREADABLE)
_add(
    "a pickle for a weight",
    lambda: _bytes([_MATMUL], [TensorProto(name="w", data_type=FLOAT, dims=[4, 4], raw_data=trap("x"))]),
)
_add(
    "strings for a weight",
    lambda: _bytes([_MATMUL], [TensorProto(name="w", data_type=8, dims=[1], string_data=[b"a"])]),
)


def _dims(*dims: int) -> bytes:
    return _bytes([_MATMUL], [TensorProto(name="w", data_type=FLOAT, dims=list(dims), raw_data=bytes(64))])


_add("a weight of 2^62 elements", lambda: _dims(2**31, 2**31), UNSAFE, UNREADABLE)
_add("a weight of negative length", lambda: _dims(-4, -4), UNSAFE, UNREADABLE)
_add("a weight of more than its bytes", lambda: _dims(4000, 4000), UNSAFE, UNREADABLE)


def _bomb(operator: str, inputs: Sequence[str], tensors: Sequence[TensorProto], **attributes: Any) -> bytes:
    """A huge value that is summed up and added to x, so that nothing of it shows at the outputs."""
    made = [
        node(operator, list(inputs), ["big"], **attributes),
        node("ReduceMax", ["big"], ["top"], keepdims=0),
        node("Cast", ["top"], ["number"], to=FLOAT),
        node("Add", ["x", "number"], ["y"]),
    ]
    return _bytes(made, tensors)


_ONE = _tensor("one", [1.0], np.float32)
_WIDE = 2**15


def _scores() -> bytes:
    """A whole attention of as many queries as keys: ONNX Runtime makes the square."""
    value = [_value(name, ("N", _WIDE, 4)) for name in ("x", "y")]
    made = [node("Attention", ["x", "x", "x"], ["y"], q_num_heads=1, kv_num_heads=1)]
    model = _model(helper.make_graph(made, "g", value[:1], value[1:]))
    model.opset_import[0].version = 23
    data: bytes = model.SerializeToString()
    return data


def _products(*, folded: bool) -> bytes:
    """An einsum whose first two factors make the square, of which nothing is left."""
    wide = _tensor("c", np.ones((1, _WIDE)), np.float32)
    if folded:
        return _bomb("Einsum", ["c", "c", "c", "c"], [wide], equation="na,nb,na,nb->n")
    made = [node("Einsum", ["x", "x", "c", "c"], ["y"], equation="na,nb,ca,cb->n")]
    graph = helper.make_graph(made, "g", [_value("x", ("N", _WIDE))], [_value("y", ("N",))], [wide])
    data: bytes = _model(graph).SerializeToString()
    return data


BOMBS: dict[str, Callable[[], bytes]] = {
    "ConstantOfShape of 4 TiB": lambda: _bomb("ConstantOfShape", ["s"], [_tensor("s", [2**20, 2**20])]),
    "ConstantOfShape of 2 GiB": lambda: _bomb("ConstantOfShape", ["s"], [_tensor("s", [2**29])]),
    "ConstantOfShape of 2^80": lambda: _bomb("ConstantOfShape", ["s"], [_tensor("s", [2**40, 2**40])]),
    "Expand to 2 GiB": lambda: _bomb("Expand", ["one", "s"], [_ONE, _tensor("s", [2**29])]),
    "Expand to 2^60": lambda: _bomb("Expand", ["one", "s"], [_ONE, _tensor("s", [2**30, 2**30])]),
    "Tile by 2^30": lambda: _bomb("Tile", ["one", "s"], [_ONE, _tensor("s", [2**30])]),
    "Pad by 2^30": lambda: _bomb("Pad", ["one", "s"], [_ONE, _tensor("s", [2**29, 2**29])]),
    "Resize to 2^16 squared": lambda: _bomb(
        "Resize", ["p", "", "", "s"],
        [_tensor("p", np.zeros((1, 1, 2, 2)), np.float32), _tensor("s", [1, 1, 2**16, 2**16])],
    ),
    "Resize by 1e9": lambda: _bomb(
        "Resize", ["p", "", "f"],
        [_tensor("p", np.zeros((1, 1, 2, 2)), np.float32), _tensor("f", [1, 1, 1e9, 1e9], np.float32)],
    ),
    "Range of 2^40": lambda: _bomb("Range", ["a", "b", "c"], [_tensor("a", 0), _tensor("b", 2**40), _tensor("c", 1)]),
    "Range of steps of 1e-30": lambda: _bomb(
        "Range", ["a", "b", "c"], [_tensor(n, v, np.float32) for n, v in (("a", 0), ("b", 1), ("c", 1e-30))]
    ),
    "OneHot of depth 2^40": lambda: _bomb(
        "OneHot", ["i", "d", "v"], [_tensor("i", [1]), _tensor("d", 2**40), _tensor("v", [0, 1], np.float32)]
    ),
    "Gather of 2^29": lambda: _bytes(
        [node("ConstantOfShape", ["s"], ["i"], value=_tensor("v", [0])), node("Gather", ["x", "i"], ["y"])],
        [_tensor("s", [2**29])],
    ),
    "a convolution with pads of 2^30": lambda: _bomb(
        "Conv", ["p", "k"], [_tensor(name, np.ones((1, 1, 1)), np.float32) for name in ("p", "k")],
        pads=[2**30, 2**30],
    ),
    "an average over pads of 2^30": lambda: _bomb(
        "AveragePool", ["p"], [_tensor("p", np.zeros((1, 1, 4)), np.float32)], kernel_shape=[2], pads=[2**30, 2**30],
        count_include_pad=1,
    ),
    "Upsample by 1e6 squared": lambda: _bomb(
        "Upsample", ["p", "f"],
        [_tensor("p", np.zeros((1, 1, 2, 2)), np.float32), _tensor("f", [1, 1, 1e6, 1e6], np.float32)],
    ),
    "an attention of 2^15 squared": _scores,
    "an einsum that makes 2^30 on its way": lambda: _products(folded=False),
    "a stored einsum that makes 2^30 on its way": lambda: _products(folded=True),
    "an outer product of 2^17 squared": lambda: _bomb(
        "MatMul", ["a", "b"],
        [_tensor("a", np.ones((2**15, 1)), np.float32), _tensor("b", np.ones((1, 2**17)), np.float32)],
    ),
    "an einsum of 2^40": lambda: _bomb(
        "Einsum", ["a", "a", "a", "a"], [_tensor("a", np.ones(1024), np.float32)], equation="a,b,c,d->abcd"
    ),
}  # fmt: skip
for _name, _make in BOMBS.items():
    _add(_name, _make)


def _doubled(levels: int) -> bytes:
    names = ["x", *(f"n{n}" for n in range(levels - 1)), "big"]
    made = [node("Concat", [a, a], [b], axis=1) for a, b in pairwise(names)]
    return _bytes([*made, node("ReduceSum", ["big", "axes"], ["y"], keepdims=1)], [_tensor("axes", [1])])


_add("a value doubled 40 times", lambda: _doubled(40))


def _loop() -> bytes:
    body = helper.make_graph(
        [node("Identity", ["c"], ["c2"]), node("Add", ["v", "v"], ["v2"])], "body",
        [_value("i", (), TensorProto.INT64), _value("c", (), TensorProto.BOOL), _value("v")],
        [_value("c2", (), TensorProto.BOOL), _value("v2")],
    )  # fmt: skip
    return _bytes([node("Loop", ["", "true", "x"], ["y"], body=body)], [_tensor("true", True, np.bool_)])


_add("a Loop without end", _loop, UNSAFE, "too-slow")


def _scan() -> bytes:
    body = helper.make_graph(
        [node("Add", ["s", "e"], ["s2"]), node("Identity", ["s2"], ["o"])], "body",
        [_value("s", (4,)), _value("e", (4,))], [_value("s2", (4,)), _value("o", (4,))],
    )  # fmt: skip
    made = [
        node("ConstantOfShape", ["n"], ["many"], value=_tensor("v", [0.0], np.float32)),
        node("ConstantOfShape", ["four"], ["start"], value=_tensor("v", [0.0], np.float32)),
        node("Scan", ["start", "many"], ["last", "all"], body=body, num_scan_inputs=1),
        node("Add", ["x", "last"], ["y"]),
    ]
    return _bytes(made, [_tensor("n", [2**26, 4]), _tensor("four", [4])])


_add("a Scan over 2^26 rows", _scan)
_add(
    "30,000 nodes",
    lambda: _bytes(
        [node("Relu", [f"n{i - 1}" if i else "x"], [f"n{i}" if i < 29_999 else "y"]) for i in range(30_000)]
    ),
    UNSAFE,
)
_add("an opset of the far future", lambda: _future())
_add("no graph", lambda: _IR)
_add("an attribute with two values", lambda: _two_values())


def _future() -> bytes:
    made = _model(_graph([node("Relu", ["x"], ["y"])]))
    made.opset_import[0].version = 2**40
    data: bytes = made.SerializeToString()
    return data


def _two_values() -> bytes:
    leaky = node("LeakyRelu", ["x"], ["y"], alpha=0.1)
    leaky.attribute[0].s = b"code"
    leaky.attribute[0].type = onnx.AttributeProto.STRING
    return _bytes([leaky])
