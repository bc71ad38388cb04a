"""Students: narrower copies of every architecture, drawn anew; and other networks under the job's own names."""

from __future__ import annotations

import pytest
import torch
from torch import fx, nn

from compression.distillation.hints import Regressors, match, tapped
from compression.distillation.student import adopted, fresh, narrower
from compression.errors import MethodError
from compression.measure.cost import cost_of
from compression.network import Input, Network, Signature, Variant
from compression.zoo.catalog import zoo_network
from tests.engine.nets import Chain, Residual, network_of
from tests.engine.test_methods import SMALL


@pytest.mark.parametrize("architecture", SMALL)
def test_a_narrower_copy_is_as_small_as_asked_and_new(architecture: str) -> None:
    network = zoo_network(architecture, SMALL[architecture], seed=0)
    small = narrower(network, 0.4, seed=1)
    before = cost_of(network).macs
    assert 0.2 * before < cost_of(small).macs <= 0.4 * before
    with torch.no_grad():
        assert small.module(*small.example(3)).shape == network.module(*network.example(3)).shape
    weights = {name: value for name, value in small.module.state_dict().items() if name.endswith("weight")}
    again, other = (fresh(small, seed).module.state_dict() for seed in (1, 2))
    assert all(torch.equal(value, again[name]) for name, value in weights.items())
    assert any(not torch.equal(value, other[name]) for name, value in weights.items())


def test_a_target_out_of_reach_is_told() -> None:
    with pytest.raises(MethodError, match="of every width one"):
        narrower(network_of(Chain(), 1, 8, 8), 0.001, seed=0)


def test_weights_are_drawn_as_the_layers_class_draws_them() -> None:
    network = network_of(Residual(), 1, 8, 8)
    drawn = fresh(network, seed=3)
    norm = drawn.module.get_submodule("norm")
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.weight.tolist() == [1.0] * 8
    assert norm.running_mean is not None
    assert norm.running_mean.tolist() == [0.0] * 8
    bound = 1 / 6**0.5 / 3  # of 6 × 3 × 3 inputs: nn.Conv2d draws uniformly within 1/√fan-in
    outer = drawn.module.get_submodule("outer").weight
    assert isinstance(outer, nn.Parameter)
    assert 0.8 * bound < float(outer.detach().abs().max()) <= bound


def test_another_network_takes_the_names_of_the_jobs_model() -> None:
    network = network_of(Chain(), 1, 8, 8).replaced(
        signature=Signature((Input("conv1", (1, 8, 8)),), ("scores",)),
        variants={"full": Variant((0,)), "fast": Variant((0,))},
    )
    student = network_of(Residual(), 1, 8, 8)
    same = adopted(student, network)
    assert (same.signature, same.variants) == (network.signature, network.variants)
    assert [node.name for node in same.module.graph.nodes if node.op == "placeholder"] == ["conv1"]
    x = student.example(4)
    assert torch.equal(same.module(*x), student.module(*x))
    with pytest.raises(MethodError, match="the student takes"):
        adopted(network_of(Residual(), 1, 9, 9), network)
    with pytest.raises(MethodError, match="2 outputs"):
        adopted(student.replaced(signature=Signature(student.signature.inputs, ("a", "b"))), network)


class Difference(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return self.head(a - 2 * b)


def test_inputs_of_the_same_names_are_told_apart_by_them() -> None:
    module = fx.symbolic_trace(Difference())
    network = Network(module, Signature((Input("a", (4,)), Input("b", (4,)))))
    swapped = fx.Graph()
    b, a = swapped.placeholder("b"), swapped.placeholder("a")
    copies = dict(zip((node for node in module.graph.nodes if node.op == "placeholder"), (a, b), strict=True))
    swapped.output(swapped.graph_copy(module.graph, copies))
    student = Network(fx.GraphModule(module, swapped), Signature((Input("b", (4,)), Input("a", (4,)))))
    x = network.example(5)
    assert torch.equal(student.module(x[1], x[0]), network.module(*x))
    assert torch.equal(adopted(student, network).module(*x), network.module(*x))


def test_hints_meet_at_the_end_of_each_image_size() -> None:
    teacher = zoo_network("resnet20", SMALL["resnet20"], seed=0)
    student = narrower(teacher, 0.3, seed=0)
    pairs = match(student, teacher)
    assert [pair.student for pair in pairs] == [pair.teacher for pair in pairs]  # the same graph, but for its widths
    assert [pair.teacher_channels for pair in pairs if pair.image][:3] == [8, 16, 32]
    module = tapped(student.module, [pair.student for pair in pairs])
    x = student.example(2)
    outputs, *features = module(*x)
    assert torch.equal(outputs, student.module(*x))
    assert [value.shape[1] for value in features] == [pair.student_channels for pair in pairs]
    regressors = Regressors(pairs, seed=0)
    theirs = tapped(teacher.module, [pair.teacher for pair in pairs])(*x)[1:]
    shapes = [layer(value).shape for layer, value in zip(regressors.layers, features, strict=True)]
    assert shapes == [value.shape for value in theirs]
    layer = regressors.layers[0]
    expected = (layer(features[0]) - theirs[0]).square().mean() / theirs[0].square().mean()
    only = Regressors(pairs[:1], seed=0).loss(features[:1], theirs[:1])
    torch.testing.assert_close(only, expected)


def test_perceptrons_and_transformers_meet_at_the_same_depth() -> None:
    small, large = (zoo_network("lenet300", {"features": n}, seed=0) for n in (49, 49))
    assert [(pair.student, pair.teacher, pair.image) for pair in match(small, large)] == [
        ("relu1", "relu1", False),
        ("relu2", "relu2", False),
    ]
    teacher = zoo_network("vit-tiny", SMALL["vit-tiny"], seed=0)
    pairs = match(narrower(teacher, 0.5, seed=0), teacher)
    assert pairs
    assert not any(pair.image for pair in pairs[1:])
