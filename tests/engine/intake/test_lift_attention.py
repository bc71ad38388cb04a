"""Attention from `.pt2`: bit for bit, whatever batch it was exported with, in modules that can be trained and cut."""

import pytest
import torch
from torch import nn

from compression.errors import IntakeError
from compression.graph_json import graph_to_json
from compression.intake.lift_batch import Place, reshaped
from compression.intake.model import read_model
from tests.engine import attention_nets
from tests.engine.attention_nets import save
from tests.engine.intake.rewrite import MODEL, edited


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attention")

    def exported(name, *, dynamic=True):
        path = folder / f"{name}-{dynamic}.pt2"
        if not path.exists():
            module, inputs = attention_nets.make(name)
            save(module, inputs if dynamic else tuple(value[:1] for value in inputs), path, dynamic=dynamic)
        return path

    return exported


@pytest.mark.parametrize("name", attention_nets.NETS)
def test_a_free_batch_lifts_bit_for_bit(archive, name):
    original, _ = attention_nets.make(name)
    network = read_model(archive(name))
    graph_to_json(network.module)  # raises if anything is outside of the vocabulary
    torch.manual_seed(5)
    for batch in (1, 4):
        inputs = attention_nets.NETS[name][1](batch)
        torch.backends.mha.set_fastpath_enabled(False)
        with torch.no_grad():
            torch.testing.assert_close(network.module(*inputs), original(*inputs), rtol=0, atol=0)
        torch.backends.mha.set_fastpath_enabled(True)


@pytest.mark.parametrize("name", attention_nets.NETS)
def test_a_static_batch_is_freed(archive, name):
    """Also where the batch is a factor of a length: batch × heads, tokens × batch."""
    original, _ = attention_nets.make(name)
    network = read_model(archive(name, dynamic=False))
    assert network.provenance[0]["static_batch"] == 1
    torch.manual_seed(6)
    inputs = attention_nets.NETS[name][1](5)
    with torch.no_grad():
        torch.testing.assert_close(network.module(*inputs), original(*inputs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", attention_nets.NETS)
def test_every_weight_belongs_to_a_layer(archive, name):
    """What only stands in a graph as a tensor is no weight of a matrix product: layers own those."""
    original, _ = attention_nets.make(name)
    network = read_model(archive(name))
    count = sum(isinstance(part, nn.MultiheadAttention) for part in original.modules())
    linear = sum(isinstance(part, nn.Linear) for part in original.modules())
    lifted = [layer for layer in network.layers().values() if isinstance(layer, nn.Linear)]
    assert len(lifted) == linear + count  # a MultiheadAttention's out_proj is a Linear; its in_proj becomes one
    assert sum(value.numel() for value in network.module.parameters()) == sum(
        value.numel() for value in original.parameters()
    )


def test_inputs_keep_their_names_and_types(archive):
    inputs = read_model(archive("scores")).signature.inputs
    n = attention_nets.TOKENS
    assert [(entry.name, entry.shape, entry.dtype) for entry in inputs] == [
        ("tokens", (n,), "int64"),
        ("mask", (n,), "bool"),
        ("bias", (n, n), "float32"),
    ]


def test_a_free_sequence_keeps_the_length_it_was_traced_with(tmp_path):
    """A signature has fixed lengths besides the batch: the one of the export stays, and the report says so."""

    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.attention = nn.Embedding(9, 8), nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, tokens):
            x = self.words(tokens)
            return self.attention(x, x, x, need_weights=False)[0].mean(1)

    torch.manual_seed(0)
    module = Words().eval()
    batch, length = torch.export.Dim("batch", min=1, max=64), torch.export.Dim("length", min=2, max=64)
    program = torch.export.export(
        module, (torch.zeros(2, 7, dtype=torch.int64),), dynamic_shapes=({0: batch, 1: length},)
    )
    torch.export.save(program, tmp_path / "words.pt2")
    network = read_model(tmp_path / "words.pt2")
    assert network.signature.inputs[0].shape == (7,)
    assert network.provenance[0]["fixed_axes"] == ["tokens.1"]
    tokens = torch.randint(0, 9, (3, 7))
    with torch.no_grad():
        torch.testing.assert_close(network.module(tokens), module(tokens))


def test_attention_with_dropout_in_training_mode_is_refused(tmp_path):
    module = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.1).train()
    save(module, (torch.randn(2, 4, 8),), tmp_path / "train.pt2", dynamic=True)
    with pytest.raises(IntakeError, match=r"model\.eval\(\)"):
        read_model(tmp_path / "train.pt2")


def test_a_fused_layer_of_older_torch_is_refused_with_the_way_out(archive, tmp_path):
    def fuse(document):
        nodes = document["graph_module"]["graph"]["nodes"]
        node = next(node for node in nodes if "scaled_dot_product" in node["target"])
        node["target"] = "torch.ops.aten._native_multi_head_attention.default"

    with pytest.raises(IntakeError, match="set_fastpath_enabled") as caught:
        read_model(edited(archive("padded"), tmp_path / "fused.pt2", MODEL, fuse))
    assert caught.value.kind == "operator-unsupported"


@pytest.mark.parametrize(
    ("place", "before", "after", "batch", "wanted"),
    [
        (Place(0), (1, 8, 3, 3), (1, 72), 1, Place(0)),  # a flatten
        (Place(1), (5, 1, 8), (5, 2, 4), 1, Place(1)),  # batch × heads
        (Place(1), (5, 2, 8), (5, 4, 4), 2, Place(1)),
        (Place(0), (2, 5, 4), (1, 2, 5, 4), 1, Place(0)),  # heads × batch of one, taken apart
        (Place(1), (5, 1, 2, 4), (5, 8), 1, Place(0, 5)),  # tokens × batch, since layers work along the last axis
        (Place(0, 5), (15, 8), (5, 3, 8), 3, Place(1)),
        (Place(0), (1, 5), (1, 1, 1, 5), 1, Place(0)),  # a mask
        (Place(0), (4, 3), (2, 6), 4, None),  # samples cut in two and joined
    ],
)
def test_the_batch_is_found_behind_a_view(place, before, after, batch, wanted):
    assert reshaped(place, before, after, batch) == wanted
