"""The report of a job: what was asked, what came out, and how the figures were taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from compression.export.writers import ExportedFile
from compression.integer import Figures
from compression.measure.claims import Claim, headline, size_claim, target_claims, training_claims, worst_first
from compression.measure.cost import LayerCost
from compression.measure.delivered import Delivered
from compression.measure.storage import Storage
from compression.network import Signature
from compression.spec import Preprocess
from compression.usage import usage

TEMPORARY = "a temporary .onnx export of each network, made for measuring alone: none was asked for"


class LayerChange(BaseModel):
    """A layer before and after; None where it isn't there."""

    model_config = ConfigDict(frozen=True)
    name: str
    before: LayerCost | None
    after: LayerCost | None


class Report(BaseModel):
    """`inputs`: what the run read, by hash. `measured_on`: the files that the runtime's figures are of. `usage`: code
    that runs each artifact, by format. `data`: task, splits, classes, ranges as the network gets them, and warnings;
    None without data. `storage`: what masked weights are worth in files that leave zeros out; None where none is
    masked. `artifacts` doesn't list the report itself."""

    model_config = ConfigDict(frozen=True)
    format: Literal[1] = 1
    headline: str
    claims: list[Claim]
    spec: dict[str, Any]
    inputs: dict[str, Any]
    data: dict[str, Any] | None = None
    versions: dict[str, str]
    device: dict[str, Any]
    original: Figures
    compressed: Figures
    original_files: list[ExportedFile]
    artifacts: list[ExportedFile]
    delivered: Delivered
    storage: Storage | None = None
    measured_on: str
    steps: list[dict[str, Any]]
    layers: list[LayerChange]
    usage: dict[str, str]

    def to_json(self) -> str:
        return self.model_dump_json(indent=2) + "\n"


def build_report(
    *,
    spec: Mapping[str, Any],
    inputs: Mapping[str, Any],
    versions: Mapping[str, str],
    device: Mapping[str, Any],
    signature: Signature,
    original: Figures,
    compressed: Figures,
    original_files: Sequence[ExportedFile],
    files: Sequence[ExportedFile],
    delivered: Delivered,
    steps: Sequence[Mapping[str, Any]],
    data: Mapping[str, Any] | None = None,
    storage: Storage | None = None,
) -> Report:
    """Puts measured pieces together. `original_files` is what `export_network` gave for the original in the same
    formats as `files`, so that sizes compare like with like; `steps` are the pipeline's records."""
    declared = spec.get("data", {}).get("preprocess", {})
    preprocess = {name: Preprocess.model_validate(value) for name, value in declared.items()}
    claims = [*delivered.claims(), *training_claims(steps), *target_claims(steps)]
    claims += _size_claims(original_files, files, original.bytes)
    if storage is not None:
        claims.append(storage.claim())
    measured = next((file.name for file in files if (file.format, file.variant) == ("onnx", "full")), None)
    return Report(
        headline=headline(claims),
        claims=worst_first(claims),
        spec=dict(spec),
        inputs=dict(inputs),
        data=None if data is None else dict(data),
        versions=dict(versions),
        device=dict(device),
        original=original,
        compressed=compressed,
        original_files=list(original_files),
        artifacts=list(files),
        delivered=delivered,
        storage=storage,
        measured_on=f"{measured}, and {_original(original)}" if measured else TEMPORARY,
        steps=[dict(step) for step in steps],
        layers=_layer_changes(original.layers, compressed.layers),
        usage={file.format: usage(file, signature, preprocess) for file in files if file.variant == "full"},
    )


def _original(cost: Figures) -> str:
    return "the file that was uploaded" if cost.macs is None else "the original exported alike"


def _size_claims(original: Sequence[ExportedFile], files: Sequence[ExportedFile], weights: int) -> list[Claim]:
    """Like with like; a format that the original has no file of is compared with its `weights`, bytes in fp32."""
    before = {file.format: file.bytes for file in original if file.variant == "full"}
    return [
        size_claim(file.format, before.get(file.format, weights), file.bytes, weights=file.format not in before)
        for file in files
        if file.variant == "full"
    ]


def _layer_changes(before: Sequence[LayerCost], after: Sequence[LayerCost]) -> list[LayerChange]:
    """By name: the original's layers in its order, then those that only the compressed network has."""
    old, new = ({layer.name: layer for layer in layers} for layers in (before, after))
    return [LayerChange(name=name, before=old.get(name), after=new.get(name)) for name in old | new]
