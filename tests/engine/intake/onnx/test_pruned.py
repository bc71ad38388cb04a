"""A lifted file goes the whole way: channels are cut, the network is trained, and exported and read again."""

import io

import pytest
import torch
from torch import nn

from compression.checkpoint import Checkpoints
from compression.context import Context
from compression.events import Reporter
from compression.export.writers import export_network
from compression.intake.model import read_model
from compression.measure.cost import cost_of
from compression.methods.prune.structured import PruneStructured, apply


def halved(network, folder):
    reporter = Reporter(io.StringIO())
    context = Context(None, network, torch.device("cpu"), 0, reporter, Checkpoints(folder, "0", reporter))
    spec = PruneStructured(macs_ratio=0.5, importance="magnitude", rounds=1, finetune=None)
    return apply(network, spec, context).network


@pytest.mark.parametrize(("name", "dynamic"), [("inverted-residual", False), ("vit", True), ("swin", False)])
def test_half_of_the_work_goes_and_the_file_runs(network, name, dynamic, tmp_path):
    before = network(name, dynamic=dynamic)
    after = halved(before, tmp_path / "checkpoints")
    assert cost_of(after).macs <= 0.5 * cost_of(before).macs
    (written,) = export_network(after, ["onnx"], tmp_path)  # compared with ONNX Runtime at two batch sizes
    again = read_model(tmp_path / written.name)
    inputs = after.example(3)
    with torch.no_grad():
        torch.testing.assert_close(again.module(*inputs), after.module(*inputs), rtol=1e-4, atol=1e-5)


def test_training_lowers_the_loss(network):
    module = network("convnext", dynamic=False).module.train()
    torch.manual_seed(0)
    x, labels = torch.randn(32, 3, 32, 32), torch.randint(0, 10, (32,))
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    losses = []
    for _ in range(15):
        loss = nn.functional.cross_entropy(module(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
