"""`python -m benchmarks.intake`: real and foreign networks as `.onnx` files: lifted exactly, opaque, or refused and
why; and each that lifts pruned to half of its MACs, exported, and compared with ONNX Runtime.

PP-OCR's three files as they are; ImageNet networks and own definitions by both exporters of torch, the older one at
opset 17 with a static batch of one, the newer one with a free batch. Pruning is by weight norm without training: what
is shown is that the cut is exact and the file runs, not that it is accurate. `--service`: instead, two of them through
the service, with images without labels (`benchmarks.intake_service`). `--keras`: instead, what Keras and tf2onnx write
of other networks (`benchmarks.keras_intake`).
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from benchmarks import foreign, intake_service, keras_intake, real_models
from benchmarks.claim import Kept, claim
from compression.checkpoint import Checkpoints
from compression.context import Context
from compression.errors import NiwakiError
from compression.events import Reporter
from compression.export.writers import export_network
from compression.intake.model import read_model
from compression.measure.cost import cost_of
from compression.methods.prune.structured import PruneStructured, apply
from compression.network import Network, as_tuple
from compression.opaque import OpaqueOnnx
from compression.verify import least_scales

FILES = Path("out/benchmarks/intake")
OWN: Mapping[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "ResNet block": (partial(foreign.Residual, 32, 100), (3, 64, 64)),
    "DenseNet": (partial(foreign.Dense, 32, 16, 8, 100), (3, 64, 64)),
    "squeeze-excite": (partial(foreign.SqueezeExcite, 64, 100), (3, 64, 64)),
    "inverted residual": (partial(foreign.Mobile, 32, 6, 100), (3, 64, 64)),
    "RegNet, grouped": (partial(foreign.RegNet, 64, 8, 6, 100), (3, 64, 64)),
    "ConvNeXt": (partial(foreign.ConvNeXt, 64, 6, 100), (3, 64, 64)),
    "Swin, windows": (partial(foreign.Swin, 64, 4, 64, 4, 100), (3, 64, 64)),
    "MLP-Mixer": (partial(foreign.Mixer, 96, 8, 64, 6, 100), (3, 64, 64)),
    "ViT": (partial(foreign.ViT, 96, 4, 8, 64, 6, 100), (3, 64, 64)),
    "tokens, transformer": (foreign.Tokens, (12,)),
    "LSTM": (partial(foreign.Recurrent, 32, 64, 20), (50, 32)),
    "GRU on token ids": (partial(foreign.Gated, 50, 64, 96, 20), (50,)),
    "U-Net": (partial(foreign.UNet, 16, 8), (3, 64, 64)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-pruning", action="store_true")
    parser.add_argument("--service", action="store_true")
    parser.add_argument("--keras", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(2)
    FILES.mkdir(parents=True, exist_ok=True)
    kept = Kept("intake")
    if options.service:
        _service(kept)
    elif options.keras:
        files = {f"Keras {name}": (path, dict[str, list[int]]()) for name, path in keras_intake.files().items()}
        _intake(kept, files, pruning=not options.no_pruning)
    else:
        _intake(kept, _files(), pruning=not options.no_pruning)


def _intake(kept: Kept, files: Mapping[str, tuple[Path, dict[str, list[int]]]], *, pruning: bool) -> None:
    for name, (path, shapes) in files.items():
        found = kept.measure(f"read {name}", partial(_read, path, shapes))
        claim(
            f"largest difference to ONNX Runtime, in millionths of the output's scale: {name}, {found['outcome']}",
            found["difference"] * 1e6,
            peer=None,
            target="lifted and <= 10",
            met=found["outcome"].startswith("lifted") and found["difference"] <= 1e-5,
            seeds=1,
            spread=None,
        )
        if found["outcome"].startswith("lifted") and pruning:
            _claim_pruned(name, kept.measure(f"prune {name}", partial(_prune, path, shapes)))


def _service(kept: Kept) -> None:
    cases = [(name, case, ratio) for name, case in intake_service.CASES.items() for ratio in case.ratios]
    for name, case, ratio in cases:
        found = kept.measure(f"service {name} to {ratio}", partial(intake_service.run, case, ratio))
        (before, after), (value, low, high) = found["macs"], found["agreement"]
        claim(
            f"share of {found['samples']} images with the original's top-1 after a job of the service without labels: "
            f"{name}, {before / 1e6:.1f} → {after / 1e6:.1f} M MACs, {found['smaller']:.2f}× smaller .onnx, "
            f"{found['seconds']:.0f} s, by its commonest answer {found['commonest']:.1%}, cosine {found['cosine']:.4f}",
            value,
            peer=None,
            target=f"{ratio} of the MACs, better than the commonest answer",
            met=after <= before * ratio and low > found["commonest"],
            seeds=1,
            spread=(low, high),
        )


def _claim_pruned(name: str, found: Mapping[str, Any]) -> None:
    claim(
        f"times fewer MACs after prune.structured: {name}, {found['said']}",
        found["times"],
        peer=None,
        target=">= 2, the exported file within 1e-5",
        met=found["times"] >= 2,
        seeds=1,
        spread=None,
    )


def _files() -> dict[str, tuple[Path, dict[str, list[int]]]]:
    """Every file that is read, written where it has to be, with the shapes that its free axes are given."""
    files = dict(real_models.paddle_ocr())
    image = (3, 224, 224)
    nets: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
        "MobileNetV2": (real_models.mobilenet_v2, image),
        "EfficientNet-lite0": (real_models.efficientnet_lite0, image),
        **OWN,
    }
    for name, (make, shape) in nets.items():
        for exporter in ("older", "newer"):
            path = FILES / f"{name}-{exporter}.onnx"
            if not path.exists():
                _export(name, make, shape, exporter, path)
            files[f"{name}, {exporter} exporter"] = path, {}
    return files


def _export(name: str, make: Callable[[], nn.Module], shape: tuple[int, ...], exporter: str, path: Path) -> None:
    torch.manual_seed(0)
    if name in OWN:
        module, example = foreign.settled(make(), shape)
    else:
        module, example = make(), torch.randn(2, *shape)
    if exporter == "older":
        foreign.export(module, example[:1], path, 17, dynamic=False)
    else:
        foreign.export(module, example, path, None)


def _network(path: Path, shapes: dict[str, list[int]]) -> Network | OpaqueOnnx:
    return read_model(path, {"inputs": shapes} if shapes else None)


def _read(path: Path, shapes: dict[str, list[int]]) -> dict[str, Any]:
    start = time.perf_counter()
    try:
        network = _network(path, shapes)
    except NiwakiError as error:
        return {"outcome": f"refused ({error})", "difference": 0.0}
    seconds = time.perf_counter() - start
    if isinstance(network, OpaqueOnnx):
        stopped = network.stopped_by
        return {"outcome": f"opaque ({stopped.operator} {stopped.node}: {stopped.why})", "difference": 0.0}
    cost = cost_of(network)
    size = f"{cost.parameters / 1e6:.2f} M parameters, {cost.macs / 1e6:.1f} M MACs"
    return {"outcome": f"lifted in {seconds:.1f} s ({size})", "difference": difference(path, network)}


def difference(path: Path, network: Network) -> float:
    """The largest, of an output's largest number (of SIGMOID_SCALE at least, for a sigmoid), at batches of one and
    three, against the file in ONNX Runtime with its own rewriting; a static batch is run sample by sample."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    worst, scales = 0.0, least_scales(network.module)
    for batch in (1, 3):
        inputs = _inputs(network, batch)
        with torch.no_grad():
            outputs = as_tuple(network.module(*inputs))
        step = network.provenance[0].get("static_batch", batch)
        unused = set(network.provenance[0].get("unused_inputs", ()))
        fed = list(zip([e for e in session.get_inputs() if e.name not in unused], inputs, strict=True))
        zeros = {e.name: np.zeros(e.shape, np.float32) for e in session.get_inputs() if e.name in unused}
        parts = [
            session.run(None, zeros | {entry.name: value[start : start + step].numpy() for entry, value in fed})
            for start in range(0, batch, step)
        ]
        for index, value in enumerate(outputs):
            wanted = np.concatenate([part[index] for part in parts])
            scale = max(float(np.abs(wanted).max()), scales[index])
            worst = max(worst, float(np.abs(value.numpy() - wanted).max()) / scale)
    return worst


def _inputs(network: Network, batch: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1000 + batch)
    return tuple(
        torch.randn((batch, *entry.shape), generator=generator)
        if entry.dtype == "float32"
        else torch.randint(0, 50, (batch, *entry.shape), generator=generator).to(getattr(torch, entry.dtype))
        for entry in network.signature.inputs
    )


def _prune(path: Path, shapes: dict[str, list[int]]) -> dict[str, Any]:
    network = _network(path, shapes)
    assert isinstance(network, Network)
    reporter = Reporter(io.StringIO())
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder), "0-benchmark", reporter)
        context = Context(None, network, torch.device("cpu"), 0, reporter, checkpoints)
        spec = PruneStructured(macs_ratio=0.5, importance="magnitude", rounds=1, finetune=None)
        try:
            pruned = apply(network, spec, context).network
            (written,) = export_network(pruned, ["onnx"], Path(folder))
        except NiwakiError as error:
            return {"times": 0.0, "said": f"refused ({error})"}
    before, after = cost_of(network), cost_of(pruned)
    share, differs = after.parameters / before.parameters, written.max_relative_error
    said = f"{share:.2f} of the parameters, the file differs by {differs:.1e}"
    return {"times": before.macs / after.macs, "said": said}


if __name__ == "__main__":
    main()
