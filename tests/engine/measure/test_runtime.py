import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from compression.export.writers import export_network
from compression.measure import runtime
from compression.measure.footprint import peak_bytes
from tests.engine import nets
from tests.engine.export.vocabulary_nets import residual

ROOT = Path(__file__).parents[3]


class Wide(nn.Module):
    """16 MB of weights, and some 100 times the work of the residual network."""

    def __init__(self) -> None:
        super().__init__()
        self.flatten, self.hidden, self.relu = nn.Flatten(), nn.Linear(64, 8192), nn.ReLU()
        self.inner, self.head = nn.Linear(8192, 440), nn.Linear(440, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.relu(self.inner(self.relu(self.hidden(self.flatten(x))))))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    export_network(residual(), ["onnx"], folder, "small")
    torch.manual_seed(0)
    export_network(nets.network_of(Wide(), 1, 8, 8), ["onnx"], folder, "wide")
    return folder


def samples(count: int) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(0).standard_normal((count, 1, 8, 8)).astype(np.float32)}


def test_predict_in_batches(folder: Path):
    inputs = samples(23)
    (found,) = runtime.predict(folder / "small.onnx", inputs, batch=10)
    wanted = residual().module(torch.from_numpy(inputs["x"])).detach().numpy()
    assert found.shape == (23, 10)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_random_inputs_fit(folder: Path):
    session = runtime.open_session(folder / "small.onnx")
    inputs = runtime.random_inputs(session, 3)
    assert inputs["x"].shape == (3, 1, 8, 8)
    assert session.run(None, inputs)[0].shape == (3, 10)


def test_first_samples_start_again():
    found = runtime.first_samples({"x": np.arange(6).reshape(3, 2)}, 4)["x"]
    assert found.tolist() == [[0, 1], [2, 3], [4, 5], [0, 1]]


def test_a_hundred_times_the_work_is_slower(folder: Path):
    found = runtime.compare_latency(folder / "wide.onnx", folder / "small.onnx", samples(4), batch=1, seconds=0.6)
    assert found.low > 2
    assert found.low <= found.ratio <= found.high
    assert found.ratio == pytest.approx(found.original.median / found.compressed.median, rel=0.2)
    assert found.original.low_quartile <= found.original.median <= found.original.high_quartile
    assert found.original.rounds == found.compressed.rounds >= 30


def test_ratio_interval_covers_the_truth_as_often_as_it_says():
    random = np.random.default_rng(3)
    covered = 0
    for _ in range(400):
        ratio, low, high = runtime.ratio_interval(2.0 * random.lognormal(0, 0.03, runtime.PAIRS))
        covered += low <= 2.0 <= high
        assert low < ratio < high
    assert 365 <= covered <= 394  # 95 %, give or take 3 standard deviations


def test_ratio_interval_is_students():
    ratios = np.array([1.0, 1.1, 1.2, 1.05, 1.15, 1.1, 1.0, 1.2])
    interval = stats.t.interval(0.95, len(ratios) - 1, np.log(ratios).mean(), stats.sem(np.log(ratios)))
    np.testing.assert_allclose(runtime.ratio_interval(ratios)[1:], np.exp(interval), rtol=1e-3)


def test_time_by_node_names_the_layers(folder: Path):
    nodes = runtime.time_by_node(folder / "wide.onnx", samples(1))
    assert nodes == sorted(nodes, key=lambda node: -node.microseconds)
    assert any(node.name.endswith("inner") and node.operator in {"Gemm", "FusedGemm"} for node in nodes)
    assert nodes[0].name.endswith(("inner", "hidden"))
    assert list(folder.glob("*.json")) == []


def test_load_seconds(folder: Path):
    wide, small = runtime.load_seconds(folder / "wide.onnx", folder / "small.onnx", rounds=3)
    assert wide > small > 0


def test_peak_memory_holds_the_weights(folder: Path):
    small, wide = peak_bytes(folder / "small.onnx"), peak_bytes(folder / "wide.onnx")
    assert small is not None
    assert wide is not None
    assert wide - small > 12_000_000
    assert small < 60_000_000


def test_footprint_never_imports_torch(folder: Path):
    code = (
        "import sys, runpy; sys.argv = ['footprint', sys.argv[1]]\n"
        "runpy.run_module('compression.measure.footprint', run_name='__main__')\n"
        "print([name for name in sys.modules if name == 'torch'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder / "small.onnx")],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        env=dict(os.environ),
    )
    figures, imported = done.stdout.splitlines()
    assert json.loads(figures)["peak_bytes"] > 0
    assert imported == "[]"
