"""`python -m benchmarks.mixed`: bits by layer, and blocks of four bits.

Mixed: LeNet-5 and ResNet-20 on Fashion-MNIST at 2.5, 3 and 4 bits a weight on average, against 3, 3 and 4 bits in every
layer, with the same steps and rounding; each seed draws other samples to measure on. LeNet-5 also trained
afterwards, both arms alike. Test is read once an arm, from the `.nwk` file, decoded.

Four bits: GPTQ against rounding to nearest, ours and that of ONNX Runtime's own quantizer on the same `.onnx` file, of
a small vision transformer on Fashion-MNIST, by the outputs' divergence from the original's and by accuracy; and the
latency of one linear layer by width, int4 against floats, one thread. `--base FOLDER`: the base nets. `--quick`:
LeNet-5 without training and one width. What is measured is kept, so that a run cut off goes on.
"""

from __future__ import annotations

import argparse
import io
import logging
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from torch import Tensor, fx, nn

from benchmarks.claim import Kept, claim
from benchmarks.images import fashion_mnist
from compression import device
from compression.checkpoint import Checkpoints
from compression.container.network import encode, read_nwk
from compression.context import Context
from compression.data import Dataset, Split
from compression.events import Reporter
from compression.export.onnx import write_onnx
from compression.intake.weights import load_network, read_weights, save_network
from compression.measure.runtime import compare_latency, predict
from compression.methods.quantize.int4 import QuantizeInt4
from compression.network import Input, Network, Signature
from compression.quantization.int4 import quantized
from compression.quantization.mixed import chosen_bits, on_grids, trained
from compression.quantization.sensitivity import Judge, sensitivities
from compression.training.evaluate import outputs_of
from compression.training.loop import train
from compression.training.losses import soft_label_loss
from compression.training.spec import Training
from compression.zoo.catalog import zoo_network

CPU = torch.device("cpu")
SEEDS, WIDTHS = 3, (1024, 2048, 4096)
BUDGETS: Mapping[float, int] = {2.5: 3, 3: 3, 4: 4}
"""Bits a weight on average, and in every layer of the other arm. (2 on average are 2 everywhere: none has fewer.)"""
ARGUMENTS: Mapping[str, dict[str, Any]] = {"lenet5": {}, "resnet20": {"in_channels": 1, "height": 28, "width": 28}}
SAMPLES = {"lenet5": 512, "resnet20": 64}
TEST = {"lenet5": 10_000, "resnet20": 2_000, "vit": 3_000, "lenet300": 10_000}
VIT = {"in_channels": 1, "height": 28, "width": 28, "embedding": 96, "depth": 3, "heads": 3, "hidden": 192}
ARMS: Mapping[str, dict[str, Any]] = {
    "nearest": {"rounding": "nearest"},
    "nearest, zeros": {"rounding": "nearest", "zero_points": True},
    "gptq": {"rounding": "gptq"},
    "gptq, zeros": {"rounding": "gptq", "zero_points": True},
    "gptq, blocks of 128": {"rounding": "gptq", "block_size": 128},
}
FINETUNE = Training(epochs=1, optimizer="adamw", learning_rate=0.001, weight_decay=0)
Result = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--base", type=Path, required=True, help="folder of lenet5-fashion.safetensors, …")
    parser.add_argument("--only", nargs="+", default=["lenet5", "latency", "perceptron", "resnet20", "vit", "trained"])
    options = parser.parse_args()
    device.make_deterministic(threads=1)
    logging.disable(logging.INFO)  # the quantizer's own
    parts = ["lenet5", "latency"] if options.quick else options.only
    kept = Kept(f"mixed{'-quick' if options.quick else ''}")
    for part in parts:
        if part == "latency":
            for width in WIDTHS[:1] if options.quick else WIDTHS:
                latency(width, kept)
        elif part == "vit":
            network, data = _vit(), dataset("vit")
            four_bits("vision transformer", network, data, (network, data), kept)
        elif part == "perceptron":
            network, data = _base("lenet300", options), dataset("lenet300")
            four_bits("LeNet-300-100", network, data, _in_rows(network, data), kept)
        else:
            mixed("lenet5" if part == "trained" else part, part == "trained", options, kept)


# --- bits by layer ----------------------------------------------------------------------------------------------------


def mixed(name: str, finetuned: bool, options: argparse.Namespace, kept: Kept) -> None:
    network = _base(name, options)
    data = dataset(name)
    seeds, budgets = 1 if options.quick else SEEDS, [2.5, 3] if finetuned else list(BUDGETS)
    variants = ("original", "labels") if name == "lenet5" and not (finetuned or options.quick) else ("original",)
    base = kept.measure(f"{name} float32", lambda: figures(network, data))
    print(f"{name}: float32 {base}", flush=True)
    for budget in budgets:
        rows: dict[str, list[Result]] = {variant: [] for variant in (*variants, "uniform")}
        for seed in range(seeds):
            for variant in variants:
                chosen = kept.measure(
                    f"{name} {variant} bits {seed}", partial(choices, network, data, variant, seed, SAMPLES[name])
                )[str(budget)]
                work = partial(outcome, network, data, chosen, seed, finetuned)
                rows[variant].append(kept.measure(f"{name} {variant} {budget} {seed} {finetuned}", work))
            if seed == 0 or finetuned:  # rounding alone is the same in each
                same = dict.fromkeys(chosen, BUDGETS[budget])
                work = partial(outcome, network, data, same, seed, finetuned)
                rows["uniform"].append(kept.measure(f"{name} uniform {BUDGETS[budget]} {seed} {finetuned}", work))
        for variant in variants:
            _mixed_claim(name, budget, variant, rows[variant], rows["uniform"], finetuned)


def choices(network: Network, data: Dataset, against: Any, seed: int, samples: int) -> dict[str, dict[str, int]]:
    """The bits by parameter for each budget, from one table of sensitivities."""
    with tempfile.TemporaryDirectory() as folder:
        context = context_for(network, data, seed, Path(folder))
        counts = {name: value.numel() for name, value in network.module.named_parameters() if value.dim() > 1}
        table = sensitivities(network, counts, range(2, 9), Judge(samples, against, context), context)
    return {str(budget): chosen_bits(table, counts, int(budget * sum(counts.values()))) for budget in BUDGETS}


def outcome(network: Network, data: Dataset, bits: Mapping[str, int], seed: int, finetuned: bool) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        made = on_grids(network, bits)
        if finetuned:
            made = trained(network, bits, FINETUNE, context_for(network, data, seed, Path(folder)))[0]
        return figures(made, data) | {"bits": dict(bits)}


def figures(network: Network, data: Dataset) -> Result:
    """Of the decoded `.nwk` file: bytes, and the share right in percent."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.nwk"
        path.write_bytes(encode(network.replaced(provenance=()), "range").file)
        decoded = read_nwk(path)
        size = path.stat().st_size
    return {"bytes": size, "test": accuracy(decoded, data.test)}


def _mixed_claim(
    name: str, budget: float, variant: str, rows: Sequence[Result], uniform: Sequence[Result], finetuned: bool
) -> None:
    found, other = ([row["test"] for row in side] for side in (rows, uniform))
    value, peer = float(np.mean(found)), float(np.mean(other))
    sizes = [float(np.mean([row["bytes"] for row in side])) for side in (rows, uniform)]
    after = ", trained" if finetuned else ""
    claim(
        f"{name}, Fashion-MNIST{after}: test accuracy in % at {budget:g} bits a weight, mixed by what was measured "
        f"against the {variant} ({sizes[0]:,.0f} bytes as .nwk), {BUDGETS[budget]} everywhere ({sizes[1]:,.0f})",
        value,
        peer=peer,
        target="above",
        met=value > peer,
        seeds=len(rows),
        spread=(min(found), max(found)),
    )


# --- blocks of four bits ----------------------------------------------------------------------------------------------


def four_bits(title: str, network: Network, data: Dataset, products: tuple[Network, Dataset], kept: Kept) -> None:
    """Seeds draw other calibration samples. `products`: the same without Gemms, which ONNX Runtime's own leaves."""
    rows: dict[str, list[Result]] = {}
    for name, fields in ARMS.items():
        seeds = range(SEEDS if fields["rounding"] == "gptq" else 1)
        work = partial(_four_bits, network, data, fields)
        rows[name] = [kept.measure(f"{title} {name} {seed}", partial(work, seed)) for seed in seeds]
    pairs = [("gptq", "nearest"), ("gptq, zeros", "nearest, zeros"), ("gptq, blocks of 128", "nearest")]
    for name, symmetric in (("ONNX Runtime's", True), ("ONNX Runtime's, zeros", False)):
        rows[name] = [kept.measure(f"{title} {name}", partial(_runtimes_own, *products, symmetric))]
    pairs += [("nearest", "ONNX Runtime's"), ("nearest, zeros", "ONNX Runtime's, zeros")]
    for own, peer in pairs:
        _four_bits_claim(title, own, peer, rows[own], rows[peer])


def _four_bits_claim(title: str, own: str, peer: str, rows: Sequence[Result], others: Sequence[Result]) -> None:
    value, other = (float(np.mean([row["divergence"] for row in side])) for side in (rows, others))
    tests = [float(np.mean([row["test"] for row in side])) for side in (rows, others)]
    claim(
        f"{title}, four bits, {own} against {peer}: divergence from the original's outputs, nats (accuracy "
        f"{tests[0]:.2f} against {tests[1]:.2f} %, original {rows[0]['original']:.2f}; {rows[0]['bytes']:,} and "
        f"{others[0]['bytes']:,} bytes)",
        value,
        peer=other,
        target="below",
        met=value < other,
        seeds=len(rows),
        spread=(min(row["divergence"] for row in rows), max(row["divergence"] for row in rows)),
    )


def _base(name: str, options: argparse.Namespace) -> Network:
    architecture = {"architecture": name, "arguments": ARGUMENTS.get(name, {})}
    return read_weights(options.base / f"{name}-fashion.safetensors", architecture)


def _vit() -> Network:
    path = Path("out/benchmarks/mixed-vit.safetensors")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn = zoo_network("vit-tiny", VIT, seed=0)
        spec = Training(epochs=2, optimizer="adamw", learning_rate=0.001, loss="labels")
        with tempfile.TemporaryDirectory() as folder:
            context = context_for(drawn, dataset("vit"), 0, Path(folder))
            save_network(train(drawn, spec, context, stage="base")[0], path)
    return load_network(path)


class Rows(nn.Module):
    """A perceptron of samples that are matrices of one row: its products are MatMuls."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.f1, self.f2, self.f3 = (network.module.get_submodule(name) for name in ("f1", "f2", "f3"))

    def forward(self, x: Tensor) -> Tensor:
        return torch.flatten(self.f3(torch.relu(self.f2(torch.relu(self.f1(x))))), 1)


def _in_rows(network: Network, data: Dataset) -> tuple[Network, Dataset]:
    made = Network(fx.symbolic_trace(Rows(network).eval()), Signature((Input("x", (1, 784)),)))
    test = Split({"x": data.test.inputs["x"][:, None]}, data.test.labels)
    return made, Dataset(data.train, data.validation, test, data.task)


def _four_bits(network: Network, data: Dataset, fields: Mapping[str, Any], seed: int) -> Result:
    """Without a transformer's head: it is a Gemm, which ONNX Runtime's quantizer leaves alone."""
    exclude = ["head"] if "head" in network.layers() else []
    spec = QuantizeInt4.model_validate({**fields, "layers": {"exclude": exclude}})
    with tempfile.TemporaryDirectory() as folder:
        made = quantized(network, spec, context_for(network, data, seed, Path(folder))).network
        return _delivered(network, made, Path(folder) / "made.onnx", data)


def _runtimes_own(network: Network, data: Dataset, symmetric: bool) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plain.onnx"
        write_onnx(network.module, network.signature, network.example(2), path)
        quantizer = MatMulNBitsQuantizer(onnx.load(path), 4, 32, symmetric, accuracy_level=1)
        quantizer.process()
        quantizer.model.save_model_to_file(str(Path(folder) / "own.onnx"))
        return _judged(network, Path(folder) / "own.onnx", data)


def _delivered(original: Network, made: Network, path: Path, data: Dataset) -> Result:
    write_onnx(made.module, made.signature, made.example(2), path, made.encodings)
    return _judged(original, path, data)


def _judged(original: Network, path: Path, data: Dataset) -> Result:
    wanted = outputs_of(original.module, data.test, CPU)[-1]
    found = torch.from_numpy(predict(path, {"x": data.test.inputs["x"].numpy()})[-1])
    assert data.test.labels is not None
    return {
        "bytes": path.stat().st_size,
        "divergence": float(soft_label_loss(found.double(), wanted.double(), 1.0)),
        "test": 100 * float((found.argmax(-1) == data.test.labels).double().mean()),
        "original": 100 * float((wanted.argmax(-1) == data.test.labels).double().mean()),
    }


def latency(width: int, kept: Kept) -> None:
    for batch in (1, 32):
        found = kept.measure(f"latency {width} {batch}", partial(_latency, width, batch))
        claim(
            f"one linear layer {width} × {width}, batch {batch}: latency as floats / as int4 ({found['ms'][0]:.3f} and "
            f"{found['ms'][1]:.3f} ms; {found['level4']:.2f} with activations in eight bits; bytes as floats / int4 "
            f"{found['smaller']:.2f})",
            found["ratio"],
            peer=1.0,
            target="above 1",
            met=found["low"] > 1,
            seeds=1,
            spread=(found["low"], found["high"]),
        )


class Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        return y


def _latency(width: int, batch: int) -> Result:
    torch.manual_seed(0)
    network = Network(fx.symbolic_trace(Layer(width).eval()), Signature((Input("x", (width,)),)))
    inputs = {"x": network.example(batch)[0].numpy()}
    with tempfile.TemporaryDirectory() as folder:
        plain, packed, rounded = (Path(folder) / f"{name}.onnx" for name in ("plain", "packed", "rounded"))
        write_onnx(network.module, network.signature, network.example(2), plain)
        spec = QuantizeInt4(rounding="nearest")
        made = quantized(network, spec, context_for(network, None, 0, Path(folder))).network
        write_onnx(made.module, made.signature, made.example(2), packed, made.encodings)
        model = onnx.load(packed)
        for attribute in (entry for node in model.graph.node for entry in node.attribute):
            attribute.i = 4 if attribute.name == "accuracy_level" else attribute.i
        rounded.write_bytes(model.SerializeToString())
        found = compare_latency(plain, packed, inputs, batch)
        other = compare_latency(plain, rounded, inputs, batch)
        smaller = plain.stat().st_size / packed.stat().st_size
    return {
        "ratio": found.ratio,
        "low": found.low,
        "high": found.high,
        "ms": [1000 * found.original.median, 1000 * found.compressed.median],
        "level4": other.ratio,
        "smaller": smaller,
    }


# --- data -------------------------------------------------------------------------------------------------------------


def dataset(name: str) -> Dataset:
    """10,000 training images, 1,000 of the last 5,000 for validation; LeNets take pixels in [0, 1]."""
    whole = fashion_mnist(10_000)
    splits = [whole.train, whole.validation.take(torch.arange(1_000)), whole.test.take(torch.arange(TEST[name]))]
    if name.startswith("lenet"):
        splits = [Split({"x": part.inputs["x"] * 0.3530 + 0.2860}, part.labels) for part in splits]
    if name == "lenet300":
        splits = [Split({"x": part.inputs["x"].flatten(1)}, part.labels) for part in splits]
    return Dataset(splits[0], splits[1], splits[2], "classification")


def context_for(network: Network, data: Dataset | None, seed: int, folder: Path) -> Context:
    reporter = Reporter(io.StringIO())
    return Context(data, network, CPU, seed, reporter, Checkpoints(folder, "0-benchmark", reporter), 1e9)


def accuracy(network: Network, split: Split) -> float:
    assert split.labels is not None
    return 100 * float((outputs_of(network.module, split, CPU)[-1].argmax(-1) == split.labels).double().mean())


if __name__ == "__main__":
    main()
