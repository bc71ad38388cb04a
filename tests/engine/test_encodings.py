"""Encodings and variants: a mask survives pruning, training, checkpoint, kill, resume and export; so does an exit."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from torch import Tensor, fx, nn

from compression.encodings import Codebook, Mask
from compression.intake.weights import load_network, save_network
from compression.network import Input, Network, Signature, Variant
from tests.engine.test_cli import run_command

STEPS = [
    {"method": "finetune", "training": {"epochs": 2}},
    {
        "method": "prune.structured",
        "macs_ratio": 0.7,
        "rounds": 1,
        "layers": {"include": ["first"]},
        "finetune": {"epochs": 2},
    },
]


class TwoExits(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(49, 32), nn.Linear(32, 32), nn.Linear(32, 32)
        self.early, self.late, self.relu = nn.Linear(32, 10), nn.Linear(32, 10), nn.ReLU()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.relu(self.first(x))
        early = self.early(x)
        return early, self.late(self.relu(self.third(self.relu(self.second(x)))))


def encoded_network() -> Network:
    torch.manual_seed(0)
    module = fx.symbolic_trace(TwoExits().eval())
    generator = torch.Generator().manual_seed(1)
    network = Network(
        module,
        Signature((Input("x", (49,)),), ("early", "late")),
        encodings={
            "first.weight": Mask(torch.rand(32, 49, generator=generator) > 0.7),
            "third.weight": Codebook(torch.randint(0, 8, (32, 32), generator=generator)),
        },
        variants={"full": Variant((0, 1)), "exit": Variant((0,))},
    )
    network.project()
    return network


def test_encodings_and_variants_survive_everything(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    y = np.arange(400) % 10
    x = (random.normal(size=(10, 49))[y] + random.normal(size=(400, 49))).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    save_network(encoded_network(), tmp_path / "model.safetensors")
    (tmp_path / "spec.json").write_text(json.dumps({"steps": STEPS, "exports": ["onnx", "safetensors"]}))

    with subprocess.Popen(run_command(tmp_path, "out"), stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        for line in killed.stdout:
            if json.loads(line)["event"] == "step_finished":
                killed.send_signal(signal.SIGKILL)
                break
    done = subprocess.run(run_command(tmp_path, "out"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    folder = tmp_path / "out" / "artifacts"
    network = load_network(folder / "model.safetensors")
    parameters = dict(network.module.named_parameters())
    mask, codebook = network.encodings["first.weight"], network.encodings["third.weight"]
    assert isinstance(mask, Mask)
    assert isinstance(codebook, Codebook)
    first, third = parameters["first.weight"], parameters["third.weight"]
    assert first.shape[0] < 32  # neurons are gone, and the mask with them
    assert bool((first[~mask.keep] == 0).all())
    assert bool((first[mask.keep] != 0).all())
    assert len(torch.unique(third)) <= 8
    started = dict(encoded_network().module.named_parameters())
    assert not torch.equal(parameters["late.bias"], started["late.bias"])  # and it was trained

    weights = [numpy_helper.to_array(entry) for entry in onnx.load(folder / "model.onnx").graph.initializer]
    delivered = next(value for value in weights if value.shape in {first.shape, first.shape[::-1]})
    delivered = delivered if delivered.shape == first.shape else delivered.T
    assert (delivered[~mask.keep.numpy()] == 0).all()

    session = onnxruntime.InferenceSession(folder / "model.exit.onnx")
    assert [output.name for output in session.get_outputs()] == ["early"]
    early = onnxruntime.InferenceSession(folder / "model.onnx").run(["early"], {"x": x[:5]})[0]
    np.testing.assert_allclose(session.run(None, {"x": x[:5]})[0], early, atol=1e-6)
    exit_parameters = sum(value.numel() for value in network.variant("exit").parameters())
    assert exit_parameters < sum(value.numel() for value in parameters.values())
