"""The end of a job: files written and compared, measured beside the original's, and reported."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compression.data import Dataset
from compression.events import Reporter
from compression.export.writers import export_network
from compression.markdown import render_markdown
from compression.measure.cost import cost_of
from compression.measure.delivered import Delivered, measure_delivered
from compression.measure.machine import device_profile, versions
from compression.network import Network
from compression.report import Report, build_report
from compression.spec import Export, JobSpec


@dataclass(frozen=True)
class Outcome:
    """What the steps came to: the networks before and after, a record of each step, and what they were given."""

    original: Network
    network: Network
    steps: list[dict[str, Any]]
    data: Dataset | None
    inputs: Mapping[str, Any]


def publish(spec: JobSpec, outcome: Outcome, out: Path, reporter: Reporter, latency_seconds: float) -> Report:
    """Writes `out/artifacts`: the network in each format asked for, `report.json` and `report.md`.

    The test split is read here, once, by the delivered files.
    """
    artifacts, before = out / "artifacts", out / "original"
    for folder in (artifacts, before):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    reporter.emit("exporting", formats=list(spec.exports))
    files = export_network(outcome.network, spec.exports, artifacts)
    original_files = export_network(outcome.original, spec.exports, before)
    for file in files:
        reporter.emit("exported", name=file.name, bytes=file.bytes, max_relative_error=file.max_relative_error)
    reporter.emit("measuring")
    report = build_report(
        spec=spec.model_dump(mode="json"),
        inputs=outcome.inputs,
        versions=versions(),
        device=device_profile(),
        signature=outcome.network.signature,
        original=cost_of(outcome.original),
        compressed=cost_of(outcome.network),
        original_files=original_files,
        files=files,
        delivered=_measure(spec.exports, outcome, artifacts, before, latency_seconds),
        steps=outcome.steps,
    )
    shutil.rmtree(before)
    (artifacts / "report.json").write_text(report.to_json())
    (artifacts / "report.md").write_text(render_markdown(report))
    return report


def _measure(
    formats: list[Export],
    outcome: Outcome,
    artifacts: Path,
    before: Path,
    seconds: float,
) -> Delivered:
    if "onnx" in formats:
        original, compressed = before / "model.onnx", artifacts / "model.onnx"
    else:  # ONNX Runtime is what is measured in; the report says that these files aren't delivered
        export_network(outcome.original, ["onnx"], before, stem="original")
        export_network(outcome.network, ["onnx"], before, stem="compressed")
        original, compressed = before / "original.onnx", before / "compressed.onnx"
    if outcome.data is None:
        return measure_delivered(original, compressed, None, None, seconds)
    test = outcome.data.test
    samples = {name: value.numpy() for name, value in test.inputs.items()}
    labels = None if test.labels is None else test.labels.numpy()
    return measure_delivered(original, compressed, samples, labels, seconds)
