"""Writes a network's files. Each is written beside its place, reloaded, compared with the network, then moved."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from compression.container.network import write_nwk
from compression.errors import VerificationError
from compression.export.onnx import read_onnx, write_onnx
from compression.export.pt2 import write_pt2
from compression.intake.model import read_model
from compression.intake.weights import save_network
from compression.network import Network, Signature, as_tuple
from compression.spec import Export
from compression.verify import BATCHES, TOLERANCE, least_scales, relative_error
from compression.vocabulary import used_tensors

EXAMPLE_BATCH = 2
WHOLE = frozenset({"safetensors", "nwk"})
"""Formats whose file holds every variant, and everything else of the network: it comes back bit for bit."""
Run = Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]]


@dataclass(frozen=True)
class ExportedFile:
    """A written file. `max_relative_error`: the largest ‖file's output − network's output‖ / ‖network's output‖
    (Euclidean, over a whole batch of seeded inputs) of any output at any of the compared batch sizes. `plain`:
    parameters with a codebook or a grid that it holds as floats all the same, each with the reason (`.onnx`).
    `compared_with`: of another comparison than that, where the error is the price of integers."""

    name: str
    format: str
    variant: str
    bytes: int
    sha256: str
    max_relative_error: float
    plain: Mapping[str, str] = field(default_factory=dict)
    compared_with: str = "the network"


def export_network(
    network: Network, formats: Sequence[Export], folder: Path, stem: str = "model"
) -> list[ExportedFile]:
    """Writes `network` to the existing `folder` in each format: STEM.FORMAT for the variant "full", STEM.VARIANT.FORMAT
    for the others; a file of `WHOLE` holds every variant.

    VerificationError: a file doesn't compute what the network does; then nothing stands under that file's name.
    """
    files = []
    for kind in formats:
        for variant in ["full"] if kind in WHOLE else network.variants:
            name = f"{stem}.{kind}" if variant == "full" else f"{stem}.{variant}.{kind}"
            path = folder / name
            partial = folder / f".partial.{name}"
            try:
                error, plain = _write_and_compare(network, kind, variant, partial)
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            files.append(ExportedFile(name, kind, variant, path.stat().st_size, digest, error, plain))
    return files


def compare_file(network: Network, variant: str, path: Path) -> float:
    """The largest relative error of the file's outputs at two batch sizes; see ExportedFile.

    VerificationError: it is above 1e-5, or the file's inputs or the shapes of its outputs differ."""
    module, signature = network.variant(variant), _signature(network, variant)
    run = _reload(path, signature)
    worst, scales = 0.0, least_scales(module)
    for batch in BATCHES:
        inputs = network.example(batch, seed=batch)
        with torch.no_grad():
            wanted, found = as_tuple(module(*inputs)), run(inputs)
        for name, value, target, least in zip(signature.outputs, found, wanted, scales, strict=True):
            if value.shape != target.shape:
                raise VerificationError(
                    f"{path.suffix} file: shape {list(value.shape)}, not {list(target.shape)}", name
                )
            error = relative_error(value, target, least)
            if not error <= TOLERANCE:
                raise VerificationError(f"{path.suffix} file: relative error {error:.2e} at batch {batch}", name)
            worst = max(worst, error)
    return worst


def _write_and_compare(network: Network, kind: Export, variant: str, path: Path) -> tuple[float, dict[str, str]]:
    plain: dict[str, str] = {}
    if kind == "safetensors":
        save_network(network, path)
    elif kind == "nwk":
        write_nwk(network, path)
    else:
        parts = (network.variant(variant), _signature(network, variant), network.example(EXAMPLE_BATCH), path)
        if kind == "onnx":
            plain = write_onnx(*parts, network.encodings)
        else:
            write_pt2(*parts)
    if kind in WHOLE:
        _compare_tensors(network, path)
    return compare_file(network, variant, path), plain


def _compare_tensors(network: Network, path: Path) -> None:
    """VerificationError: a parameter, buffer or encoding in the file isn't exactly the network's."""
    again = _network(path)
    wanted, found = ({**used_tensors(side.module), **_encoding_tensors(side)} for side in (network, again))
    if wanted.keys() != found.keys():
        raise VerificationError(f"{path.suffix} file: other tensors", min(wanted.keys() ^ found.keys()))
    for name, value in wanted.items():
        if not torch.equal(value, found[name]):
            raise VerificationError(f"{path.suffix} file: it doesn't hold exactly this tensor", name)


def _encoding_tensors(network: Network) -> dict[str, Tensor]:
    return {
        f"{name}/{part}": value
        for name, encoding in network.encodings.items()
        for part, value in encoding.tensors().items()
    }


def _signature(network: Network, variant: str) -> Signature:
    outputs = tuple(network.signature.outputs[index] for index in network.variants[variant].outputs)
    return replace(network.signature, outputs=outputs)


def _reload(path: Path, signature: Signature) -> Run:
    """The file as a function of inputs: in ONNX Runtime, or by our own reader, which runs no code of a file."""
    if path.suffix == ".onnx":
        return read_onnx(path, signature)
    reloaded = _network(path)
    if reloaded.signature.inputs != signature.inputs:
        raise VerificationError(f"{path.suffix} file: its inputs aren't the network's", str(reloaded.signature.inputs))
    return lambda inputs: as_tuple(reloaded.module(*inputs))


def _network(path: Path) -> Network:
    reloaded = read_model(path, None)
    if not isinstance(reloaded, Network):
        raise VerificationError(f"{path.suffix} file: it can't be read back as a network")
    return reloaded
