"""`python -m benchmarks.attention`: a small vision transformer on Fashion-MNIST, cut to half its MACs (`--ratio`) in
several ways.

The base net is trained here; every arm then has the same rounds, epochs, rate, batches and data; what differs is which
parts may go. The peer is Torch-Pruning on the same lifted graph: FFN and residual width (its cuts of heads would need
glue for each model). Decided on validation; test is read once, at the end of each arm; time is that of the exported
files in ONNX Runtime, one thread, in turn with the unpruned one. `--quick`: MNIST-5k, a smaller net, fewer epochs.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
import torch_pruning as tp

from benchmarks.claim import Kept, claim
from benchmarks.images import fashion_mnist, mnist_5k
from compression import device
from compression.checkpoint import Checkpoints
from compression.context import Context
from compression.data import Dataset, Split
from compression.events import Reporter
from compression.export.writers import export_network
from compression.intake.weights import load_network, save_network
from compression.measure.cost import cost_of
from compression.measure.runtime import compare_latency
from compression.methods.prune.structured import PruneStructured, apply
from compression.network import Network
from compression.training.evaluate import metrics_of, outputs_of
from compression.training.loop import train
from compression.training.spec import Training
from compression.zoo.catalog import zoo_network

ROUNDS = 3
CPU = torch.device("cpu")
Arm = Callable[[Network, float, Training, Context], Network]
PEER = "Torch-Pruning, magnitude, FFN and width"


def ours(criterion: str, *parts: str) -> Arm:
    def prune(network: Network, ratio: float, training: Training, context: Context) -> Network:
        spec = PruneStructured(
            macs_ratio=ratio, rounds=ROUNDS, importance=criterion, prune=list(parts), finetune=training
        )
        return apply(network, spec, context).network

    return prune


def torch_pruning(network: Network, ratio: float, training: Training, context: Context) -> Network:
    before = cost_of(network).macs
    current = network
    for number in range(1, ROUNDS + 1):
        module = current.copy().module
        layers = dict(module.named_modules())
        held = [layer for name, layer in layers.items() if name == "head" or name.endswith("attn.qkv")]
        alone = [(value, value.dim() - 1) for name, value in module.named_parameters() if "." not in name]
        pruner = tp.pruner.BasePruner(
            module, network.example(2), tp.importance.GroupMagnitudeImportance(p=2), global_pruning=True,
            pruning_ratio=0.9, iterative_steps=400, ignored_layers=held, unwrapped_parameters=alone,
        )  # fmt: skip
        cut = current.replaced(module=module)
        while cost_of(cut).macs > before * ratio ** (number / ROUNDS):
            pruner.step()
            _follow(module)
        current, _ = train(cut, training, context, stage=f"tp-{number}", field="")
    return current


def _follow(module: Any) -> None:
    """Layer norms that were cut take their new width as their shape."""
    for part in module.modules():
        if isinstance(part, torch.nn.LayerNorm):
            part.normalized_shape = tuple(part.weight.shape)


ARMS: dict[str, Arm] = {
    "heads, places and FFN (the default), Taylor": ours("taylor", "neurons", "heads", "head_dim"),
    "heads and FFN, Taylor": ours("taylor", "neurons", "heads"),
    "width alone, Taylor": ours("taylor", "width"),
    "everything, Taylor": ours("taylor", "neurons", "heads", "head_dim", "width"),
    "heads, places and FFN, magnitude": ours("magnitude", "neurons", "heads", "head_dim"),
    PEER: torch_pruning,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--train", type=int, default=20_000, help="training images used")
    parser.add_argument("--ratio", type=float, default=0.5, help="MACs left, as a share")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    device.make_deterministic(threads=1)  # two threads wait for one another wherever anything else runs
    data = mnist_5k() if options.quick else fashion_mnist(options.train)
    kept = Kept("attention-quick" if options.quick else f"attention-{options.train}")
    base = _base(options.quick, data, kept)
    epochs = 1.5 if options.quick else 3.0
    training = Training(
        epochs=epochs / ROUNDS, batch_size=64, learning_rate=5e-4, optimizer="adamw", weight_decay=0.01, loss="both"
    )
    arms: dict[str, Arm] = {"not pruned, trained on": _trained_on(epochs), **ARMS}
    results = {
        arm: [
            kept.measure(f"{arm} {options.ratio} {seed}", lambda: _run(work, base, options.ratio, training, data, seed))  # noqa: B023
            for seed in range(options.seeds)
        ]
        for arm, work in arms.items()
    }
    start = _figures(base, data)
    print(f"base: {cost_of(base).macs:,} MACs, validation {start['validation']:.2f}, test {start['test']:.2f}")
    _claims(results, options.seeds)


def _claims(results: dict[str, list[dict[str, float]]], seeds: int) -> None:
    peer = mean(entry["test"] for entry in results[PEER])
    for arm, entries in results.items():
        value = mean(entry["test"] for entry in entries)
        found = {key: mean(entry[key] for entry in entries) for key in ("validation", "ratio", "faster", "smaller")}
        claim(
            f"test accuracy at {found['ratio']:.2f}× fewer MACs, {arm} (validation {found['validation']:.2f}, "
            f"parameters {found['smaller']:.2f}× fewer, batch 1 in ONNX Runtime {found['faster']:.2f}× as fast)",
            value,
            peer=None if arm == PEER else peer,
            target=f"above {PEER}",
            met=arm != PEER and value > peer,
            seeds=seeds,
            spread=[min(entry["test"] for entry in entries), max(entry["test"] for entry in entries)],
        )


def _trained_on(epochs: float) -> Arm:
    def more(network: Network, ratio: float, training: Training, context: Context) -> Network:  # noqa: ARG001
        return train(network, training.model_copy(update={"epochs": epochs}), context, stage="control")[0]

    return more


def _run(work: Arm, base: Network, ratio: float, training: Training, data: Dataset, seed: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        result = work(base, ratio, training, _context(base, data, seed, Path(folder)))
        for network, stem in ((base, "base"), (result, "result")):
            export_network(network, ["onnx"], Path(folder), stem)
        files = Path(folder) / "base.onnx", Path(folder) / "result.onnx"
        inputs = {"x": np.asarray(data.validation.inputs["x"][:64])}
        faster = compare_latency(*files, inputs, 1).ratio
    smaller = cost_of(base).parameters / cost_of(result).parameters
    fewer = cost_of(base).macs / cost_of(result).macs
    return {"ratio": fewer, "smaller": smaller, "faster": faster, **_figures(result, data)}


def _figures(network: Network, data: Dataset) -> dict[str, float]:
    return {"validation": _accuracy(network, data.validation), "test": _accuracy(network, data.test)}


def _accuracy(network: Network, split: Split) -> float:
    outputs = outputs_of(network.module, split, CPU)[-1]
    return 100 * metrics_of(outputs, split.labels, "classification", None)["accuracy"]


def _context(original: Network, data: Dataset, seed: int, folder: Path) -> Context:
    reporter = Reporter(io.StringIO())
    return Context(data, original, CPU, seed, reporter, Checkpoints(folder, "0-benchmark", reporter), 1e9)


def _base(quick: bool, data: Dataset, kept: Kept) -> Network:
    """The zoo's transformer, small: 49 patches of 4 × 4, trained here once."""
    path = kept.path.with_suffix(".base.safetensors")
    if not path.exists():
        size = {"embedding": 48, "depth": 3, "hidden": 96} if quick else {"embedding": 64, "depth": 4, "hidden": 256}
        network = zoo_network("vit-tiny", {"in_channels": 1, "height": 28, "width": 28, "heads": 4, **size}, seed=0)
        training = Training(
            epochs=20 if quick else 10, batch_size=64, learning_rate=1e-3, optimizer="adamw", weight_decay=0.05,
            loss="labels",
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            trained, _ = train(network, training, _context(network, data, 0, Path(folder)), stage="base")
        save_network(trained, path)
    return load_network(path)


if __name__ == "__main__":
    main()
