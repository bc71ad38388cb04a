import copy

import pytest
import torch
from torch import nn

from compression.errors import IntakeError
from compression.graph_json import graph_to_json
from compression.intake.model import read_model
from compression.network import as_tuple
from tests.engine.intake import nets


def inputs_like(example, batch):
    torch.manual_seed(batch)
    if example.is_floating_point():
        return torch.randn(batch, *example.shape[1:])
    return torch.randint(0, 11, (batch, *example.shape[1:]))


@pytest.mark.parametrize("name", nets.NETS)
def test_a_lifted_network_is_the_original_bit_for_bit(archive, name):
    original, example = nets.make(name)
    network = read_model(archive(name))
    graph_to_json(network.module)  # raises if anything is outside of the vocabulary
    assert not any("aten." in str(n.target) for n in network.module.graph.nodes) or name == "attention"
    for batch in (1, 2, 5):
        x = inputs_like(example, batch)
        with torch.no_grad():
            wanted, got = as_tuple(original(x)), as_tuple(network.module(x))
        assert len(wanted) == len(got)
        for a, b in zip(wanted, got, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("name", nets.NETS)
def test_training_is_the_original_too(archive, name):
    original, example = nets.make(name)
    lifted = read_model(archive(name)).module
    x = inputs_like(example, 6)
    results = []
    for module in (original, lifted):
        module.train()
        torch.manual_seed(7)
        output = as_tuple(module(x))
        sum(value.square().sum() for value in output).backward()
        results.append((output, [p.grad for p in module.parameters()], list(module.buffers())))
    (outputs, gradients, buffers), (outputs_2, gradients_2, buffers_2) = results
    for a, b in zip(outputs, outputs_2, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    by_norm = [sorted(gradients, key=order), sorted(gradients_2, key=order)]
    for a, b in zip(*by_norm, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
    assert len(buffers) == len(buffers_2)
    for a, b in zip(sorted(buffers, key=order), sorted(buffers_2, key=order), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def order(tensor):
    return (tuple(tensor.shape), float(tensor.double().norm()))


@pytest.mark.parametrize("name", ["residual", "depthwise", "concat", "squeeze-excite", "attention"])
def test_a_batch_that_was_static_is_freed(archive, name):
    original, example = nets.make(name)
    network = read_model(archive(name, dynamic=False))
    assert network.provenance[0]["static_batch"] == 1
    x = inputs_like(example, 5)
    with torch.no_grad():
        one_by_one = [as_tuple(original(sample[None])) for sample in x]
        for wanted, got in zip(zip(*one_by_one, strict=True), as_tuple(network.module(x)), strict=True):
            torch.testing.assert_close(torch.cat(wanted), got, rtol=1e-5, atol=1e-5)


def test_parameters_keep_their_names_and_sharing(archive):
    original, _ = nets.make("residual")
    lifted = read_model(archive("residual")).module
    assert {name for name, _ in lifted.named_parameters()} == {name for name, _ in original.named_parameters()}
    assert {name for name, _ in lifted.named_buffers()} == {name for name, _ in original.named_buffers()}
    tied = read_model(archive("tied")).module
    assert tied.get_parameter("out.weight") is tied.get_parameter("embed.weight")
    assert [node.target for node in tied.graph.nodes].count("mix") == 2


def test_layers_keep_the_names_of_their_modules(archive):
    nodes = read_model(archive("residual")).module.graph.nodes
    called = [node.target for node in nodes if node.op == "call_module"]
    assert called == ["stem.0", "stem.1", "stem.2", "a", "b", "relu__1", "adaptive_avg_pool2d", "drop", "fc"]


def test_a_view_that_flattens_becomes_flatten(archive):
    for dynamic in (True, False):
        graph = read_model(archive("residual", dynamic=dynamic)).module.graph
        called = [node for node in graph.nodes if node.target is torch.flatten]
        assert [node.args[1:] for node in called] == [(1, 3)]
        assert not any(node.target is torch.reshape for node in graph.nodes)


def test_channel_counts_of_a_reshape_stay_free(archive):
    graph = read_model(archive("squeeze-excite")).module.graph
    shapes = [node.args[1] for node in graph.nodes if node.target is torch.reshape]
    assert [shape[1:] for shape in shapes] == [(-1, 1, 1)]


def test_the_input_keeps_its_name_and_type(archive):
    signature = read_model(archive("odd-names")).signature
    assert [(spec.name, spec.shape, spec.dtype) for spec in signature.inputs] == [("input", (4,), "float32")]
    assert read_model(archive("tied")).signature.inputs[0].dtype == "int64"
    assert read_model(archive("concat")).signature.outputs == ("output_0", "output_1")


def test_a_model_exported_in_training_mode_is_refused(tmp_path):
    module = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)).train()
    path = nets.export(module, torch.randn(2, 4), tmp_path / "train.pt2")
    with pytest.raises(IntakeError, match=r"model\.eval\(\)"):
        read_model(path)


class MixesSamples(nn.Module):
    def forward(self, x):
        return x - x.mean(0, keepdim=True)


def test_a_static_batch_that_mixes_samples_is_refused(tmp_path):
    path = nets.export(MixesSamples(), torch.randn(4, 3), tmp_path / "mix.pt2", dynamic=False)
    with pytest.raises(IntakeError) as caught:
        read_model(path)
    assert caught.value.kind == "model-inexact"


class SequenceFirst(nn.Module):
    """The batch is the second axis inside, and a factor of a length."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(6, 6)

    def forward(self, x):
        x = x.transpose(0, 1)
        n, b, d = x.shape
        return self.mix(x.reshape(n, b * d).reshape(n, b, d)).transpose(0, 1)


def test_a_static_batch_is_freed_where_it_is_a_factor_of_a_length(tmp_path):
    module = SequenceFirst().eval()
    network = read_model(nets.export(module, torch.randn(1, 4, 6), tmp_path / "seq.pt2", dynamic=False))
    x = torch.randn(3, 4, 6)
    with torch.no_grad():
        torch.testing.assert_close(network.module(x), module(x), rtol=1e-5, atol=1e-5)


class FirstRows(nn.Module):
    def forward(self, x):
        return x.flatten(0, 1).split(4)[0].reshape(x.shape[0], 24)


def test_a_static_batch_that_cannot_be_freed_is_refused_with_the_way_out(tmp_path):
    path = nets.export(FirstRows(), torch.randn(1, 4, 6), tmp_path / "rows.pt2", dynamic=False)
    with pytest.raises(IntakeError, match="export the model with a dynamic batch") as caught:
        read_model(path)
    assert caught.value.kind == "model-inexact"


class WritesThroughAView(nn.Module):
    def forward(self, x):
        y = x * 2
        y[:, 0].add_(1.0)
        return y


def test_a_write_through_a_view_is_noticed(tmp_path):
    path = nets.export(WritesThroughAView(), torch.randn(2, 3), tmp_path / "view.pt2")
    with pytest.raises(IntakeError) as caught:
        read_model(path)
    assert caught.value.kind == "model-inexact"


class Sorts(nn.Module):
    def forward(self, x):
        return torch.sort(x).values


def test_an_operator_that_is_not_listed_is_named(tmp_path):
    path = nets.export(Sorts(), torch.randn(2, 3), tmp_path / "sort.pt2")
    with pytest.raises(IntakeError) as caught:
        read_model(path)
    assert (caught.value.kind, caught.value.where) == ("operator-unsupported", "torch.ops.aten.sort.default")


def test_a_lifted_network_exports_again(archive, tmp_path):
    network = read_model(archive("residual"))
    path = nets.export(copy.deepcopy(network.module), torch.randn(2, 3, 8, 8), tmp_path / "again.pt2")
    again = read_model(path)
    x = torch.randn(3, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(again.module(x), network.module(x), rtol=0, atol=0)
