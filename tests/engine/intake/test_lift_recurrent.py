"""`nn.LSTM` and `nn.GRU` from `.pt2`: layers of the vocabulary, bit for bit, in training too, whatever the batch."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from compression.errors import IntakeError
from compression.graph_json import graph_to_json
from compression.intake.model import read_model
from compression.network import as_tuple
from tests.engine.recurrent_nets import HIDDEN, KINDS, WIDTH, Reader, lifted, seeded, tokens, written

CASES = [
    ("lstm", 1, "last step", 1, False),
    ("gru", 2, "last states", 1, True),
    ("lstm", 2, "last states", 2, True),
    ("gru", 1, "mean", 2, False),
    ("gru", 2, "states in a row", 3, True),
]


@pytest.mark.parametrize(("kind", "ways", "read", "layers", "batch_first"), CASES)
def test_layers_of_a_stack_are_modules_and_the_original_bit_for_bit(kind, ways, read, layers, batch_first):
    original = seeded(Reader(KINDS[kind], ways, read, layers=layers, batch_first=batch_first))
    network = lifted("pt2", kind, ways, read, layers, batch_first=batch_first)
    graph_to_json(network.module)  # raises if anything is outside of the vocabulary
    called = [type(network.module.get_submodule(n.target)) for n in network.module.graph.nodes if n.op == "call_module"]
    assert called.count(KINDS[kind]) == layers
    assert called.count(nn.Dropout) == layers - 1
    assert not any(node.target is torch.cat for node in network.module.graph.nodes if node.args[1:] == (0,))
    copied = copy.deepcopy(network.module)
    for batch in (1, 5):
        x = tokens(batch, seed=batch)
        with torch.no_grad():
            torch.testing.assert_close(network.module(x), original(x), rtol=0, atol=0)
        results = []
        for module in (original, copied):
            module.train()
            torch.manual_seed(batch)
            output = module(x)
            (gradient,) = torch.autograd.grad(output.square().sum(), next(module.parameters()))
            results.append((output, gradient))
            module.eval()
        for one, other in zip(*results, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize(("kind", "ways", "read", "layers", "batch_first"), CASES)
def test_a_static_batch_is_freed(kind, ways, read, layers, batch_first, tmp_path):
    """Also of the last states, whose batch lies elsewhere than the output's."""
    original = seeded(Reader(KINDS[kind], ways, read, layers=layers, batch_first=batch_first))
    network = read_model(written(original, tokens(1), tmp_path / "net.pt2", "pt2", dynamic=False))
    assert network.provenance[0]["static_batch"] == 1
    x = tokens(5, seed=5)
    with torch.no_grad():
        torch.testing.assert_close(network.module(x), original(x), rtol=1e-5, atol=1e-5)


class States(nn.Module):
    """What all layers' states are, and parts of them that cross layers or don't."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(WIDTH, HIDDEN, 2, batch_first=True, bidirectional=True)

    def forward(self, x):
        _, (hidden, cell) = self.rnn(x)
        hidden, cell = hidden.transpose(0, 1), cell
        return hidden, hidden[:, 1:3], cell[1:3].sum(0), cell[-2:].sum(0), cell[:1].sum(0), cell[-3]


def test_states_of_several_layers_stay_what_they_are(tmp_path):
    original = seeded(States())
    network = read_model(written(original, torch.randn(2, 4, WIDTH), tmp_path / "net.pt2", "pt2"))
    x = torch.randn(3, 4, WIDTH)
    for wanted, got in zip(original(x), as_tuple(network.module(x)), strict=True):
        torch.testing.assert_close(wanted, got, rtol=0, atol=0)


def test_names_are_those_of_the_model():
    assert set(lifted("pt2", "lstm", 1, "mean").layers()) == {"words", "rnn", "head"}
    stacked = lifted("pt2", "lstm", 2, "last states", 2)
    assert set(stacked.layers()) == {"words", "rnn.layer_0", "rnn.layer_1", "head"}
    assert "rnn.dropout_0" in dict(stacked.module.named_modules())


def test_a_stack_exported_in_training_mode_is_refused(tmp_path):
    module = Reader(nn.LSTM, 1, "mean", layers=2).train()
    path: Path = written(module, tokens(2), tmp_path / "net.pt2", "pt2")
    with pytest.raises(IntakeError, match=r"model\.eval\(\)"):
        read_model(path)
