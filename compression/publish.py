"""The end of a job: files written and compared, measured beside the original's, and reported."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from compression.data import Dataset
from compression.events import Reporter
from compression.export.writers import ExportedFile, export_network
from compression.integer import IntegerOnnx, known_cost
from compression.markdown import render_markdown
from compression.measure.delivered import Delivered, measure_delivered
from compression.measure.machine import device_profile, versions
from compression.measure.storage import measure_storage
from compression.network import Network, Signature
from compression.opaque import OpaqueOnnx
from compression.report import Report, build_report
from compression.spec import Export, JobSpec


@dataclass(frozen=True)
class Outcome:
    """What the steps came to: the models before and after, a record of each step, and what they were given.
    `signature`: of both."""

    original: Network | OpaqueOnnx
    network: Network | IntegerOnnx
    signature: Signature
    steps: list[dict[str, Any]]
    data: Dataset | None
    inputs: Mapping[str, Any]


def export_original(original: Network | OpaqueOnnx, formats: Sequence[Export], out: Path) -> list[ExportedFile]:
    """Writes the original to `out/original` in the formats asked for, and as `.onnx`, which is what is measured. Not as
    `.nwk`: that is compared with the original's weights as they are. A model that couldn't be lifted is that file."""
    folder = _fresh(out / "original")
    if isinstance(original, OpaqueOnnx):
        return [_written(original.path.read_bytes(), folder, 0.0, "the file that was uploaded")]
    return export_network(original, [*(kind for kind in formats if kind != "nwk"), *_extra(formats)], folder)


def publish(
    spec: JobSpec,
    outcome: Outcome,
    originals: list[ExportedFile],
    out: Path,
    reporter: Reporter,
    latency_seconds: float,
) -> Report:
    """Writes `out/artifacts`: the network in each format asked for, `report.json` and `report.md`.

    The test split is read here, once, by the delivered files.
    """
    artifacts, before, aside = _fresh(out / "artifacts"), out / "original", _fresh(out / "measured")
    formats = delivered_formats(spec, outcome.network)
    reporter.emit("exporting", formats=formats)
    files = _deliver(outcome.network, formats, artifacts, aside)
    for file in files:
        told = {"plain": dict(file.plain)} if file.plain else {}
        reporter.emit("exported", name=file.name, bytes=file.bytes, max_relative_error=file.max_relative_error, **told)
    reporter.emit("measuring")
    report = build_report(
        spec=spec.model_dump(mode="json"),
        inputs=outcome.inputs,
        versions=versions(),
        device=device_profile(),
        signature=outcome.signature,
        original=known_cost(outcome.original),
        compressed=known_cost(outcome.network),
        original_files=[file for file in originals if file.format in formats],
        files=files,
        delivered=_measure(outcome, before, aside if _extra(formats) else artifacts, latency_seconds),
        steps=outcome.steps,
        data=None if outcome.data is None else outcome.data.described(),
        storage=measure_storage(outcome.network) if isinstance(outcome.network, Network) else None,
    )
    for folder in (before, aside):
        shutil.rmtree(folder)
    (artifacts / "report.json").write_text(report.to_json())
    (artifacts / "report.md").write_text(render_markdown(report))
    return report


def _deliver(
    network: Network | IntegerOnnx, formats: Sequence[Export], artifacts: Path, aside: Path
) -> list[ExportedFile]:
    """The files; `.onnx` in `aside` where it isn't among them. What runs in integers is a file already."""
    if isinstance(network, IntegerOnnx):
        return [_written(network.file, artifacts, network.relative_error, network.compared_on)]
    files = export_network(network, formats, artifacts)
    export_network(network, _extra(formats), aside)
    return files


def _written(file: bytes, folder: Path, error: float, compared_with: str) -> ExportedFile:
    (folder / "model.onnx").write_bytes(file)
    digest = hashlib.sha256(file).hexdigest()
    return ExportedFile("model.onnx", "onnx", "full", len(file), digest, error, compared_with=compared_with)


def delivered_formats(spec: JobSpec, network: Network | IntegerOnnx) -> list[Export]:
    """Those that the spec asks for, and those that a step has prepared."""
    if isinstance(network, IntegerOnnx):
        return ["onnx"]
    prepared = [kind for kind in get_args(Export) if kind in network.delivery and kind not in spec.exports]
    return [*spec.exports, *prepared]


def _extra(formats: Sequence[Export]) -> list[Export]:
    """`.onnx` where it isn't asked for: ONNX Runtime is what is measured in, and the report says it isn't delivered."""
    return [] if "onnx" in formats else ["onnx"]


def _measure(outcome: Outcome, before: Path, after: Path, seconds: float) -> Delivered:
    original, compressed = before / "model.onnx", after / "model.onnx"
    shapes = {entry.name: entry.shape for entry in outcome.signature.inputs}
    if outcome.data is None:
        return measure_delivered(original, compressed, None, None, seconds, shapes)
    test = outcome.data.test
    samples = {name: value.numpy() for name, value in test.inputs.items()}
    labels = None if test.labels is None else test.labels.numpy()
    return measure_delivered(original, compressed, samples, labels, seconds, shapes)


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
