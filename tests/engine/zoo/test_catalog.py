import subprocess
import sys

import pytest
import torch

from compression.errors import SpecError
from compression.graph_json import graph_to_json
from compression.intake.model import read_model
from compression.intake.weights import load_network, save_network
from compression.zoo.catalog import ARCHITECTURES, build, zoo_network
from tests.engine.intake.nets import export

SMALL = {
    "lenet300": {},
    "lenet5": {},
    "resnet20": {"channels": 4, "height": 16, "width": 16},
    "resnet56": {"channels": 2, "height": 16, "width": 16},
    "vgg-small": {"channels": 4},
    "mobilenet-v1": {"multiplier": 0.1},
    "mobilenet-v2": {"multiplier": 0.1},
    "vit-tiny": {"embedding": 24, "depth": 2, "hidden": 40},
}


def test_the_catalog_imports_without_torch():
    code = "import sys, compression.zoo.catalog; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_zoo_network_is_its_module_and_survives_its_file(name, tmp_path):
    network = zoo_network(name, SMALL[name], seed=3)
    torch.manual_seed(3)
    module = build(name, SMALL[name]).eval()
    assert list(network.module.state_dict()) == list(module.state_dict())
    x = network.example(2)
    with torch.no_grad():
        torch.testing.assert_close(network.module(*x), module(*x), rtol=0, atol=0)
        save_network(network, tmp_path / "net.safetensors")
        torch.testing.assert_close(load_network(tmp_path / "net.safetensors").module(*x), module(*x), rtol=0, atol=0)
    assert network.module(*x).shape == (2, 10)


@pytest.mark.parametrize("name", ["lenet300", "lenet5", "resnet20", "vgg-small", "mobilenet-v2", "vit-tiny"])
def test_an_exported_zoo_network_lifts_to_the_same_graph(name, tmp_path):
    network = zoo_network(name, SMALL[name], seed=1)
    lifted = read_model(export(network.module, network.example(2)[0], tmp_path / "zoo.pt2"))
    modules = graph_to_json(network.module)["modules"]
    assert list(graph_to_json(lifted.module)["modules"]) == list(modules)
    assert {n for n, _ in lifted.module.named_parameters()} == {n for n, _ in network.module.named_parameters()}
    x = network.example(3)
    with torch.no_grad():
        torch.testing.assert_close(lifted.module(*x), network.module(*x), rtol=0, atol=0)


def parameters(name, arguments):
    return sum(parameter.numel() for parameter in build(name, arguments).parameters())


def test_sizes_are_those_of_the_papers():
    assert parameters("lenet300", {}) == 266_610
    assert parameters("lenet5", {}) == 431_080
    assert parameters("resnet20", {}) == 272_474
    assert parameters("resnet56", {}) == 855_770
    assert parameters("mobilenet-v1", {"classes": 1000}) == 4_231_976
    assert parameters("mobilenet-v2", {"classes": 1000}) == 3_504_872
    tiny = {"height": 224, "width": 224, "patch": 16, "classes": 1000}
    assert parameters("vit-tiny", tiny) == 5_717_416  # timm's vit_tiny_patch16_224


def test_a_vision_transformer_computes_what_torch_s_own_attention_does():
    """The same weights in nn.TransformerEncoderLayer, which keeps queries, keys and values in the same order."""
    torch.manual_seed(0)
    module = build("vit-tiny", {"embedding": 24, "depth": 1, "hidden": 40, "height": 8, "width": 8}).eval()
    block = module.blocks[0]
    layer = torch.nn.TransformerEncoderLayer(24, 3, 40, 0.0, "gelu", 1e-6, batch_first=True, norm_first=True).eval()
    names = {
        "norm1": "norm1",
        "norm2": "norm2",
        "linear1": "mlp.fc1",
        "linear2": "mlp.fc2",
        "self_attn.out_proj": "attn.proj",
    }
    state = {f"{ours}.{part}": f"{theirs}.{part}" for ours, theirs in names.items() for part in ("weight", "bias")}
    state |= {f"self_attn.in_proj_{part}": f"attn.qkv.{part}" for part in ("weight", "bias")}
    layer.load_state_dict({ours: block.state_dict()[theirs] for ours, theirs in state.items()})
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        patches = module.patch_embed.proj(x).flatten(2).mT
        tokens = torch.cat([module.cls_token.expand(2, -1, -1), patches], 1) + module.pos_embed
        wanted = module.head(module.norm(layer(tokens))[:, 0])
        torch.testing.assert_close(module(x), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("wrong", "told"), [({"patch": 5}, "patch must divide"), ({"heads": 5}, "multiple of heads")])
def test_a_vision_transformer_s_sizes_must_fit(wrong, told):
    with pytest.raises(SpecError, match=told) as caught:
        build("vit-tiny", wrong)
    assert caught.value.where == "/arguments"


def test_the_seed_decides_the_weights():
    first, second, other = (zoo_network("lenet300", {}, seed).module.f1.weight for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
