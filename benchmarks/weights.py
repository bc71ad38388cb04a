"""`python -m benchmarks.weights`: every schedule, scope and pattern of `prune.weights` on LeNet-300-100 and
Fashion-MNIST, from the same base net, with as many epochs in all on the first 10,000 images, labels alone.

The control is the base net trained on for as long. Weights kept are the best on validation; test is read once an arm
and seed (of the order of batches). A difference counts where it exceeds its standard error (over seeds, and of the
test split). `--base DIR`: base nets. `--quick`: 2,000 images, one seed, one share of zeros.
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
from benchmarks.lottery import fashion_flat
from compression import device
from compression.checkpoint import Checkpoints
from compression.context import Context
from compression.data import Dataset
from compression.events import Reporter
from compression.intake.weights import read_weights
from compression.measure.storage import measure_storage
from compression.methods.prune.weights import PruneWeights, apply
from compression.network import Network
from compression.pruning.lottery_findings import margin
from compression.training.evaluate import metrics_of, outputs_of
from compression.training.loop import train
from compression.training.spec import Training
from compression.zoo.catalog import zoo_network

CPU = torch.device("cpu")
EPOCHS, ROUNDS = 6.0, 3
ARMS: dict[str, dict[str, Any]] = {
    "one-shot, global": {"schedule": "one-shot"},
    "iterative, global": {"schedule": "iterative"},
    "gradual, global": {"schedule": "gradual"},
    "iterative, layer": {"schedule": "iterative", "scope": "layer"},
    "gradual, layer": {"schedule": "gradual", "scope": "layer"},
    "iterative, sensitivity": {"schedule": "iterative", "scope": "sensitivity"},
    "gradual, sensitivity": {"schedule": "gradual", "scope": "sensitivity"},
}
PAIRS = (
    ("iterative, global", "one-shot, global"),
    ("gradual, global", "one-shot, global"),
    ("gradual, global", "iterative, global"),
    ("iterative, sensitivity", "iterative, layer"),
    ("iterative, sensitivity", "iterative, global"),
    ("gradual, sensitivity", "gradual, layer"),
)
Results = list[dict[str, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--base", type=Path, help="folder of lenet300-fashion.safetensors; none: one is trained")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sparsities", type=float, nargs="+", default=[0.95, 0.98])
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    device.make_deterministic(options.threads)
    seeds, sparsities = (1, [0.95]) if options.quick else (options.seeds, options.sparsities)
    data = fashion_flat(2000 if options.quick else 10_000)
    kept = Kept("weights" + ("-quick" if options.quick else ""))
    base = _base(options.base, data, kept)

    def measured(name: str, fields: dict[str, Any] | None) -> Results:
        return [kept.measure(f"{name} {seed}", lambda: _run(base, fields, data, seed)) for seed in range(seeds)]  # noqa: B023

    control = measured("control", None)
    print(f"control, unpruned, {EPOCHS:g} more epochs: test {mean(entry['test'] for entry in control):.2f}")
    for sparsity in sparsities:
        rows = {arm: measured(f"{arm} {sparsity}", {**fields, "sparsity": sparsity}) for arm, fields in ARMS.items()}
        _tell(rows, f"{sparsity:.0%} zeros", control, len(data.test))
        for one, other in PAIRS:
            _compare(f"{sparsity:.0%} zeros: {one}, above {other}", rows[one], rows[other], len(data.test))
    rows = {f"{name} {when}": measured(f"{name} {when}", {"schedule": when, **fields})
            for when in ("one-shot", "iterative", "gradual")
            for name, fields in (("2:4", {"pattern": "2:4"}), ("half", {"sparsity": 0.5}))}  # fmt: skip
    _tell(rows, "half of the weights", control, len(data.test))
    _compare(
        "half of the weights: 2:4, above anywhere, one-shot",
        rows["2:4 one-shot"],
        rows["half one-shot"],
        len(data.test),
    )


def _tell(rows: dict[str, Results], what: str, control: Results, tested: int) -> None:
    for arm, found in rows.items():
        scores = [entry["test"] for entry in found]
        error = _error(found, control, tested)
        means = {name: mean(entry[name] for entry in found) for name in found[0]}
        claim(
            f"test accuracy, {what}, {arm} (validation {means['validation']:.2f}; bytes sparse {means['sparse']:,.0f}, "
            f"coded {means['coded']:,.0f} of {means['dense']:,.0f})",
            mean(scores),
            peer=mean(entry["test"] for entry in control),
            target="not below the unpruned control by more than the error",
            met=mean(scores) >= mean(entry["test"] for entry in control) - error,
            seeds=len(found),
            spread=[min(scores), max(scores)],
        )


def _compare(text: str, ours: Results, peer: Results, tested: int) -> None:
    error = _error(ours, peer, tested)
    pairs = [one["test"] - other["test"] for one, other in zip(ours, peer, strict=True)]
    claim(
        f"points of test accuracy, {text} (error {error:.2f})",
        mean(pairs),
        peer=0.0,
        target="above by more than the error",
        met=mean(pairs) > error,
        seeds=len(ours),
        spread=[min(pairs), max(pairs)],
    )


def _error(one: Results, other: Results, tested: int) -> float:
    sides = [[entry["test"] / 100 for entry in side] for side in (one, other)]
    return 100 * margin(sides[0], sides[1], True, tested)


def _run(base: Network, fields: dict[str, Any] | None, data: Dataset, seed: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        context = _context(base, data, seed, Path(folder))
        if fields is None:
            network = train(base, _training(EPOCHS), context, stage="control")[0]
        else:
            epochs = EPOCHS / ROUNDS if fields["schedule"] == "iterative" else EPOCHS
            spec = PruneWeights(rounds=ROUNDS, every=10, finetune=_training(epochs), **fields)
            network = apply(base, spec, context).network
    storage = measure_storage(network)
    found: dict[str, float] = {}
    if storage is not None:
        found |= {"dense": storage.dense, "sparse": storage.sparse, "coded": storage.coded}
    for name, split in (("validation", data.validation), ("test", data.test)):
        outputs = outputs_of(network.module, split, CPU)[-1]
        found[name] = 100 * metrics_of(outputs, split.labels, data.task, None)["accuracy"]
    return found


def _training(epochs: float) -> Training:
    return Training(epochs=epochs, batch_size=64, learning_rate=0.02, loss="labels", second_chances=0)


def _base(folder: Path | None, data: Dataset, kept: Kept) -> Network:
    arguments = {"features": 784}
    if folder is not None:
        return read_weights(
            folder / "lenet300-fashion.safetensors", {"architecture": "lenet300", "arguments": arguments}
        )
    network = zoo_network("lenet300", arguments, seed=0)
    place = kept.path.with_suffix(".base")
    return train(network, _training(10), _context(network, data, 0, place), stage="base")[0]


def _context(original: Network, data: Dataset, seed: int, folder: Path) -> Context:
    reporter = Reporter(io.StringIO())
    return Context(data, original, CPU, seed, reporter, Checkpoints(folder, "0-benchmark", reporter), 1e9)


if __name__ == "__main__":
    main()
