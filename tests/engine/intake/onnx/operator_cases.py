"""Small graphs for every operator that is lifted: (operator, nodes, stored tensors, shape of x, opset)."""

import numpy as np
from onnx import TensorProto, helper

from tests.engine.intake.onnx.graphs import tensor, weights

node = helper.make_node
draw = weights()
ROW, IMAGE, SEQUENCE = ("n", 6), ("n", 4, 8, 8), ("n", 5, 4)
WHOLE = np.int64


def one(operator, *inputs, stored=(), shape=ROW, opset=17, outputs=1, **attributes):
    """A case of one node on x and stored tensors."""
    names = ["y", *[f"y{index}" for index in range(1, outputs)]]
    return operator, [node(operator, ["x", *inputs], names, **attributes)], list(stored), shape, opset


def several(operator, nodes, stored=(), shape=ROW, opset=17):
    return operator, nodes, list(stored), shape, opset


def compared(operator):
    """A comparison's outcome as numbers."""
    nodes = [node(operator, ["x", "c"], ["b"]), node("Cast", ["b"], ["y"], to=TensorProto.FLOAT)]
    return several(operator, nodes, [draw("c", 6)])


def logical(operator, *, alone=False):
    start = [node("Greater", ["x", "a"], ["p"]), node("Less", ["x", "b"], ["q"])]
    inputs = ["p"] if alone else ["p", "q"]
    last = [node(operator, inputs, ["r"]), node("Cast", ["r"], ["y"], to=TensorProto.FLOAT)]
    return several(operator, start + last, [tensor("a", -0.3), tensor("b", 0.5)])


def whole(operator, number):
    """Of whole numbers, negative ones too."""
    nodes = [
        node("Cast", ["x"], ["i"], to=TensorProto.INT64),
        node("Mul", ["i", "seven"], ["j"]),
        node(operator, ["j", "c"], ["k"]),
        node("Cast", ["k"], ["y"], to=TensorProto.FLOAT),
    ]
    return several(operator, nodes, [tensor("seven", 7, WHOLE), tensor("c", number, WHOLE)])


def positive(operator, **attributes):
    return several(operator, [node("Abs", ["x"], ["a"]), node(operator, ["a"], ["y"], **attributes)])


def resized(opset=13, shape=IMAGE, scales=None, sizes=None, **attributes):
    inputs = ["x", "", "scales"] if sizes is None else ["x", "", "", "sizes"]
    stored = [tensor("scales", scales)] if sizes is None else [tensor("sizes", sizes, WHOLE)]
    return several("Resize", [node("Resize", inputs, ["y"], **attributes)], stored, shape, opset)


def recurrent(operator, gates, *, both=False, bias=True, state=False, last=False, **attributes):
    ways = 2 if both else 1
    stored = [draw("w", ways, gates * 3, 4), draw("r", ways, gates * 3, 3), draw("b", ways, 2 * gates * 3)]
    inputs = ["t", "w", "r", "b" if bias else ""]
    nodes = [node("Transpose", ["x"], ["t"], perm=[1, 0, 2])]
    if state:
        nodes += [
            node("Shape", ["x"], ["s"]),
            node("Gather", ["s", "zero"], ["count"]),
            node("Concat", ["ways", "count", "three"], ["form"], axis=0),
            node("ConstantOfShape", ["form"], ["h0"]),
        ]
        stored += [tensor("zero", [0], WHOLE), tensor("ways", [ways], WHOLE), tensor("three", [3], WHOLE)]
        inputs += ["", "h0", *(["h0"] if operator == "LSTM" else [])]
    direction = {"direction": "bidirectional"} if both else {}
    outputs = ["", "o"] if last else ["o"]
    nodes.append(node(operator, inputs, outputs, hidden_size=3, **direction, **attributes))
    order = [1, 0, 2] if last else [2, 0, 1, 3]
    nodes.append(node("Transpose", ["o"], ["y"], perm=order))
    return several(operator, nodes, stored, SEQUENCE)


def attention(rank, **attributes):
    shape = ("n", 5, 8) if rank == 3 else ("n", 2, 5, 4)
    return several("Attention", [node("Attention", ["x", "x", "x"], ["y"], **attributes)], [], shape, 23)


def embedded():
    nodes = [
        node("Cast", ["x"], ["i"], to=TensorProto.INT64),
        node("Abs", ["i"], ["j"]),
        node("Clip", ["j", "", "three"], ["k"]),
        node("Gather", ["table", "k"], ["y"]),
    ]
    return several("Gather", nodes, [tensor("three", 3, WHOLE), draw("table", 4, 5)])


def norm(opset, groups, channels):
    stored = [draw("s", channels), draw("b", channels)]
    nodes = [node("GroupNormalization", ["x", "s", "b"], ["y"], num_groups=groups)]
    return several("GroupNormalization", nodes, stored, IMAGE, opset)


CASES = [
    one("Add", "c", stored=[draw("c", 6)]),
    one("Add", "c", stored=[tensor("c", 2.0)]),
    several("Add", [node("Add", ["c", "x"], ["y"])], [draw("c", 1, 1)]),
    one("Sub", "c", stored=[draw("c", 6)]),
    several("Sub", [node("Sub", ["c", "x"], ["y"])], [tensor("c", 1.0)]),
    one("Mul", "x"),
    one("Div", "c", stored=[tensor("c", 3.0)]),
    whole("Div", 2),
    whole("Mod", 4),
    one("Mod", "c", stored=[tensor("c", 0.3)], fmod=1),
    one("Pow", "c", stored=[tensor("c", 3.0)]),
    several("Pow", [node("Pow", ["c", "x"], ["y"])], [tensor("c", 2.0)]),
    several("Pow", [node("Abs", ["x"], ["a"]), node("Pow", ["a", "x"], ["y"])]),
    *[one(name) for name in ("Neg", "Abs", "Exp", "Erf", "Floor", "Ceil", "Round", "Sign", "Sin", "Cos", "Softsign")],
    positive("Sqrt"),
    positive("Log"),
    several("Reciprocal", [node("Exp", ["x"], ["e"]), node("Reciprocal", ["e"], ["y"])]),
    several(
        "IsNaN",
        [node("Log", ["x"], ["l"]), node("IsNaN", ["l"], ["n"]), node("Where", ["n", "x", "l"], ["y"])],
    ),
    logical("Not", alone=True),
    logical("And"),
    logical("Or"),
    logical("Xor"),
    *[compared(name) for name in ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")],
    several(
        "Greater",
        [node("Greater", ["c", "x"], ["b"]), node("Cast", ["b"], ["y"], to=TensorProto.FLOAT)],
        [tensor("c", 0.2)],
    ),
    one("Max", "c", "d", stored=[tensor("c", 0.1), draw("d", 6)]),
    several("Min", [node("Min", ["c", "x"], ["y"])], [tensor("c", 0.1)]),
    one("Min", "c", stored=[draw("c", 6)]),
    one("Sum", "x", "c", stored=[draw("c", 6)]),
    one("Mean", "c", stored=[draw("c", 6)]),
    several(
        "Where",
        [node("Less", ["x", "c"], ["b"]), node("Where", ["b", "x", "d"], ["y"])],
        [draw("c", 6), tensor("d", 2.0)],
    ),
    one("Clip", "", "c", stored=[tensor("c", 0.5)]),
    one("Clip", "c", stored=[tensor("c", 0.0)]),
    one("Clip", "a", "b", stored=[tensor("a", -0.5), tensor("b", 0.5)]),
    one("Clip", "a", "b", stored=[tensor("a", 0.0), tensor("b", 6.0)]),
    several(
        "Cast", [node("Cast", ["x"], ["i"], to=TensorProto.INT32), node("Cast", ["i"], ["y"], to=TensorProto.FLOAT)]
    ),
    several(
        "CastLike",
        [node("Cast", ["x"], ["i"], to=TensorProto.INT64), node("CastLike", ["i", "x"], ["y"])],
    ),
    *[one(name) for name in ("Relu", "Sigmoid", "Tanh", "Elu", "Selu", "Celu", "HardSigmoid", "HardSwish", "Softplus")],
    one("Celu", alpha=2.0),
    one("Elu", alpha=0.4),
    one("LeakyRelu", alpha=0.2),
    one("Mish", opset=18),
    one("Gelu", opset=20),
    one("Gelu", opset=20, approximate="tanh"),
    one("PRelu", "s", stored=[draw("s", 4, 1, 1)], shape=IMAGE),
    one("PRelu", "s", stored=[tensor("s", [0.3])]),
    one("Softmax"),
    one("Softmax", shape=SEQUENCE, axis=1),
    one("Softmax", shape=SEQUENCE, opset=11),
    one("LogSoftmax", axis=-1),
    one(
        "Conv",
        "w",
        "b",
        stored=[draw("w", 6, 2, 3, 3), draw("b", 6)],
        shape=IMAGE,
        group=2,
        pads=[1] * 4,
        strides=[2, 1],
    ),
    one("Conv", "w", stored=[draw("w", 6, 4, 3, 3)], shape=IMAGE, pads=[1, 0, 2, 1], dilations=[1, 2]),
    one("Conv", "w", stored=[draw("w", 6, 4, 3, 3)], shape=IMAGE, auto_pad="SAME_UPPER", strides=[2, 2]),
    one("Conv", "w", stored=[draw("w", 6, 4, 4, 4)], shape=IMAGE, auto_pad="SAME_LOWER"),
    one("Conv", "w", stored=[draw("w", 6, 4, 3, 3)], shape=IMAGE, auto_pad="VALID"),
    one("Conv", "w", stored=[draw("w", 6, 5, 3)], shape=SEQUENCE, pads=[1, 1]),
    one(
        "ConvTranspose",
        "w",
        "b",
        stored=[draw("w", 4, 6, 3, 3), draw("b", 6)],
        shape=IMAGE,
        strides=[2, 2],
        pads=[1] * 4,
    ),
    one(
        "ConvTranspose",
        "w",
        stored=[draw("w", 4, 3, 2, 2)],
        shape=IMAGE,
        group=2,
        strides=[2, 2],
        output_padding=[1, 1],
    ),
    one("ConvTranspose", "w", stored=[draw("w", 4, 3, 3, 3)], shape=IMAGE, strides=[2, 2], pads=[1, 1, 0, 0]),
    one("ConvTranspose", "w", stored=[draw("w", 4, 3, 3, 3)], shape=IMAGE, strides=[2, 2], pads=[0, 0, 1, 1]),
    one("ConvTranspose", "w", stored=[draw("w", 4, 3, 4, 4)], shape=IMAGE, pads=[2, 0, 0, 1], output_padding=[0, 0]),
    one("ConvTranspose", "w", stored=[draw("w", 4, 3, 3, 3)], shape=IMAGE, strides=[2, 2], auto_pad="SAME_UPPER"),
    one("ConvTranspose", "w", stored=[draw("w", 4, 3, 3, 3)], shape=IMAGE, strides=[3, 3], auto_pad="VALID"),
    one("ConvTranspose", "w", stored=[draw("w", 4, 3, 3, 3)], shape=IMAGE, strides=[2, 2], output_shape=[16, 15]),
    one("ConvTranspose", "w", "b", stored=[draw("w", 5, 3, 3), draw("b", 3)], shape=SEQUENCE, strides=[2]),
    one("ConvTranspose", "w", stored=[draw("w", 5, 3, 3)], shape=SEQUENCE, strides=[2], pads=[0, 1]),
    one("Gemm", "w", "b", stored=[draw("w", 3, 6), draw("b", 3)], transB=1),
    one("Gemm", "w", "b", stored=[draw("w", 6, 3), tensor("b", [0.5])], alpha=0.5, beta=2.0),
    one("Gemm", "w", stored=[draw("w", 6, 3)]),
    one("Gemm", "w", "b", stored=[draw("w", 3, 6), draw("b", 1, 3)], transB=1, opset=11),
    one("MatMul", "w", stored=[draw("w", 4, 3)], shape=SEQUENCE),
    one("MatMul", "w", stored=[draw("w", 2, 4, 3)], shape=("n", 2, 5, 4)),
    several(
        "MatMul", [node("Transpose", ["x"], ["t"], perm=[0, 2, 1]), node("MatMul", ["x", "t"], ["y"])], [], SEQUENCE
    ),
    several("MatMul", [node("MatMul", ["w", "x"], ["y"])], [draw("w", 3, 5)], SEQUENCE),
    *[
        several(
            "BatchNormalization",
            [node("BatchNormalization", ["x", "s", "b", "m", "v"], ["y"], epsilon=1e-3)],
            [draw("s", shape[1]), draw("b", shape[1]), draw("m", shape[1]), tensor("v", np.linspace(0.5, 2, shape[1]))],
            shape,
        )
        for shape in (IMAGE, SEQUENCE, ROW)
    ],
    one("LayerNormalization", "s", "b", stored=[draw("s", 4), draw("b", 4)], shape=SEQUENCE, epsilon=1e-3),
    one("LayerNormalization", "s", stored=[draw("s", 5, 4)], shape=SEQUENCE, axis=1),
    one("InstanceNormalization", "s", "b", stored=[draw("s", 4), draw("b", 4)], shape=IMAGE),
    norm(18, 2, 2),
    norm(21, 2, 4),
    one("RMSNormalization", "s", stored=[draw("s", 4)], shape=SEQUENCE, opset=23),
    one("MaxPool", shape=IMAGE, kernel_shape=[2, 2], strides=[2, 2]),
    one("MaxPool", shape=IMAGE, kernel_shape=[3, 3], pads=[0, 1, 1, 0], strides=[2, 2]),
    one("MaxPool", shape=IMAGE, kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2], ceil_mode=1),
    one("MaxPool", shape=SEQUENCE, kernel_shape=[2]),
    one("AveragePool", shape=IMAGE, kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2]),
    one("AveragePool", shape=IMAGE, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1),
    one("AveragePool", shape=IMAGE, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    one("AveragePool", shape=IMAGE, kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]),
    one("AveragePool", shape=IMAGE, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 0]),
    one("AveragePool", shape=("n", 4, 9, 8), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 1, 1]),
    one("AveragePool", shape=IMAGE, kernel_shape=[3, 3], strides=[3, 3], auto_pad="SAME_LOWER"),
    one("AveragePool", shape=IMAGE, kernel_shape=[2, 2], pads=[0, 0, 1, 1]),
    one("AveragePool", shape=SEQUENCE, kernel_shape=[3], strides=[2], auto_pad="SAME_UPPER"),
    one("AveragePool", shape=SEQUENCE, kernel_shape=[2], strides=[2]),
    one("GlobalAveragePool", shape=IMAGE),
    several(
        "Pow",  # a whole base stays whole: 7 ** 1.5 is 18
        [
            node("Abs", ["x"], ["a"]),
            node("Mul", ["a", "three"], ["b"]),
            node("Cast", ["b"], ["i"], to=TensorProto.INT32),
            node("Pow", ["i", "e"], ["p"]),
            node("Cast", ["p"], ["y"], to=TensorProto.FLOAT),
        ],
        [tensor("three", 3.0), tensor("e", 1.5)],
    ),
    several(
        "Gather",  # ids as floating-point numbers, as Keras takes them
        [node("Cast", ["x"], ["i"], to=TensorProto.INT32), node("Gather", ["w", "i"], ["y"])],
        [draw("w", 9, 4)],
    ),
    one("Einsum", "w", stored=[draw("w", 4, 3)], shape=SEQUENCE, equation="...i,ij"),
    one("GlobalAveragePool", shape=SEQUENCE),
    one("GlobalMaxPool", shape=IMAGE),
    one("GlobalMaxPool", shape=SEQUENCE),
    several(
        "Shape",
        [
            node("Shape", ["x"], ["s"], start=0, end=2),
            node("Concat", ["s", "r"], ["t"], axis=0),
            node("Reshape", ["x", "t"], ["y"]),
        ],
        [tensor("r", [16, -1], WHOLE)],
        IMAGE,
    ),
    several(
        "Size",
        [
            node("Size", ["x"], ["s"]),
            node("Cast", ["s"], ["f"], to=TensorProto.FLOAT),
            node("Mul", ["f", "zero"], ["z"]),
            node("Reshape", ["z", "r"], ["y0"]),
            node("Add", ["x", "y0"], ["y"]),
        ],
        [tensor("zero", 0.0), tensor("r", [1], WHOLE)],
    ),
    one("Reshape", "s", stored=[tensor("s", [0, 2, -1], WHOLE)]),
    several(
        "Reshape",
        [node("Reshape", ["x", "s"], ["a"]), node("Softmax", ["a"], ["b"]), node("Reshape", ["b", "t"], ["y"])],
        [tensor("s", [-1, 3], WHOLE), tensor("t", [-1, 6], WHOLE)],
    ),
    one("Flatten", shape=IMAGE),
    several(
        "Flatten",
        [node("Flatten", ["x"], ["a"], axis=2), node("Softmax", ["a"], ["b"]), node("Reshape", ["b", "t"], ["y"])],
        [tensor("t", [-1, 4, 64], WHOLE)],
        IMAGE,
    ),
    several(
        "Squeeze",
        [node("ReduceMean", ["x"], ["m"], axes=[2]), node("Squeeze", ["m", "a"], ["y"])],
        [tensor("a", [2], WHOLE)],
        SEQUENCE,
    ),
    several(
        "Squeeze", [node("GlobalAveragePool", ["x"], ["m"]), node("Squeeze", ["m"], ["y"], axes=[2, 3])], [], IMAGE, 11
    ),
    one("Unsqueeze", "a", stored=[tensor("a", [1, -1], WHOLE)]),
    one("Unsqueeze", opset=11, axes=[1]),
    one("Transpose", shape=IMAGE, perm=[0, 2, 3, 1]),
    one("Concat", "x", axis=1),
    several("Split", [node("Split", ["x"], ["a", "b", "c"], axis=1), node("Concat", ["c", "a"], ["y"], axis=1)]),
    several(
        "Split",
        [node("Split", ["x", "s"], ["a", "b"], axis=1), node("Concat", ["b", "a"], ["y"], axis=1)],
        [tensor("s", [2, 4], WHOLE)],
    ),
    several(
        "Split", [node("Split", ["x"], ["a", "b"], axis=1, num_outputs=2), node("Sub", ["a", "b"], ["y"])], opset=18
    ),
    one(
        "Slice",
        "s",
        "e",
        "a",
        stored=[tensor("s", [1, -3], WHOLE), tensor("e", [4, 2**62], WHOLE), tensor("a", [2, 3], WHOLE)],
        shape=IMAGE,
    ),
    one(
        "Slice",
        "s",
        "e",
        "a",
        "t",
        stored=[tensor("s", [0], WHOLE), tensor("e", [8], WHOLE), tensor("a", [2], WHOLE), tensor("t", [2], WHOLE)],
        shape=IMAGE,
    ),
    one(
        "Slice",
        "s",
        "e",
        "a",
        "t",
        stored=[
            tensor("s", [-1], WHOLE),
            tensor("e", [-(2**62)], WHOLE),
            tensor("a", [1], WHOLE),
            tensor("t", [-1], WHOLE),
        ],
    ),
    embedded(),
    one("Gather", "i", stored=[tensor("i", -1, WHOLE)], shape=SEQUENCE, axis=1),
    one("Gather", "i", stored=[tensor("i", [0, 3, -1], WHOLE)], shape=SEQUENCE, axis=1),
    one("Gather", "i", stored=[tensor("i", [1, 2, 3], WHOLE)], shape=SEQUENCE, axis=1),
    one("Gather", "i", stored=[tensor("i", [[0, 1], [2, 2]], WHOLE)], shape=SEQUENCE, axis=1),
    one("Expand", "s", stored=[tensor("s", [3, 6], WHOLE)], shape=("n", 1, 6)),
    several(
        "Expand",
        [
            node("Shape", ["x"], ["s"]),
            node("Gather", ["s", "i"], ["c"]),
            node("Concat", ["c", "r"], ["t"], axis=0),
            node("Expand", ["token", "t"], ["e"]),
            node("Concat", ["e", "x"], ["y"], axis=1),
        ],
        [tensor("i", [0], WHOLE), tensor("r", [1, 4], WHOLE), draw("token", 1, 1, 4)],
        SEQUENCE,
    ),
    one("Tile", "r", stored=[tensor("r", [1, 3], WHOLE)]),
    several(
        "ConstantOfShape",
        [
            node("Shape", ["x"], ["s"]),
            node("ConstantOfShape", ["s"], ["c"], value=tensor("", [2.0])),
            node("Concat", ["c", "x"], ["y"], axis=1),
        ],
    ),
    several(
        "Range",
        [
            node("Shape", ["x"], ["s"]),
            node("Gather", ["s", "i"], ["n"]),
            node("Range", ["zero", "n", "one"], ["r"]),
            node("Cast", ["r"], ["f"], to=TensorProto.FLOAT),
            node("Add", ["x", "f"], ["y"]),
        ],
        [tensor("i", 1, WHOLE), tensor("zero", 0, WHOLE), tensor("one", 1, WHOLE)],
    ),
    one("Pad", "p", "v", stored=[tensor("p", [0, 0, 1, 2, 0, 0, 3, 0], WHOLE), tensor("v", 0.5)], shape=IMAGE),
    one("Pad", "p", stored=[tensor("p", [0, 0, 1, 2, 0, 0, 3, 0], WHOLE)], shape=IMAGE, mode="reflect"),
    one("Pad", "p", stored=[tensor("p", [0, 0, 1, 2, 0, 0, 3, 0], WHOLE)], shape=IMAGE, mode="edge"),
    one("Pad", "p", "", "a", stored=[tensor("p", [1, -1], WHOLE), tensor("a", [1], WHOLE)], opset=18),
    resized(scales=[1, 1, 2, 2], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    resized(scales=[1, 1, 2, 3], mode="nearest"),
    resized(scales=[1, 1, 1.5, 2.5], mode="linear"),
    resized(sizes=[1, 4, 13, 16], shape=(1, 4, 8, 8), mode="linear", coordinate_transformation_mode="align_corners"),
    resized(scales=[1, 1, 2, 2], mode="cubic"),
    resized(scales=[1, 1, 5 / 3, 4 / 3], mode="linear", shape=("n", 4, 24, 24)),  # 24 · 1.6666666 is 39.999998
    resized(scales=[1, 1, 1.7, 0.6], mode="linear"),
    resized(
        scales=[1, 1, 3, 3],
        mode="nearest",
        coordinate_transformation_mode="half_pixel",
        nearest_mode="round_prefer_ceil",
    ),
    several(
        "Resize",
        [
            node(
                "Resize",
                ["x", "roi", "scales"],
                ["y"],
                coordinate_transformation_mode="tf_half_pixel_for_nn",
                nearest_mode="floor",
            )
        ],
        [tensor("roi", []), tensor("scales", [1, 1, 3, 2])],
        IMAGE,
        11,
    ),
    resized(scales=[1, 1, 2, 2], mode="nearest", coordinate_transformation_mode="asymmetric"),
    resized(scales=[1, 1, 2], mode="linear", shape=SEQUENCE),
    several(
        "Resize",
        [node("Resize", ["x", "", "", "s"], ["y"], axes=[2, 3], mode="linear")],
        [tensor("s", [4, 6], WHOLE)],
        IMAGE,
        18,
    ),
    one("DepthToSpace", shape=IMAGE, blocksize=2),
    one("DepthToSpace", shape=IMAGE, blocksize=2, mode="CRD"),
    one("SpaceToDepth", shape=IMAGE, blocksize=2),
    one("Trilu", shape=SEQUENCE),
    one("Trilu", "k", stored=[tensor("k", 1, WHOLE)], shape=SEQUENCE, upper=0),
    several("Identity", [node("Identity", ["x"], ["a"]), node("Relu", ["a"], ["y"])]),
    several("Dropout", [node("Dropout", ["x", "r"], ["a"]), node("Relu", ["a"], ["y"])], [tensor("r", 0.5)]),
    one("CumSum", "a", stored=[tensor("a", 1, WHOLE)]),
    one("ReduceMean", shape=IMAGE, axes=[2, 3], keepdims=0),
    one("ReduceMean", "a", stored=[tensor("a", [-1], WHOLE)], shape=SEQUENCE, opset=18),
    one("ReduceSum", "a", stored=[tensor("a", [1], WHOLE)], shape=SEQUENCE),
    one("ReduceSum", opset=11, shape=SEQUENCE, axes=[1]),
    *[
        one(name, shape=SEQUENCE, axes=[1])
        for name in ("ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp")
    ],
    several("ReduceLogSum", [node("Abs", ["x"], ["a"]), node("ReduceLogSum", ["a"], ["y"], axes=[1])]),
    several(
        "ReduceProd",
        [
            node("Shape", ["x"], ["s"], start=1),
            node("ReduceProd", ["s"], ["p"]),
            node("Concat", ["m", "p"], ["t"], axis=0),
            node("Reshape", ["x", "t"], ["y"]),
        ],
        [tensor("m", [-1], WHOLE)],
        IMAGE,
    ),
    several("ArgMax", [node("ArgMax", ["x"], ["i"], axis=1), node("Cast", ["i"], ["y"], to=TensorProto.FLOAT)]),
    several(
        "ArgMin",
        [
            node("ArgMin", ["x"], ["i"], axis=1, keepdims=0),
            node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
            node("Unsqueeze", ["f", "a"], ["y"]),
        ],
        [tensor("a", [1], WHOLE)],
    ),
    one("Einsum", "w", stored=[draw("w", 4, 3)], shape=SEQUENCE, equation="nij,jk->nik"),
    one("Einsum", "w", stored=[draw("w", 5, 3)], shape=SEQUENCE, equation="nij,ik->njk"),
    one("Einsum", "x", shape=SEQUENCE, equation="nij,nij->n"),
    recurrent("LSTM", 4),
    recurrent("LSTM", 4, both=True, state=True),
    recurrent("LSTM", 4, bias=False, last=True),
    recurrent("GRU", 3, linear_before_reset=1),
    recurrent("GRU", 3, both=True, state=True, last=True, linear_before_reset=1),
    attention(3, q_num_heads=2, kv_num_heads=2),
    attention(4, is_causal=1),
    attention(4, scale=0.3),
    several(
        "Constant",
        [node("Constant", [], ["c"], value_floats=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), node("Add", ["x", "c"], ["y"])],
    ),
]
