"""`python -m benchmarks.pruning`: structured pruning of ResNet-20 beside Torch-Pruning, from the same base net, with
the same rounds, epochs, rate, batches and data; what differs is which channels go (and, where said, the teacher).

Two parts: fewer MACs (`--ratios`), where every importance criterion is a row, and less time (`--speeds`), measured in
ONNX Runtime at batch 1 on one thread, in turn with Torch-Pruning's nets. Decided on validation; test is read once, at
the end of each arm. `--quick`: MNIST-5k and a narrow net. `--base FILE`: weights of the base net; without it one is
trained. `--arms`: only those with one of these words in their names.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from benchmarks.claim import Kept, claim
from benchmarks.images import fashion_mnist, mnist_5k
from benchmarks.pruning_arms import ROUNDS, SECONDS, Arm, ours, torch_pruning
from compression import device
from compression.checkpoint import Checkpoints
from compression.context import Context
from compression.data import Dataset, Split
from compression.events import Reporter
from compression.intake.weights import read_weights
from compression.measure.cost import cost_of
from compression.measure.runtime import compare_latency, open_session, random_inputs
from compression.network import Network
from compression.pruning.latency_target import onnx_of
from compression.training.evaluate import metrics_of, outputs_of
from compression.training.loop import train
from compression.training.spec import Training
from compression.zoo.catalog import zoo_network

CPU = torch.device("cpu")


def accuracy(network: Network, split: Split) -> float:
    outputs = outputs_of(network.module, split, CPU)[-1]
    return 100 * metrics_of(outputs, split.labels, "classification", None)["accuracy"]


BY_MACS: dict[str, Arm] = {
    "Niwaki, Taylor, labels and teacher": ours("macs_ratio"),
    "Niwaki, Taylor, labels": ours("macs_ratio", loss="labels"),
    "Niwaki, Taylor, blocks too": ours("macs_ratio", blocks=True),
    "Niwaki, Fisher": ours("macs_ratio", importance="fisher"),
    "Niwaki, Taylor after group sparsity": ours("macs_ratio", sparse=True),
    "Niwaki, magnitude after group sparsity": ours("macs_ratio", importance="magnitude", sparse=True),
    "Niwaki, magnitude": ours("macs_ratio", importance="magnitude"),
    "Niwaki, batch norm": ours("macs_ratio", importance="batch_norm"),
    "Niwaki, random (control)": ours("macs_ratio", importance="random"),
    "Torch-Pruning, magnitude, global": torch_pruning("magnitude", "global"),
    "Torch-Pruning, magnitude, local": torch_pruning("magnitude", "local"),
    "Torch-Pruning, magnitude, local, multiples of 8": torch_pruning("magnitude", "local", 8),
    "Torch-Pruning, Taylor, global": torch_pruning("taylor", "global"),
}
BY_TIME: dict[str, Arm] = {
    "Niwaki, latency": ours("latency_ratio"),
    "Torch-Pruning, timed, magnitude, local, multiples of 16": torch_pruning("magnitude", "local", 16, timed=True),
    "Niwaki, latency, blocks too": ours("latency_ratio", blocks=True),
    "Torch-Pruning, timed, Taylor, global, multiples of 8": torch_pruning("taylor", "global", 8, timed=True),
    "Torch-Pruning, timed, magnitude, local, multiples of 8": torch_pruning("magnitude", "local", 8, timed=True),
    "Niwaki, latency, labels": ours("latency_ratio", loss="labels"),
    "Niwaki, latency, Fisher, blocks too": ours("latency_ratio", importance="fisher", blocks=True),
}


def main() -> None:
    options = _options()
    device.make_deterministic(threads=options.threads)
    data = mnist_5k() if options.quick else fashion_mnist(options.train)
    name = "pruning-quick" if options.quick else f"pruning-{options.train}"
    kept = Kept(name)
    base = _base(options.quick, options.base, data, kept)
    training = Training(epochs=3 / ROUNDS, batch_size=128, learning_rate=0.02, loss="labels", alpha=0.5)
    nets = kept.path.with_suffix(".nets")
    nets.mkdir(exist_ok=True)
    (nets / "base.onnx").write_bytes(onnx_of(base))

    def measured(arm: str, prune: Arm, factor: float) -> list[dict[str, Any]]:
        found = []
        for seed in range(options.seeds):
            key = f"{arm} {factor} {seed}"
            work = lambda: _run(prune, base, 1 / factor, training, data, seed, nets / f"{key}.onnx")  # noqa: B023, E731
            found.append(kept.measure(key, work))
        return found

    control = measured("control", _trained_on, 1.0)
    print(f"control, unpruned, 3 more epochs: test {mean(entry['test'] for entry in control):.2f}")
    for factors, arms, claims in ((options.ratios, BY_MACS, _claims), (options.speeds, BY_TIME, _time_claims)):
        for factor in factors:
            chosen = {arm: prune for arm, prune in arms.items() if any(word in arm for word in options.arms)}
            claims({arm: measured(arm, prune, factor) for arm, prune in chosen.items()}, factor, options.seeds)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--base", type=Path, help="safetensors of ResNet-20 for Fashion-MNIST")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--ratios", type=float, nargs="*", default=[3.0], help="times fewer MACs")
    parser.add_argument("--speeds", type=float, nargs="*", default=[2.0, 3.0], help="times less time")
    parser.add_argument("--arms", nargs="+", default=[""], help="words")
    parser.add_argument("--train", type=int, default=55_000, help="training images used")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def _claims(results: dict[str, list[dict[str, Any]]], factor: float, seeds: int) -> None:
    peers = {arm: entries for arm, entries in results.items() if arm.startswith("Torch-Pruning")}
    if not peers:
        return
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


def _time_claims(results: dict[str, list[dict[str, Any]]], factor: float, seeds: int) -> None:
    """Each net against the base net in turn; the peer is the most accurate on validation of Torch-Pruning's nets that
    measure as fast as ours, within 2 %."""
    speed = {arm: [_speed(entry["file"]) for entry in entries] for arm, entries in results.items()}
    peers = {arm: entries for arm, entries in results.items() if arm.startswith("Torch-Pruning")}
    for arm, entries in results.items():
        test = mean(entry["test"] for entry in entries)
        fast = [peer for peer in peers if mean(speed[peer]) >= 0.98 * mean(speed[arm]) and peer != arm]
        best = max(fast, key=lambda peer: mean(entry["validation"] for entry in peers[peer]), default=None)
        peer = None if best is None else mean(entry["test"] for entry in peers[best])
        ratio = mean(entry["ratio"] for entry in entries)
        validation = mean(entry["validation"] for entry in entries)
        claim(
            f"test accuracy at {mean(speed[arm]):.2f}× measured ({factor:g}× wanted; {ratio:.2f}× fewer MACs), {arm} "
            f"(validation {validation:.2f})",
            test,
            peer=peer,
            target=f"above every net of Torch-Pruning's that measures as fast ({best or 'none is'})",
            met=arm not in peers and mean(speed[arm]) >= 0.98 * factor and (peer is None or test > peer),
            seeds=seeds,
            spread=[min(entry["test"] for entry in entries), max(entry["test"] for entry in entries)],
        )


def _speed(file: str) -> float:
    base = Path(file).parent / "base.onnx"
    return compare_latency(base, Path(file), random_inputs(open_session(base), 1), 1, SECONDS).ratio


def _trained_on(network: Network, ratio: float, training: Training, context: Context) -> Network:  # noqa: ARG001
    return train(network, training.model_copy(update={"epochs": 3.0}), context, stage="control")[0]


def _run(
    prune: Arm, base: Network, ratio: float, training: Training, data: Dataset, seed: int, file: Path
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        result = prune(base, ratio, training, _context(base, data, seed, Path(folder)))
    file.write_bytes(onnx_of(result))
    return {
        "ratio": cost_of(base).macs / cost_of(result).macs,
        "validation": accuracy(result, data.validation),
        "test": accuracy(result, data.test),
        "file": str(file),
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
