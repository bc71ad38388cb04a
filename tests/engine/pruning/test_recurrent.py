"""Hidden units of LSTM and GRU layers, cut: against the full module whose removed units read zero, made here with hooks
alone; scores against formulas and finite differences."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compression.encodings import Mask
from compression.export.writers import export_network
from compression.intake.model import read_model
from compression.measure.cost import cost_of
from compression.network import Network
from compression.pruning.channels import map_channels
from compression.pruning.cut import cut
from compression.pruning.importance import magnitude, taylor
from compression.pruning.plan import CostModel
from tests.engine.pruning.test_cut import produced, some_units
from tests.engine.pruning.test_importance import context_for
from tests.engine.recurrent_nets import (
    CLASSES,
    HIDDEN,
    KINDS,
    READS,
    STEPS,
    WIDTH,
    WORDS,
    Encoded,
    Reader,
    lifted,
    seeded,
    tokens,
    traced,
    written,
)

CASES = [
    (form, kind, ways, read)
    for index, read in enumerate(READS)  # each read with both kinds and both ways, from both formats
    for form, kind, ways in (
        ("older", "lstm", 1 + index % 2),
        ("older", "gru", 2 - index % 2),
        ("pt2", ("lstm", "gru")[index % 2], 2),
    )
]


class Simple(nn.Module):
    """A layer before, a recurrent layer, a layer behind: of parts that a trace keeps."""

    def __init__(self, kind: str = "lstm", ways: int = 2) -> None:
        super().__init__()
        self.before, self.act = nn.Linear(4, WIDTH), nn.Tanh()
        self.rnn = KINDS[kind](WIDTH, HIDDEN, bidirectional=ways == 2)
        self.head = nn.Linear(ways * HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        output = self.rnn(torch.transpose(self.act(self.before(x)), 0, 1))[0]
        return self.head(torch.mean(output, 0))


def reading_zero(module: nn.Module, rnn: nn.Module, keep: Tensor) -> nn.Module:
    """A copy whose removed hidden units, where `keep` is 0, read as zero: at the next step and by what follows."""
    path = next(name for name, part in module.named_modules() if part is rnn)
    module = copy.deepcopy(module)
    layer = module.get_submodule(path)
    with torch.no_grad():
        for name, value in layer.named_parameters():
            if name.startswith("weight_hh"):
                value *= keep

    def silence(value: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        if isinstance(value, tuple):
            return tuple(silence(part) for part in value)  # type: ignore[misc]
        return value * keep.repeat(value.shape[-1] // len(keep))

    layer.register_forward_hook(lambda _, __, result: silence(result))
    return module


@pytest.mark.parametrize(("form", "kind", "ways", "read"), [*CASES, ("newer", "lstm", 2, "states in a row")])
def test_a_cut_layer_is_the_full_one_whose_removed_units_read_zero(form: str, kind: str, ways: int, read: str) -> None:
    network = lifted(form, kind, ways, read)
    channels = map_channels(network)
    (rnn,) = channels.recurrent
    (words,) = set(channels.producers) - set(channels.recurrent) - set(channels.layers)
    assert produced(channels) == {(rnn,), (words,)}
    removed = some_units(network)
    smaller = cut(network, channels, removed, reason={})
    kept = torch.from_numpy(channels.kept(removed)).float()
    reader = seeded(Reader(KINDS[kind], ways, read))
    with torch.no_grad():
        reader.words.weight *= kept[channels.producers[words]]
        wanted = reading_zero(reader, reader.rnn, kept[channels.producers[rnn]])
        for batch in (1, 4):
            x = tokens(batch, seed=batch)
            torch.testing.assert_close(smaller.module(x), wanted(x), rtol=1e-4, atol=1e-5)
    layer = smaller.layers()[rnn]
    assert (layer.input_size, layer.hidden_size) == (WIDTH - 2, HIDDEN - 3)


@pytest.mark.parametrize("kind", KINDS)
def test_layers_of_a_stack_are_cut_apart(kind: str) -> None:
    network = lifted("pt2", kind, 2, "last states", 2)
    channels = map_channels(network)
    assert produced(channels) == {("words",), ("rnn.layer_0",), ("rnn.layer_1",)}
    removed = channels.open_units(channels.producers["rnn.layer_0"])[:3]
    layers = cut(network, channels, removed, reason={}).layers()
    assert (layers["rnn.layer_0"].hidden_size, layers["rnn.layer_1"].input_size) == (HIDDEN - 3, 2 * (HIDDEN - 3))
    assert layers["rnn.layer_1"].hidden_size == HIDDEN


@pytest.mark.parametrize("kind", KINDS)
def test_convolutions_a_residual_connection_and_a_layer_called_twice(kind: str) -> None:
    network = traced(Encoded(KINDS[kind]), 1, 4, 9)
    channels = map_channels(network)
    assert produced(channels) == {("conv",), ("first", "second", "between")}
    smaller = cut(network, channels, some_units(network), reason={})
    layers = smaller.layers()
    assert layers["first"].input_size == 4 * layers["conv"].out_channels < 24
    assert layers["first"].hidden_size == layers["second"].hidden_size < HIDDEN


@pytest.mark.parametrize("kind", KINDS)
def test_the_cut_module_is_whole(kind: str) -> None:
    """Its flat weights are its parameters; it copies, loads its own state, and every weight trains."""
    network = traced(Simple(kind), STEPS, 4)
    smaller = cut(network, map_channels(network), some_units(network), reason={})
    for module in (smaller.module, smaller.copy().module):
        layer = module.get_submodule("rnn")
        assert [id(value) for value in layer._flat_weights] == [id(value) for value in layer.parameters()]
    fresh = KINDS[kind](layer.input_size, layer.hidden_size, bidirectional=True)
    fresh.load_state_dict(layer.state_dict())
    x = torch.randn(STEPS, 3, layer.input_size)
    torch.testing.assert_close(fresh(x)[0], layer(x)[0], rtol=0, atol=0)
    before = [value.detach().clone() for value in layer.parameters()]
    module.train()
    module(*smaller.example(4)).square().sum().backward()
    torch.optim.SGD(module.parameters(), 0.1).step()
    assert all(not torch.equal(value, old) for value, old in zip(layer.parameters(), before, strict=True))
    x = torch.randn(STEPS, 3, layer.input_size)
    fresh.load_state_dict(layer.state_dict())
    torch.testing.assert_close(fresh(x)[0], layer(x)[0], rtol=0, atol=0)  # it runs on what was trained


@pytest.mark.filterwarnings("ignore")  # torch's exporters compile recurrent layers, and warn of what they do there
def test_a_cut_layer_is_written_in_every_format(tmp_path: Path) -> None:
    """Each file is opened again and compared by the writer."""
    network = traced(Simple(), STEPS, 4)
    smaller = cut(network, map_channels(network), some_units(network), reason={})
    files = export_network(smaller, ["onnx", "pt2", "safetensors"], tmp_path)
    assert all(file.max_relative_error <= 1e-5 for file in files)
    again = read_model(tmp_path / "model.pt2")
    assert isinstance(again, Network)
    assert map_channels(again).widths()  # and can be cut again


def test_masks_follow_the_cut() -> None:
    network = traced(Simple(), STEPS, 4)
    masks = {}
    for name, value in network.module.named_parameters():
        if "rnn.weight" in name:
            keep = torch.rand(value.shape, generator=torch.Generator().manual_seed(len(name))) > 0.3
            value.data *= keep
            masks[name] = Mask(keep)
    smaller = cut(network.replaced(encodings=masks), map_channels(network), some_units(network), reason={})
    for name, mask in smaller.encodings.items():
        value = smaller.module.get_parameter(name)
        assert isinstance(mask, Mask)
        assert mask.keep.shape == value.shape
        assert torch.equal(mask.keep, value != 0)


@pytest.mark.parametrize(("kind", "ways"), [("lstm", 1), ("lstm", 2), ("gru", 2)])
def test_the_cost_model_knows_what_a_cut_saves(kind: str, ways: int) -> None:
    network = traced(Simple(kind, ways), STEPS, 4)
    channels = map_channels(network)
    removed = some_units(network)
    after = cost_of(cut(network, channels, removed, reason={}))
    for measure in ("macs", "parameters"):
        model = CostModel(network, channels, measure)  # type: ignore[arg-type]
        assert model.total() == getattr(cost_of(network), measure)
        model.remove(removed)
        assert model.total() == pytest.approx(getattr(after, measure))


@pytest.mark.parametrize("kind", KINDS)
def test_magnitude_is_the_mean_over_each_matrix_that_a_unit_has_a_part_in(kind: str) -> None:
    network = traced(Simple(kind), STEPS, 4)
    channels = map_channels(network)
    scores = magnitude(network, channels)[channels.units[channels.producers["rnn"], 0]]
    weights = {name: value.detach().double().numpy() ** 2 for name, value in network.module.named_parameters()}
    gates = {"lstm": 4, "gru": 3}[kind]
    expected = []
    for unit in range(HIDDEN):
        rows = [gate * HIDDEN + unit for gate in range(gates)]
        parts = [weights["head.weight"][:, unit].sum(), weights["head.weight"][:, HIDDEN + unit].sum()]
        for way in ("", "_reverse"):
            parts += [weights[f"rnn.weight_{source}_l0{way}"][rows].sum() for source in ("ih", "hh")]
            parts.append(weights[f"rnn.weight_hh_l0{way}"][:, unit].sum())
        expected.append(np.mean(parts))
    np.testing.assert_allclose(scores, np.array(expected) / np.mean(expected), rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_taylor_is_the_loss_change_of_a_gate_on_a_unit(kind: str, tmp_path: Path) -> None:
    network = traced(Simple(kind), STEPS, 4)
    context = context_for(network, tmp_path)
    channels = map_channels(network)
    scores = taylor(network, channels, context)
    assert context.data is not None
    data = context.data.train
    module = seeded(Simple(kind)).double()

    def loss(gate: float, unit: int) -> float:
        keep = torch.ones(HIDDEN, dtype=torch.float64)
        keep[unit] = gate
        with torch.no_grad():
            output = reading_zero(module, module.rnn, keep)(data.inputs["x"].double())
        return float(nn.functional.cross_entropy(output, data.labels))

    for unit in range(HIDDEN):
        slope = (loss(1 + 1e-4, unit) - loss(1 - 1e-4, unit)) / 2e-4
        number = channels.units[channels.producers["rnn"][unit], 0]
        assert scores[number] == pytest.approx(slope**2, rel=1e-2, abs=1e-10)


class Started(nn.Module):
    """A layer whose first state is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.rnn, self.head = nn.Embedding(WORDS, WIDTH), nn.GRU(WIDTH, HIDDEN), nn.Linear(HIDDEN, CLASSES)
        self.start = nn.Parameter(torch.randn(1, 1, HIDDEN))

    def forward(self, ids: Tensor) -> Tensor:
        start = self.start.expand(1, ids.shape[0], HIDDEN).contiguous()
        return self.head(self.rnn(self.words(ids).transpose(0, 1), start)[0][-1])


def projected() -> nn.Module:
    reader = Reader(nn.LSTM, 1, "last step")
    reader.rnn = nn.LSTM(WIDTH, 2 * HIDDEN, batch_first=True, proj_size=HIDDEN)
    return reader


def without_biases() -> nn.Module:
    reader = Reader(nn.GRU, 1, "last step")
    reader.rnn = nn.GRU(WIDTH, HIDDEN, batch_first=True, bias=False)
    return reader


@pytest.mark.parametrize("make", [Started, projected, without_biases])
def test_what_is_no_plain_layer_is_named_and_left_alone(make: type[nn.Module], tmp_path: Path) -> None:
    network = read_model(written(seeded(make()), tokens(2), tmp_path / "net.pt2", "pt2"))
    assert isinstance(network, Network)
    channels = map_channels(network)
    assert channels.widths() == []
    assert "is recurrent, but no plain layer: a first state" in channels.frozen_by["words"]
