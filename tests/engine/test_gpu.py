"""What matters on a CUDA device: `make test-gpu`. Not part of `make test`: there is no such device in CI."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch

from compression import device
from compression.checkpoint import Checkpoints
from compression.context import Context
from compression.data import Dataset
from compression.events import Reporter
from compression.network import Network
from compression.pruning.channels import map_channels
from compression.pruning.importance import taylor
from compression.training.evaluate import outputs_of
from compression.training.loop import train
from compression.training.spec import Training
from compression.zoo.catalog import zoo_network
from tests.engine.nets import Chain, network_of
from tests.engine.training.test_loop import Killed, KillingReporter, blobs, state

pytestmark = pytest.mark.gpu


def context_for(folder: Path, network: Network, where: str, reporter: Reporter | None = None) -> Context:
    reporter = reporter or Reporter(io.StringIO())
    splits = [blobs(count, seed) for count, seed in ((330, 1), (200, 2), (200, 3))]
    return Context(
        data=Dataset(*splits, "classification"),
        original=network,
        device=torch.device(where),
        seed=7,
        reporter=reporter,
        checkpoints=Checkpoints(folder, "0-test", reporter),
        save_seconds=0.0,
    )


@pytest.fixture(autouse=True)
def _deterministic() -> None:
    device.make_deterministic(threads=2)


def test_forward_agrees_with_the_cpu() -> None:
    network = zoo_network("resnet20", {"in_channels": 1, "height": 8, "width": 8}, seed=0)
    split = blobs(200, 1)
    on_cpu = outputs_of(network.module, split, torch.device("cpu"))[0]
    on_gpu = outputs_of(network.module.to("cuda"), split, torch.device("cuda"))[0].cpu()
    torch.testing.assert_close(on_gpu, on_cpu, rtol=2e-2, atol=2e-2)  # TF32 convolutions


def test_mixed_precision_training_learns_and_leaves_float32_on_the_cpu(tmp_path: Path) -> None:
    network = network_of(Chain(), 1, 8, 8)
    with device.mixed_precision(torch.device("cuda")):
        product = torch.ones(8, 8, device="cuda") @ torch.ones(8, 8, device="cuda")
    assert product.dtype == (torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32)
    spec = Training(epochs=8, learning_rate=0.05, loss="labels")
    trained, facts = train(network, spec, context_for(tmp_path, network, "cuda"), stage="a")
    assert max(entry["accuracy"] for entry in facts["history"]) > 0.8
    assert {(value.dtype, value.device.type) for value in trained.module.parameters()} == {(torch.float32, "cpu")}


def test_a_killed_run_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    network = network_of(Chain(), 1, 8, 8)
    spec = Training(epochs=2, learning_rate=0.02)
    undisturbed, _ = train(network, spec, context_for(tmp_path / "a", network, "cuda"), stage="s")
    with pytest.raises(Killed):
        train(
            network,
            spec,
            context_for(tmp_path / "b", network, "cuda", KillingReporter(5)),
            stage="s",
            field="/training",
        )
    resumed, _ = train(network, spec, context_for(tmp_path / "b", network, "cuda"), stage="s")
    for name, value in state(undisturbed).items():
        assert torch.equal(value, state(resumed)[name]), name


def test_importance_ranks_as_on_the_cpu(tmp_path: Path) -> None:
    network = network_of(Chain(), 1, 8, 8)
    channels = map_channels(network)
    on_cpu = taylor(network, channels, context_for(tmp_path / "a", network, "cpu"))
    on_gpu = taylor(network, channels, context_for(tmp_path / "b", network, "cuda"))
    torch.testing.assert_close(torch.from_numpy(on_gpu), torch.from_numpy(on_cpu), rtol=5e-2, atol=1e-6)
