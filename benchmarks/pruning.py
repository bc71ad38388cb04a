"""`python -m benchmarks.pruning`: structured pruning of ResNet-20 beside Torch-Pruning, from the same base net, with
the same rounds, epochs, rate, batches and data; what differs is which channels go (and, where said, the teacher).

Every importance criterion is a row. Decided on validation; test is read once, at the end of each arm. `--quick`:
MNIST-5k and a narrow net. `--base FILE`: weights of the base net; without it one is trained.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import torch
import torch_pruning as tp

from benchmarks.claim import Kept, claim
from benchmarks.images import fashion_mnist, mnist_5k
from compression import device
from compression.checkpoint import Checkpoints
from compression.context import Context
from compression.data import Dataset, Split
from compression.events import Reporter
from compression.intake.weights import read_weights
from compression.measure.cost import cost_of
from compression.methods.prune.structured import PruneStructured, apply
from compression.network import Network
from compression.training.evaluate import metrics_of, outputs_of
from compression.training.loop import train
from compression.training.spec import Training
from compression.zoo.catalog import zoo_network

ROUNDS = 5
CPU = torch.device("cpu")
Arm = Callable[[Network, float, Training, Context], Network]


def ours(criterion: str, loss: str) -> Arm:
    def prune(network: Network, ratio: float, training: Training, context: Context) -> Network:
        spec = PruneStructured(
            macs_ratio=ratio,
            rounds=ROUNDS,
            importance=criterion,
            finetune=training.model_copy(update={"loss": loss}),
        )
        return apply(network, spec, context).network

    return prune


def torch_pruning(criterion: str, scope: str) -> Arm:
    def prune(network: Network, ratio: float, training: Training, context: Context) -> Network:
        importance = (
            tp.importance.GroupTaylorImportance()
            if criterion == "taylor"
            else tp.importance.GroupMagnitudeImportance(p=2)
        )
        before = cost_of(network).macs
        current = network
        for number in range(1, ROUNDS + 1):
            module = current.copy().module
            last = [entry for entry in module.modules() if isinstance(entry, torch.nn.Linear)][-1]
            pruner = tp.pruner.BasePruner(
                module, network.example(2), importance, global_pruning=scope == "global",
                pruning_ratio=0.95, iterative_steps=400, ignored_layers=[last],
            )  # fmt: skip
            if criterion == "taylor":
                _gradients(module, context)
            cut = current.replaced(module=module)
            while cost_of(cut).macs > before * ratio ** (number / ROUNDS):
                pruner.step()
            for parameter in module.parameters():
                parameter.grad = None
            current, _ = train(
                cut, training.model_copy(update={"loss": "labels"}), context, stage=f"tp-{number}", field=""
            )
        return current

    return prune


def _gradients(module: Any, context: Context) -> None:
    data = context.require_data("taylor")
    chosen = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(context.seed))[:2048]
    for part in chosen.split(256):  # type: ignore[no-untyped-call]
        batch = data.train.take(part)
        assert batch.labels is not None
        loss = torch.nn.functional.cross_entropy(module(*batch.inputs.values()), batch.labels)
        loss.backward()  # type: ignore[no-untyped-call]


def accuracy(network: Network, split: Split) -> float:
    outputs = outputs_of(network.module, split, CPU)[-1]
    return 100 * metrics_of(outputs, split.labels, "classification", None)["accuracy"]


ARMS: dict[str, Arm] = {
    "Niwaki, Taylor, labels": ours("taylor", "labels"),
    "Niwaki, Taylor, labels and teacher": ours("taylor", "both"),
    "Niwaki, magnitude, labels": ours("magnitude", "labels"),
    "Niwaki, batch norm, labels": ours("batch_norm", "labels"),
    "Torch-Pruning, magnitude, global": torch_pruning("magnitude", "global"),
    "Torch-Pruning, magnitude, local": torch_pruning("magnitude", "local"),
    "Torch-Pruning, Taylor, global": torch_pruning("taylor", "global"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--base", type=Path, help="safetensors of ResNet-20 for Fashion-MNIST")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--ratios", type=float, nargs="+", default=[3.0])
    parser.add_argument("--train", type=int, default=55_000, help="training images used")
    options = parser.parse_args()
    device.make_deterministic(threads=2)
    data = mnist_5k() if options.quick else fashion_mnist(options.train)
    name = "pruning-quick" if options.quick else f"pruning-{options.train}"
    kept = Kept(name)
    base = _base(options.quick, options.base, data, kept)
    training = Training(epochs=3 / ROUNDS, batch_size=128, learning_rate=0.02, loss="labels", alpha=0.5)
    control = [
        kept.measure(f"control {seed}", lambda: _run(_trained_on, base, 1.0, training, data, seed))  # noqa: B023
        for seed in range(options.seeds)
    ]
    print(f"control, unpruned, 3 more epochs: test {mean(entry['test'] for entry in control):.2f}")
    for factor in options.ratios:
        results = {
            arm: [
                kept.measure(f"{arm} {factor} {seed}", lambda: _run(prune, base, 1 / factor, training, data, seed))  # noqa: B023
                for seed in range(options.seeds)
            ]
            for arm, prune in ARMS.items()
        }
        _claims(results, factor, options.seeds)


def _claims(results: dict[str, list[dict[str, float]]], factor: float, seeds: int) -> None:
    peers = {arm: entries for arm, entries in results.items() if arm.startswith("Torch-Pruning")}
    best = max(peers, key=lambda arm: mean(entry["validation"] for entry in peers[arm]))
    peer = mean(entry["test"] for entry in peers[best])
    for arm, entries in results.items():
        value = mean(entry["test"] for entry in entries)
        validation = mean(entry["validation"] for entry in entries)
        ratio = mean(entry["ratio"] for entry in entries)
        claim(
            f"test accuracy at {ratio:.2f}× fewer MACs ({factor:g}× wanted), {arm} (validation {validation:.2f})",
            value,
            peer=None if arm in peers else peer,
            target=f"above Torch-Pruning's best recipe on validation ({best})",
            met=arm not in peers and value > peer,
            seeds=seeds,
            spread=[min(entry["test"] for entry in entries), max(entry["test"] for entry in entries)],
        )


def _trained_on(network: Network, ratio: float, training: Training, context: Context) -> Network:  # noqa: ARG001
    return train(network, training.model_copy(update={"epochs": 3.0}), context, stage="control")[0]


def _run(prune: Arm, base: Network, ratio: float, training: Training, data: Dataset, seed: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        result = prune(base, ratio, training, _context(base, data, seed, Path(folder)))
    return {
        "ratio": cost_of(base).macs / cost_of(result).macs,
        "validation": accuracy(result, data.validation),
        "test": accuracy(result, data.test),
    }


def _context(original: Network, data: Dataset, seed: int, folder: Path) -> Context:
    reporter = Reporter(io.StringIO())
    return Context(data, original, CPU, seed, reporter, Checkpoints(folder, "0-benchmark", reporter), 1e9)


def _base(quick: bool, path: Path | None, data: Dataset, kept: Kept) -> Network:
    arguments = {"in_channels": 1, "height": 28, "width": 28, "channels": 8 if quick else 16}
    if path is not None and not quick:
        return read_weights(path, {"architecture": "resnet20", "arguments": arguments})
    folder = kept.path.with_suffix(".base")
    folder.mkdir(exist_ok=True)
    network = zoo_network("resnet20", arguments, seed=0)
    training = Training(epochs=3 if quick else 6, batch_size=128, learning_rate=0.1, loss="labels")
    return train(network, training, _context(network, data, 0, folder), stage="base")[0]


if __name__ == "__main__":
    main()
