"""The JSON form of a graph: exact there and back, and nothing in it is trusted."""

import contextlib
import copy
import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import fx, nn

from compression.errors import IntakeError
from compression.graph_json import graph_to_json
from compression.graph_parse import graph_from_json
from compression.vocabulary import FUNCTIONS, MODULES, aten, function_name, is_identifier, is_path, used_tensors

LEAVES = [
    nn.Conv1d(4, 6, 3, padding="same"),
    nn.Conv2d(4, 6, (3, 1), (2, 1), 1, groups=2, bias=False, padding_mode="reflect"),
    nn.ConvTranspose2d(4, 6, 3, 2, output_padding=1),
    nn.Linear(4, 6, bias=False),
    nn.BatchNorm1d(4, momentum=None),
    nn.BatchNorm2d(4, affine=False),
    nn.LayerNorm([4, 5], bias=False),
    nn.GroupNorm(2, 4),
    nn.Embedding(7, 3, padding_idx=2),
    nn.PReLU(4),
    nn.ReLU(),
    nn.ReLU6(),
    nn.Hardtanh(-2.0, 3.0),
    nn.SiLU(),
    nn.Sigmoid(),
    nn.Tanh(),
    nn.GELU("tanh"),
    nn.Hardswish(),
    nn.Hardsigmoid(),
    nn.LeakyReLU(0.3),
    nn.ELU(0.5),
    nn.Mish(),
    nn.Softplus(2.0),
    nn.Softmax(1),
    nn.LogSoftmax(-1),
    nn.Dropout(0.25),
    nn.Dropout2d(0.25),
    nn.Identity(),
    nn.MaxPool1d(2),
    nn.MaxPool2d((2, 1), ceil_mode=True),
    nn.AvgPool1d(2),
    nn.AvgPool2d(2, divisor_override=3),
    nn.AdaptiveAvgPool1d(2),
    nn.AdaptiveAvgPool2d((2, None)),
    nn.AdaptiveMaxPool2d(1),
    nn.Upsample(scale_factor=(2.0, 2.0), mode="bilinear", align_corners=True),
    nn.PixelShuffle(2),
    nn.LSTM(4, 3, bidirectional=True),
    nn.GRU(4, 3),
]


def through_json(graph):
    return graph_from_json(json.loads(json.dumps(graph_to_json(graph))), used_tensors(graph))


def of_leaf(leaf):
    graph = fx.Graph()
    graph.output(graph.call_module("leaf", (graph.placeholder("x"),)))
    return fx.GraphModule({"leaf": leaf}, graph)


def test_every_leaf_is_tried():
    assert {type(leaf) for leaf in LEAVES} == set(MODULES)


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: type(leaf).__name__)
def test_a_leaf_keeps_its_arguments_and_tensors(leaf):
    back = through_json(of_leaf(leaf)).get_submodule("leaf")
    assert repr(back) == repr(leaf)
    assert list(back.state_dict()) == list(leaf.state_dict())
    for name, tensor in leaf.state_dict().items():
        torch.testing.assert_close(back.state_dict()[name], tensor, rtol=0, atol=0)


class Everything(nn.Module):
    """Shared modules and tensors, tensors of its own, nested names, slices, numbers that JSON lacks."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 8)
        self.twice = nn.Linear(8, 8)
        self.head = nn.Linear(8, 10, bias=False)
        self.head.weight = self.embed.weight
        self.inner = nn.Sequential(nn.ReLU())
        self.inner.scale = nn.Parameter(torch.randn(8))
        self.register_buffer("floor", torch.tensor(-float("inf")))

    def forward(self, input):  # noqa: A002 - a name that Python knows
        x = self.twice(self.twice(self.embed(input)))
        x = torch.mean(x, [1], keepdim=True)[:, 0, ...] * self.inner.scale
        x = torch.ops.aten.maximum.default(self.inner(x), self.floor)
        x = torch.ops.aten.clamp.default(x, -float("inf"), 3.0)
        return self.head(x), torch.cat([x, torch.flatten(x, 1)], 1)


@pytest.fixture
def everything():
    torch.manual_seed(0)
    return fx.symbolic_trace(Everything().eval())


def test_a_graph_comes_back_exactly(everything):
    back = through_json(everything)
    x = torch.randint(0, 10, (3, 5))
    for a, b in zip(everything(x), back(x), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert graph_to_json(back) == graph_to_json(everything)
    assert back.head.weight is back.embed.weight
    assert [name for name, _ in back.named_parameters()] == [name for name, _ in everything.named_parameters()]


def test_a_module_with_two_names_stays_one(everything):
    everything.again = everything.twice
    node = next(node for node in everything.graph.nodes if node.name == "twice_1")
    node.target = "again"
    everything.recompile()
    document = graph_to_json(everything)
    assert document["aliases"]["again"] == "twice"
    back = through_json(everything)
    assert back.again is back.twice


def test_what_is_not_in_the_vocabulary_is_not_written(everything):
    node = next(node for node in everything.graph.nodes if node.target is torch.flatten)
    node.target = torch.ravel
    with pytest.raises(ValueError, match="vocabulary"):
        graph_to_json(everything)
    with pytest.raises(ValueError, match="vocabulary"):
        graph_to_json(of_leaf(nn.RReLU()))


def test_names():
    assert all(function_name(function.call) == name for name, function in FUNCTIONS.items())
    assert aten("aten.add.Tensor") is torch.ops.aten.add.Tensor
    refused = [
        "aten.add.out",
        "aten.add_.Tensor",
        "aten.from_file.default",
        "aten.add",
        "os.system",
        "aten.add.__doc__",
    ]
    assert [aten(name) for name in refused] == [None] * len(refused)
    assert is_identifier("input")
    assert not any(map(is_identifier, ["", "self", "class", "1x", "a b", "x=1", "é"]))
    assert is_path("blocks.0.conv1")
    assert not any(map(is_path, ["", "a..b", "forward", "a.graph", "__class__", "a b", ".a", "a.class"]))


def tampered(document, *path, value):
    document = copy.deepcopy(document)
    holder = document
    for key in path[:-1]:
        holder = holder[key]
    if value is None and path[-2:] != ("args", 0):
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return document


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("nodes",), None),
        (("nodes",), []),
        (("nodes", 0, "op"), "call_method"),
        (("nodes", 0, "target"), "x=__import__('os')"),
        (("nodes", 0, "name"), "a b"),
        (("nodes", 1, "target"), "forward"),
        (("nodes", 1, "target"), "embed.weight"),
        (("nodes", 1, "target"), "nowhere"),
        (("nodes", 1, "args"), []),
        (("nodes", 1, "args"), [1]),
        (("nodes", 1, "args"), [{"node": "output"}]),
        (("nodes", 1, "kwargs"), {"a": 1}),
        (("nodes", 5, "kwargs"), {"a=print('x'), keepdim": True}),
        (("nodes", 10, "kwargs"), {"a=print('x'), b": True}),
        (("nodes", 1, "name"), "input_1"),
        (("nodes", 5, "args", 0), None),
        (("nodes", 5, "args", 0), 1),
        (("nodes", -1), None),
        (("modules", "embed", "kind"), "Module"),
        (("modules", "embed", "arguments", "num_embeddings"), 11),
        (("modules", "embed", "arguments", "num_embeddings"), 2**60),
        (("modules", "embed", "arguments", "num_embeddings"), -1),
        (("modules", "embed", "arguments", "num_embeddings"), "10"),
        (("modules", "embed", "arguments", "num_embeddings"), 0),
        (("modules", "head", "arguments", "in_features"), 0),
        (("modules", "embed", "arguments", "padding_idx"), 0.5),
        (("modules", "embed", "arguments", "padding_idx"), {"tuple": [{"tuple": [1]}]}),
        (("modules", "embed", "arguments", "device"), "cpu"),
        (("modules", "embed"), None),
        (("modules", "forward"), {"kind": "ReLU", "arguments": {}}),
        (("modules", "embed.inside"), {"kind": "ReLU", "arguments": {}}),
        (("parameters",), []),
        (("parameters",), ["inner.scale", "inner.scale"]),
        (("parameters",), ["inner.scale", "floor"]),
        (("buffers",), ["inner.scale", "floor"]),
        (("aliases",), {}),
        (("aliases",), {"head.weight": "nowhere"}),
        (("aliases",), {"head.weight": "embed.weight", "embed.weight": "head.weight"}),
        (("extra",), 1),
    ],
)
def test_a_tampered_graph_is_refused(everything, path, value):
    document = tampered(graph_to_json(everything), *path, value=value)
    with pytest.raises(IntakeError):
        graph_from_json(document, used_tensors(everything))


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.pop("embed.weight"),
        lambda tensors: tensors.update(more=torch.zeros(1)),
        lambda tensors: tensors.update({"embed.weight": torch.zeros(10, 9)}),
        lambda tensors: tensors.update({"embed.weight": torch.zeros(10, 8, dtype=torch.float64)}),
        lambda tensors: tensors.update({"inner.scale": torch.zeros(8, dtype=torch.int64)}),
    ],
)
def test_tensors_that_do_not_fit_are_refused(everything, change):
    tensors = used_tensors(everything)
    change(tensors)
    with pytest.raises(IntakeError):
        graph_from_json(graph_to_json(everything), tensors)


ODD = [
    None,
    True,
    0,
    -1,
    2**31,
    2**70,
    0.5,
    "",
    "x",
    "forward",
    [],
    {},
    {"node": "twice"},
    {"tuple": [1]},
    {"dtype": "x"},
]


def changed(value, draw):
    if isinstance(value, dict) and value and draw(st.integers(0, 3)):
        key = draw(st.sampled_from(sorted(value)))
        return value | {key: changed(value[key], draw)}
    if isinstance(value, list) and value and draw(st.integers(0, 3)):
        index = draw(st.integers(0, len(value) - 1))
        return [*value[:index], changed(value[index], draw), *value[index + 1 :]]
    return draw(st.sampled_from(ODD))


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_change_gives_a_graph_or_an_intake_error(everything, data):
    document = changed(graph_to_json(everything), data.draw)
    with contextlib.suppress(IntakeError):
        assert isinstance(graph_from_json(document, used_tensors(everything)), fx.GraphModule)
