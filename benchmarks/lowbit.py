"""`python -m benchmarks.lowbit`: floats of two bytes, ternary and binary weights on Fashion-MNIST's LeNet-5 and
ResNet-20, beside the same without training and beside plain codebooks of as many bits, all with the same images,
epochs, optimizer and teacher (the net itself); first and last layers have 8 bits in every arm but one.

Epochs are chosen on validation; test is read once an arm, from the `.nwk` file, decoded. `--base FOLDER`: base nets
(lenet5-fashion.safetensors, …), else they are trained. `--quick`: LeNet-5, few images, one seed. What is measured is
kept, so that a run cut off goes on.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
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
from compression.container.network import read_nwk, write_nwk
from compression.context import Context
from compression.data import Dataset, Split
from compression.events import Reporter
from compression.export.onnx import write_onnx
from compression.intake.weights import load_network, read_weights, save_network
from compression.measure.runtime import open_session
from compression.network import Network
from compression.registry import methods
from compression.spec import parse_job
from compression.training.evaluate import outputs_of
from compression.training.loop import train
from compression.training.spec import Training
from compression.zoo.catalog import zoo_network

CPU = torch.device("cpu")
ARGUMENTS: Mapping[str, dict[str, Any]] = {
    "lenet5": {},
    "resnet20": {"in_channels": 1, "height": 28, "width": 28},
}
ENDS = {"lenet5": ["c1", "f2"], "resnet20": ["conv1", "fc"]}
Result = dict[str, Any]
Steps = list[dict[str, Any]]


@dataclass(frozen=True)
class Size:
    """Images and epochs of every trained arm, and how many images are judged."""

    train: int
    validation: int
    test: int
    epochs: float


SIZES = {"lenet5": Size(10_000, 5_000, 10_000, 3), "resnet20": Size(2_000, 1_000, 5_000, 2)}
QUICK = Size(3_000, 1_000, 2_000, 1)


def arms(network: str, epochs: float) -> dict[str, Steps]:
    training = {"epochs": epochs, "optimizer": "adamw", "learning_rate": 0.001}
    ternary, binary = {"method": "quantize.ternary"}, {"method": "quantize.binary"}
    return {
        "float32": [],
        "float16": [{"method": "quantize.float16"}],
        "bfloat16": [{"method": "quantize.float16", "dtype": "bfloat16"}],
        "ternary, no training": [ternary | {"training": None}],
        "binary, no training": [binary | {"training": None}],
        "ternary": [ternary | {"training": training}],
        "binary": [binary | {"training": training}],
        "codebook, 2 bits": shared(network, 2, training),
        "codebook, 1 bit": shared(network, 1, training),
        "ternary, 0.05 of the max": [ternary | {"training": training, "threshold_of": "max"}],
        "ternary, ends too": [ternary | {"training": training, "first_last_bits": 2}],
    }


def shared(network: str, bits: int, training: dict[str, Any]) -> Steps:
    codebook = {"method": "quantize.codebook"}
    ends = {"layers": {"include": ENDS[network]}, "convolution_bits": 8, "linear_bits": 8, "finetune": None}
    inner = {"layers": {"exclude": ENDS[network]}, "convolution_bits": bits, "linear_bits": bits, "finetune": training}
    return [codebook | ends, codebook | inner]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--base", type=Path)
    parser.add_argument("--networks", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    device.make_deterministic(threads=1)
    if options.quick:
        options.networks, options.seeds = ["lenet5"], 1
    for network in options.networks:
        size = QUICK if options.quick else SIZES[network]
        _measure(network, size, options)


def _measure(network: str, size: Size, options: argparse.Namespace) -> None:
    kept = Kept(f"lowbit-{network}-{size.train}-{size.epochs:g}")
    data = _data(network, size)
    base = _base(network, data, options)
    rows: dict[str, list[Result]] = {}
    for name, steps in arms(network, size.epochs).items():
        trained = any(step.get("training") or step.get("finetune") for step in steps)
        seeds = range(options.seeds if trained else 1)
        rows[name] = [
            kept.measure(f"{name}, seed {seed}", partial(_run, base, steps, data, seed, with_onnx=seed == 0))
            for seed in seeds
        ]
        _print(network, name, rows[name])
    kinds = ("float16", "bfloat16", "ternary")
    latency = kept.measure("latency", partial(_latency, base, {kind: arms(network, 0.1)[kind] for kind in kinds}, data))
    _claims(network, rows, latency)


def _run(base: Network, steps: Steps, data: Dataset, seed: int, *, with_onnx: bool) -> Result:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        network = _applied(base, steps, data, seed, folder).replaced(provenance=())
        write_nwk(network, folder / "net.nwk")
        decoded = read_nwk(folder / "net.nwk")
        found = {
            "nwk": (folder / "net.nwk").stat().st_size,
            "validation": _accuracy(decoded, data.validation),
            "test": _accuracy(decoded, data.test),
        }
        if with_onnx:
            _write_onnx(network, folder / "net.onnx")
            found["onnx"] = (folder / "net.onnx").stat().st_size
    return found


def _applied(base: Network, steps: Steps, data: Dataset, seed: int, folder: Path) -> Network:
    reporter, network = Reporter(io.StringIO()), base
    for index, step in enumerate(parse_job({"steps": steps}).steps if steps else ()):
        context = Context(data, base, CPU, seed, reporter, Checkpoints(folder, f"{index}-benchmark", reporter), 1e9)
        network = methods()[step.method].apply(network, step, context).network
    return network


def _write_onnx(network: Network, path: Path) -> None:
    write_onnx(network.module, network.signature, network.example(2), path, network.encodings)


def _accuracy(network: Network, split: Split) -> float:
    assert split.labels is not None
    return 100 * float((outputs_of(network.module, split, CPU)[-1].argmax(-1) == split.labels).double().mean())


def _latency(base: Network, kinds: Mapping[str, Steps], data: Dataset, rounds: int = 15) -> dict[str, list[float]]:
    """Of each kind's `.onnx` file in ONNX Runtime, one thread, one image: its median time over that of the plain file,
    by rounds in which all take turns."""
    with tempfile.TemporaryDirectory() as name:
        folder, runs = Path(name), dict[str, Callable[[], Any]]()
        for index, (kind, steps) in enumerate({"float32": [], **kinds}.items()):
            (folder / str(index)).mkdir()
            network = _applied(base, steps, data, 0, folder / str(index))
            _write_onnx(network, folder / f"{index}.onnx")
            session = open_session(folder / f"{index}.onnx")
            runs[kind] = partial(session.run, None, {"x": network.example(1)[0].numpy()})
        ratios: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(rounds):
            times = {kind: _median(run) for kind, run in runs.items()}
            for kind in kinds:
                ratios[kind].append(times[kind] / times["float32"])
    return ratios


def _median(run: Callable[[], Any], count: int = 100) -> float:
    times = []
    for _ in range(count):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def _data(network: str, size: Size) -> Dataset:
    """LeNet-5 takes pixels in [0, 1], ResNet-20 normalised ones."""
    whole = fashion_mnist()
    splits = ((whole.train, size.train), (whole.validation, size.validation), (whole.test, size.test))
    parts = []
    for split, count in splits:
        assert split.labels is not None
        x = split.inputs["x"][:count]
        parts.append(Split({"x": x * 0.3530 + 0.2860 if network == "lenet5" else x}, split.labels[:count]))
    return Dataset(parts[0], parts[1], parts[2], "classification")


def _base(network: str, data: Dataset, options: argparse.Namespace) -> Network:
    if options.base is not None:
        document = {"architecture": network, "arguments": ARGUMENTS[network]}
        return read_weights(options.base / f"{network}-fashion.safetensors", document)
    path = Path("out/benchmarks") / f"lowbit-base-{network}-{len(data.train)}.safetensors"
    if not path.exists():
        drawn = zoo_network(network, ARGUMENTS[network], seed=0)
        spec = Training(epochs=6, optimizer="adamw", learning_rate=0.002, loss="labels")
        with tempfile.TemporaryDirectory() as folder:
            reporter = Reporter(io.StringIO())
            context = Context(data, drawn, CPU, 0, reporter, Checkpoints(Path(folder), "0-base", reporter), 1e9)
            save_network(train(drawn, spec, context, stage="base")[0], path)
    return load_network(path)


def _mean(results: Sequence[Result], name: str) -> float:
    return float(np.mean([entry[name] for entry in results]))


def _print(network: str, arm: str, results: Sequence[Result]) -> None:
    print(
        f"{network}, {arm}: .onnx {results[0]['onnx']}, .nwk {_mean(results, 'nwk'):.0f} bytes, "
        f"validation {_mean(results, 'validation'):.2f}, test {_mean(results, 'test'):.2f}",
        flush=True,
    )


def _claims(network: str, rows: Mapping[str, Sequence[Result]], latency: Mapping[str, Sequence[float]]) -> None:
    base = rows["float32"]
    for kind in ("float16", "bfloat16"):
        for form in ("onnx", "nwk"):
            ratio = base[0][form] / rows[kind][0][form]
            target = "at least 1.9" if form == "onnx" else "none"
            met = form == "nwk" or ratio >= 1.9
            text = f"bytes of the float32 .{form} / {kind}'s, {network}"
            claim(text, ratio, peer=None, target=target, met=met, seeds=1, spread=None)
        lost = _mean(base, "test") - _mean(rows[kind], "test")
        text = f"points of test accuracy lost, {kind}, {network}"
        claim(text, lost, peer=None, target="at most 0.1", met=lost <= 0.1, seeds=1, spread=None)
    for kind, ratios in latency.items():
        slower = float(np.median(ratios))
        text, spread = f"latency / that of float32, .onnx, {kind}, {network}", (min(ratios), max(ratios))
        claim(text, slower, peer=1.0, target="at most 1.05", met=slower <= 1.05, seeds=len(ratios), spread=spread)
    for own, peer in (
        ("ternary", "ternary, no training"),
        ("ternary", "ternary, 0.05 of the max"),
        ("ternary", "codebook, 2 bits"),
        ("binary", "binary, no training"),
        ("binary", "codebook, 1 bit"),
    ):
        _compare(network, own, peer, rows)


def _compare(network: str, own: str, peer: str, rows: Mapping[str, Sequence[Result]]) -> None:
    ours, theirs = _mean(rows[own], "test"), _mean(rows[peer], "test")
    values = [entry["test"] for entry in rows[own]]
    bytes_ = ", ".join(f"{arm} {_mean(rows[arm], 'nwk'):.0f}" for arm in (own, peer))
    base = _mean(rows["float32"], "test")
    claim(
        f"test accuracy, {network}, {own} against {peer} (.nwk bytes: {bytes_}; float32 {base:.2f})",
        ours,
        peer=theirs,
        target="above",
        met=ours > theirs,
        seeds=len(values),
        spread=(min(values), max(values)),
    )


if __name__ == "__main__":
    main()
