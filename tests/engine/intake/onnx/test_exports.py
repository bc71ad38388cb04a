"""What torch's two exporters write is lifted exactly, and is an ordinary network then."""

import pytest
import torch
from torch import nn

from benchmarks.foreign import FOREIGN, settled
from compression.export.writers import export_network
from compression.intake.model import read_model
from tests.engine.intake.onnx.graphs import kinds, reference

OLDER = [(name, 17) for name in FOREIGN] + [
    (name, opset)
    for name, opset in (("convnext", 11), ("unet", 11), ("lstm", 11), ("swin", 11), ("vit", 14), ("dense", 20))
]


@pytest.mark.parametrize(("name", "opset"), OLDER)
@pytest.mark.parametrize("dynamic", [True, False], ids=["dynamic", "static"])
def test_the_older_exporter_is_read_exactly(exported, network, name, opset, dynamic):
    _agrees(exported(name, opset, dynamic=dynamic), network(name, opset, dynamic=dynamic))


@pytest.mark.parametrize(("name", "dynamic"), [("vit", False), ("swin", True), ("inverted-residual", True)])
def test_the_newer_exporter_is_read_exactly(exported, network, name, dynamic):
    _agrees(exported(name, None, dynamic=dynamic), network(name, None, dynamic=dynamic))


def _agrees(path, network):
    static = network.provenance[0].get("static_batch")
    inputs = network.example(3, seed=7)
    if not inputs[0].is_floating_point():
        inputs = (torch.randint(0, 50, inputs[0].shape),)
    with torch.no_grad():
        found = network.module(*inputs)
    parts = [inputs[0]] if static is None else inputs[0].split(static)
    wanted = torch.cat([reference(path, [part])[0] for part in parts])
    assert found.shape == wanted.shape
    assert float((found - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())


def test_layers_have_the_names_of_the_model(network):
    names = {name for name, module in network("vit").module.named_modules() if isinstance(module, nn.Linear)}
    assert {"blocks.0.attention.qkv", "blocks.1.feed.2", "head"} <= names
    assert "patches" in dict(network("vit").module.named_modules())


def test_attention_is_what_the_other_lift_makes_of_it(network):
    for opset, dynamic in ((17, True), (None, False)):
        found = [kind for kind in kinds(network("vit", opset, dynamic=dynamic)) if kind != "getitem"]
        start = found.index("reshape")
        assert found[start : start + 6] == [
            "reshape",
            "permute",
            "unbind",
            "scaled_dot_product_attention",
            "transpose",
            "flatten",
        ]
        assert found.count("scaled_dot_product_attention") == 2


def test_pieces_are_whole_layers_again(network):
    assert {"LayerNorm", "GELU"} <= set(kinds(network("convnext", 11)))
    assert "erf" not in kinds(network("convnext", 11))
    assert "Hardswish" in kinds(network("inverted-residual", 17))


def test_a_tied_class_token_stays_a_parameter(network):
    for dynamic in (True, False):
        shapes = [tuple(value.shape) for value in network("vit", dynamic=dynamic).module.parameters()]
        assert (1, 1, 16) in shapes


def test_a_static_batch_is_freed_and_told(network):
    source = network("swin", dynamic=False).provenance[0]
    assert source == {"format": "onnx", "opset": 17, "producer": "pytorch", "static_batch": 1}


@pytest.mark.parametrize("name", ["convnext", "vit", "lstm", "dense"])
def test_gradients_are_those_of_the_model(network, name):
    """Of the loss by the input; and every parameter gets one."""
    torch.manual_seed(0)
    cls, shape = FOREIGN[name]
    module, example = settled(cls(), shape)
    found = network(name).module
    gradients = []
    for model in (module, found):
        x = example.clone().requires_grad_()
        model(x).square().sum().backward()
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4 * float(gradients[0].abs().max()))
    assert all(parameter.grad is not None for parameter in found.parameters())


def test_a_file_that_niwaki_wrote_is_read_again(network, tmp_path):
    written = network("residual")
    export_network(written, ["onnx"], tmp_path)
    again = read_model(tmp_path / "model.onnx")
    inputs = written.example(3)
    torch.testing.assert_close(again.module(*inputs), written.module(*inputs), rtol=1e-5, atol=1e-5)
    assert [name for name in again.layers() if "norm" not in name] == [
        name for name, leaf in written.layers().items() if not isinstance(leaf, nn.BatchNorm2d)
    ]
