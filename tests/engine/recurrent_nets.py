"""Recurrent networks with every way to read a layer's output and its last states, as `Network`s from `.pt2`, from
`.onnx` by both exporters of torch, and traced."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, fx, nn

from compression.intake.model import read_model
from compression.network import Input, Network, Signature

WORDS, STEPS, WIDTH, HIDDEN, CLASSES = 30, 7, 6, 8, 5
Kind = type[nn.LSTM | nn.GRU]
KINDS: Mapping[str, Kind] = {"lstm": nn.LSTM, "gru": nn.GRU}


class Reader(nn.Module):
    """Token ids, embedded; a recurrent network; what `read` takes of its output (batch first) and last hidden states,
    and a classifier."""

    def __init__(self, kind: Kind, ways: int, read: str, *, batch_first: bool = True, layers: int = 1) -> None:
        super().__init__()
        self.read, self.batch_first = read, batch_first
        self.words = nn.Embedding(WORDS, WIDTH)
        dropout = 0.25 if layers > 1 else 0.0
        self.rnn = kind(WIDTH, HIDDEN, layers, batch_first=batch_first, bidirectional=ways == 2, dropout=dropout)
        width = ways * HIDDEN * (2 if read == "both" else 1)
        self.scores = nn.Linear(width, 1)
        self.head = nn.Linear(HIDDEN if read in {"ways added", "cell"} else width, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        value = self.words(tokens)
        output, last = self.rnn(value if self.batch_first else value.transpose(0, 1))
        hidden, cell = last if isinstance(last, tuple) else (last, last)
        output = output if self.batch_first else output.transpose(0, 1)
        return self.head(self.taken(output, hidden, cell))

    def taken(self, output: Tensor, hidden: Tensor, cell: Tensor) -> Tensor:
        ways = 2 if self.rnn.bidirectional else 1
        if self.read == "attended":
            return (torch.softmax(self.scores(output), 1) * output).sum(1)
        if self.read == "last states":
            return torch.cat([hidden[-2], hidden[-1]], 1) if ways == 2 else hidden[-1]
        if self.read == "states in a row":
            return hidden[-ways:].transpose(0, 1).reshape(-1, ways * HIDDEN)
        takes: Mapping[str, Callable[[], Tensor]] = {
            "last step": lambda: output[:, -1],
            "every step": lambda: output,
            "mean": lambda: output.mean(1),
            "largest": lambda: output.amax(1),
            "ways added": lambda: output.unflatten(2, (ways, HIDDEN)).sum(2).mean(1),
            "both": lambda: torch.cat([output.mean(1), output[:, 0]], 1),
            "cell": lambda: hidden[0] * torch.sigmoid(cell[-1]),
        }
        return takes[self.read]()


READS = (
    "last step", "every step", "mean", "largest", "attended", "last states", "states in a row", "ways added", "both",
    "cell",
)  # fmt: skip


class Encoded(nn.Module):
    """Pictures of text: convolutions make the steps; two recurrent layers with a residual connection, the second of
    them called twice; a norm over what they give."""

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.first = kind(24, HIDDEN, bidirectional=True)
        self.second = kind(2 * HIDDEN, HIDDEN, bidirectional=True)
        self.between, self.head = nn.Linear(2 * HIDDEN, 2 * HIDDEN), nn.Linear(2 * HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x)))  # N × 6 × 4 × steps
        value = torch.permute(torch.flatten(x, 1, 2), (2, 0, 1))
        value = self.first(value)[0]
        value = value + self.second(value)[0]
        value = value + self.second(self.between(value))[0]
        return torch.mean(self.head(value), 0)


def seeded(module: nn.Module) -> nn.Module:
    """In eval mode, with recurrent weights so large that every step counts, and norms that aren't trivial."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in module.named_parameters():
            scale = 0.6 if "_hh" in name or "_ih" in name else 0.3
            value.copy_(torch.randn(value.shape, generator=generator) * scale)
    return module.eval()


def tokens(batch: int, seed: int = 0) -> Tensor:
    return torch.randint(0, WORDS, (batch, STEPS), generator=torch.Generator().manual_seed(seed))


def traced(module: nn.Module, *shape: int, dtype: str = "float32") -> Network:
    """As the vocabulary has it: layers alone, without a file between."""
    return Network(fx.symbolic_trace(seeded(module)), Signature((Input("x", shape, dtype),)))


def written(module: nn.Module, example: Tensor, path: Path, form: str, *, dynamic: bool = True) -> Path:
    """The module as a file: `form` is "pt2", "older" or "newer" (exporters of `.onnx`)."""
    batch = {0: torch.export.Dim("batch", min=1, max=64)}
    shapes = (batch,) if dynamic else None
    example = example if dynamic else example[:1]
    named = {"input_names": ["x"], "output_names": ["y"]}
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporters, about themselves and about nn.LSTM's list of weights
        if form == "pt2":
            torch.export.save(torch.export.export(module, (example,), dynamic_shapes=shapes), path)
        elif form == "newer":
            settings = {"dynamo": True, "external_data": False, "verbose": False, "dynamic_shapes": shapes}
            torch.onnx.export(module, (example,), path, **settings, **named)
        else:
            axes = {"x": {0: "batch"}, "y": {0: "batch"}} if dynamic else None
            torch.onnx.export(module, (example,), path, dynamo=False, opset_version=17, dynamic_axes=axes, **named)
    return path


@cache
def lifted(form: str, kind: str, ways: int, read: str, layers: int = 1, *, batch_first: bool = True) -> Network:
    """A `Reader` as it comes out of a file."""
    module = seeded(Reader(KINDS[kind], ways, read, layers=layers, batch_first=batch_first))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("net.pt2" if form == "pt2" else "net.onnx")
        network = read_model(written(module, tokens(2), path, form, dynamic=form != "older"))
    assert isinstance(network, Network)
    return network
