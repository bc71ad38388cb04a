import subprocess
import sys

import pytest
import torch

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


@pytest.mark.parametrize("name", ["lenet300", "lenet5", "resnet20", "vgg-small", "mobilenet-v2"])
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


def test_the_seed_decides_the_weights():
    first, second, other = (zoo_network("lenet300", {}, seed).module.f1.weight for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
