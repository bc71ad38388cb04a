"""`python -m benchmarks.int8`: `quantize.int8` beside ONNX Runtime's own best static recipe (U8S8, per channel, its
pre-processing) on the same float file, the same calibration samples, in one process: interleaved runs on one thread,
the ratio of the medians by fresh pairs of sessions. Networks: ResNet-20 and LeNet-5 that have learned Fashion-MNIST
(`--base FOLDER`), a VGG and a MobileNetV2 of the zoo, trained here, and a ViT (dynamic; its weights are random, so that
only its speed and its error are told).

Then what each variant does: calibrations, bias correction, a budget with its sensitivity scan, quantization-aware
training. Choices would be made on validation; accuracies here are of the test split, read from the files.
`--quick`: LeNet-5 and MobileNetV2 with little training. What is measured is kept, so that a run cut off goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.claim import Kept, claim
from benchmarks.images import fashion_mnist
from compression import device
from compression.checkpoint import Checkpoints
from compression.context import Context
from compression.data import Dataset, Split
from compression.events import Reporter
from compression.export.onnx import write_onnx
from compression.intake.weights import load_network, read_weights, save_network
from compression.measure.runtime import compare_latency, predict
from compression.methods.quantize.int8 import QuantizeInt8
from compression.network import Network
from compression.quantization.int8.quantize import quantized
from compression.training.loop import train
from compression.training.spec import Training
from compression.zoo.catalog import zoo_network

Result = dict[str, Any]
CPU = torch.device("cpu")
IMAGE = {"in_channels": 1, "height": 28, "width": 28}
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet20": ("resnet20", IMAGE),
    "lenet5": ("lenet5", {}),
    "vgg": ("vgg-small", {**IMAGE, "channels": 16}),
    "mobilenet": ("mobilenet-v2", {**IMAGE, "multiplier": 0.35}),
}
SAMPLES = 512
FEW = 8
"""Calibration samples of the hard case."""
VARIANTS: dict[str, dict[str, Any]] = {
    "minmax, no bias correction": {"bias_correction": False},
    "minmax": {},
    "percentile": {"calibration": "percentile"},
    "mse": {"calibration": "mse"},
    "entropy": {"calibration": "entropy"},
    f"minmax, {FEW} samples": {"samples": FEW},
    "reduce_range": {"reduce_range": True},
    "reduce_range, no bias correction": {"reduce_range": True, "bias_correction": False},
    "budget 0.1": {"accuracy_budget": 0.1},
    "reduce_range, budget 0.1": {"reduce_range": True, "accuracy_budget": 0.1},
}


@dataclass(frozen=True)
class Case:
    """A network that has learned, its data, and its float file."""

    name: str
    network: Network
    data: Dataset
    file: Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--base", type=Path, default=Path("../shared/base"))
    parser.add_argument("--networks", nargs="+", default=[*NETWORKS, "vit"], choices=[*NETWORKS, "vit"])
    parser.add_argument("--train", type=int, default=20_000, help="training images")
    parser.add_argument("--base-epochs", type=float, default=6, help="of the networks trained here")
    parser.add_argument("--epochs", type=float, default=2, help="of QAT")
    options = parser.parse_args()
    device.make_deterministic(threads=1)
    if options.quick:
        options.networks, options.train = ["lenet5", "mobilenet"], 3000
        options.base_epochs, options.epochs = 2, 0.5
    kept = Kept(f"int8-{options.train}-{options.base_epochs:g}-{options.epochs:g}")
    with tempfile.TemporaryDirectory() as name:
        if "vit" in options.networks:
            _transformer(kept)
        cases = [_case(network, options, kept, Path(name)) for network in options.networks if network != "vit"]
        for case in cases:
            _claim_beside(case.name, _kept_beside(case, kept, Path(name)))
        for case in cases:
            _variants(case, kept, Path(name))
        for case in cases:
            _trained(case, kept, options, Path(name))


def _kept_beside(case: Case, kept: Kept, folder: Path) -> Result:
    found: Result = kept.measure(f"{case.name}: beside ONNX Runtime's recipe", lambda: _beside(case, folder))
    return found


def _variants(case: Case, kept: Kept, folder: Path) -> None:
    for label, more in VARIANTS.items():
        found = kept.measure(f"{case.name}: {label}", partial(_variant, case, more, folder))
        print_row(case.name, label, found)


def _case(name: str, options: argparse.Namespace, kept: Kept, folder: Path) -> Case:
    architecture, arguments = NETWORKS[name]
    data = fashion_mnist(options.train)
    if name == "lenet5":
        data = _unnormalised(data)
    base = options.base / f"{name}-fashion.safetensors"
    if base.exists():
        network = read_weights(base, {"architecture": architecture, "arguments": arguments})
    else:
        stored = kept.path.with_name(f"{kept.path.stem}-{name}.safetensors")
        if not stored.exists():
            drawn = zoo_network(architecture, arguments, seed=0)
            rates = Training(epochs=options.base_epochs, batch_size=128, learning_rate=0.05, loss="labels")
            save_network(train(drawn, rates, context_of(drawn, data, folder), stage="base")[0], stored)
        network = load_network(stored)
    file = folder / f"{name}.onnx"
    write_onnx(network.module, network.signature, network.example(2), file)
    return Case(name, network, data, file)


def _unnormalised(data: Dataset) -> Dataset:
    """The LeNets take pixels / 255 as they are."""

    def part(split: Split) -> Split:
        return Split({"x": split.inputs["x"] * 0.3530 + 0.2860}, split.labels)

    return Dataset(part(data.train), part(data.validation), part(data.test), data.task)


def context_of(network: Network, data: Dataset | None, folder: Path) -> Context:
    reporter = Reporter(io.StringIO())
    place = Path(tempfile.mkdtemp(dir=folder))
    return Context(data, network, CPU, 0, reporter, Checkpoints(place, "benchmark", reporter), 1e9)


def ours(case: Case, folder: Path, **more: Any) -> tuple[bytes, dict[str, Any]]:
    spec = QuantizeInt8.model_validate({"mode": "static", "samples": SAMPLES, **more})
    result = quantized(case.network, spec, context_of(case.network, case.data, folder))
    return result.network.file, result.facts


def theirs(case: Case, folder: Path) -> bytes:
    """ONNX Runtime's quantize_static as its documentation advises for x86 with VNNI."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, values: NDArray[Any]) -> None:
            self.batches: Iterator[NDArray[Any]] = iter(np.split(values, len(values) // 32))

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            found = next(self.batches, None)
            return None if found is None else {"x": found}

    inputs = case.data.train.inputs["x"]
    spread = torch.linspace(0, len(inputs) - 1, SAMPLES, dtype=torch.float64).round().long()
    with contextlib.redirect_stdout(io.StringIO()):
        quant_pre_process(str(case.file), str(folder / "pre.onnx"), skip_symbolic_shape=True)
        quantize_static(
            str(folder / "pre.onnx"),
            str(folder / "theirs.onnx"),
            Reader(inputs[spread].numpy()),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    return (folder / "theirs.onnx").read_bytes()


def _beside(case: Case, folder: Path) -> Result:
    own, their = ours(case, folder)[0], theirs(case, folder)
    samples = {"x": case.data.test.inputs["x"][:64].numpy()}
    found: Result = {"bytes": [len(own), len(their)]}
    pairs: dict[str, tuple[Path | bytes, bytes]] = {
        "own": (case.file, own), "their": (case.file, their), "beside": (their, own),
    }  # fmt: skip
    for label, (before, after) in pairs.items():
        speed = compare_latency(before, after, samples, 1, 6.0)
        found[label] = [speed.ratio, speed.low, speed.high]
    for label, file in (("float", case.file), ("own_test", own), ("their_test", their)):
        found[label] = accuracy(file, case)
    wanted = logits(case.file, case)
    found["own_error"], found["their_error"] = (_error(logits(file, case), wanted) for file in (own, their))
    return found


def logits(file: Path | bytes, case: Case) -> NDArray[Any]:
    return predict(file, {"x": case.data.test.inputs["x"].numpy()})[-1]


def accuracy(file: Path | bytes, case: Case) -> float:
    assert case.data.test.labels is not None
    return float((logits(file, case).argmax(1) == case.data.test.labels.numpy()).mean())


def _error(value: NDArray[Any], wanted: NDArray[Any]) -> float:
    return float(np.linalg.norm(value - wanted) / np.linalg.norm(wanted))


def _claim_beside(name: str, found: Result) -> None:
    ratio, low, high = found["beside"]
    claim(
        f"{name}: times as fast as ONNX Runtime's static recipe at batch 1 "
        f"(beside float: {found['own'][0]:.2f}, theirs {found['their'][0]:.2f})",
        ratio, peer=1.0, target="≥ 1, as far as can be told", met=high >= 1, seeds=1, spread=[low, high],
    )  # fmt: skip
    claim(
        f"{name}: points of accuracy lost, test ({found['bytes'][0]:,} bytes, theirs {found['bytes'][1]:,})",
        100 * (found["float"] - found["own_test"]), peer=100 * (found["float"] - found["their_test"]),
        target="≤ theirs", met=found["own_test"] >= found["their_test"], seeds=1, spread=None,
    )  # fmt: skip
    claim(
        f"{name}: relative error of the logits, test",
        found["own_error"], peer=found["their_error"], target="≤ theirs",
        met=found["own_error"] <= found["their_error"], seeds=1, spread=None,
    )  # fmt: skip


def _variant(case: Case, more: dict[str, Any], folder: Path) -> Result:
    file, facts = ours(case, folder, **more)
    wanted = logits(case.file, case)
    return {
        "lost": 100 * (accuracy(case.file, case) - accuracy(file, case)),
        "error": _error(logits(file, case), wanted),
        "bytes": len(file),
        "float_layers": facts["float_layers"],
        "lost_on_validation": facts["files"][0]["lost"],
    }


def print_row(name: str, label: str, found: Result) -> None:
    stay = f", {len(found['float_layers'])} layers float" if found["float_layers"] else ""
    claim(
        f"{name}, {label}: points lost, test (error of logits {found['error']:.4f}, {found['bytes']:,} bytes{stay})",
        found["lost"], peer=None, target="told", met=True, seeds=1, spread=None,
    )  # fmt: skip


def _trained(case: Case, kept: Kept, options: argparse.Namespace, folder: Path) -> None:
    """QAT, beside the same training without rounding that is then quantized: what training itself gives isn't counted
    as QAT's. Of 7-bit weights calibrated on few samples, where something is lost."""
    hard = {"reduce_range": True, "samples": FEW}
    schedule = {"epochs": options.epochs, "batch_size": 128, "learning_rate": 0.005, "loss": "both"}
    before = kept.measure(f"{case.name}: hard", lambda: _variant(case, hard, folder))
    after = kept.measure(f"{case.name}: hard, QAT", lambda: _variant(case, {**hard, "qat": schedule}, folder))

    def control() -> Result:
        spec = Training.model_validate(schedule)
        network = train(case.network, spec, context_of(case.network, case.data, folder), stage="control")[0]
        path = folder / "control.onnx"
        write_onnx(network.module, network.signature, network.example(2), path)
        same = Case(case.name, network, case.data, path)
        lost = 100 * (accuracy(case.file, case) - accuracy(path, same))
        return {"float_lost": lost, "lost": lost + _variant(same, hard, folder)["lost"]}

    plain = kept.measure(f"{case.name}: hard, trained without rounding", control)
    gap = before["lost"]
    claim(
        f"{case.name}, weights of 7 bits, {FEW} samples: points lost with QAT (without: {gap:.2f}; trained without "
        f"rounding and then quantized: {plain['lost']:.2f}, its float {plain['float_lost']:.2f})",
        after["lost"], peer=gap, target="≤ half of what is lost without" if gap > 0.1 else "nothing was lost",
        met=after["lost"] <= max(gap / 2, 0.1), seeds=1, spread=None,
    )  # fmt: skip


def _transformer(kept: Kept) -> None:
    """Speed and error of a ViT in ONNX Runtime: dynamic, static, and its own quantize_dynamic."""

    def work() -> Result:
        from onnxruntime.quantization import QuantType, quantize_dynamic
        from onnxruntime.quantization.shape_inference import quant_pre_process

        network = zoo_network("vit-tiny", IMAGE, seed=0)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            path, their = folder / "float.onnx", folder / "theirs.onnx"
            write_onnx(network.module, network.signature, network.example(2), path)
            with contextlib.redirect_stdout(io.StringIO()):
                quant_pre_process(str(path), str(folder / "pre.onnx"), skip_symbolic_shape=True)
            quantize_dynamic(str(folder / "pre.onnx"), str(their), per_channel=True, weight_type=QuantType.QInt8)
            spec = QuantizeInt8.model_validate({"mode": "dynamic"})
            own = quantized(network, spec, context_of(network, None, folder)).network.file
            x = {"x": network.example(64)[0].numpy()}
            wanted = predict(path, x)[-1]
            pairs: dict[str, tuple[Path, Path | bytes]] = {
                "own": (path, own), "their": (path, their), "beside": (their, own),
            }  # fmt: skip
            speeds = {label: compare_latency(before, after, x, 1, 6.0) for label, (before, after) in pairs.items()}
            return {
                **{label: [speed.ratio, speed.low, speed.high] for label, speed in speeds.items()},
                "own_error": _error(predict(own, x)[-1], wanted),
                "their_error": _error(predict(their, x)[-1], wanted),
                "bytes": [len(own), their.stat().st_size],
            }

    found = kept.measure("vit, dynamic", work)
    ratio, low, high = found["beside"]
    claim(
        f"vit-tiny, dynamic: times as fast as ONNX Runtime's quantize_dynamic at batch 1 (beside float: "
        f"{found['own'][0]:.2f}, theirs {found['their'][0]:.2f}; error of the logits {found['own_error']:.4f}, theirs "
        f"{found['their_error']:.4f})",
        ratio, peer=1.0, target="≥ 1, as far as can be told", met=high >= 1, seeds=1, spread=[low, high],
    )  # fmt: skip


if __name__ == "__main__":
    main()
