"""What an upload holds, before anything is spent on it: layers and costs, and what every method's own `check` says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from compression.data.preview import inspect_data
from compression.errors import IntakeError
from compression.intake.archive import ZIP_ERRORS, Zip
from compression.intake.data_zip import MAX_DIRECTORY
from compression.intake.model import read_model
from compression.intake.picture import format_of
from compression.intake.shapes import run
from compression.measure.cost import cost_of
from compression.network import Network
from compression.opaque import OpaqueOnnx, verdict_on
from compression.registry import methods

Kind = Literal["model", "data"]


def inspect_file(path: Path, architecture: Mapping[str, Any] | None = None, kind: Kind | None = None) -> dict[str, Any]:
    """JSON facts about a model or a data file. Raises IntakeError or DataError."""
    if (kind or _guess(path, architecture)) == "data":
        return inspect_data(path)
    model = read_model(path, architecture)
    return inspect_opaque(model) if isinstance(model, OpaqueOnnx) else inspect_network(model)


def inspect_network(network: Network) -> dict[str, Any]:
    """Inputs, outputs (`output_shapes` in their order, the batch axis left out), layers with shapes, parameters and
    MACs, and every method's verdict."""
    cost = cost_of(network)
    return {
        "kind": "model",
        "form": "lifted",
        "stopped_by": None,
        "provenance": [dict(entry) for entry in network.provenance],
        "inputs": [
            {"name": entry.name, "shape": list(entry.shape), "dtype": entry.dtype} for entry in network.signature.inputs
        ],
        "outputs": list(network.signature.outputs),
        "output_shapes": [list(value.shape[1:]) for value in run(network.module, network.example(1))],
        "variants": list(network.variants),
        "cost": {"parameters": cost.parameters, "nonzero": cost.nonzero, "macs": cost.macs, "bytes": cost.bytes},
        "layers": [asdict(layer) for layer in cost.layers],
        "methods": {name: method.check(network).as_dict() for name, method in methods().items()},
    }


def inspect_opaque(model: OpaqueOnnx) -> dict[str, Any]:
    """As `inspect_network`, of a model that couldn't be lifted: no layers, and no MACs, because what its operators
    multiply isn't known. `shape` leaves out the first axis; None stands for a free length."""
    return {
        "kind": "model",
        "form": "opaque",
        "stopped_by": asdict(model.stopped_by),
        "provenance": [dict(entry) for entry in model.provenance],
        "inputs": [
            {"name": entry.name, "shape": list((entry.shape or ())[1:]), "dtype": entry.dtype} for entry in model.inputs
        ],
        "outputs": [entry.name for entry in model.outputs],
        "output_shapes": [list((entry.shape or ())[1:]) for entry in model.outputs],
        "variants": ["full"],
        "cost": {"parameters": model.parameters, "nonzero": model.nonzero, "macs": None, "bytes": model.bytes},
        "layers": [],
        "methods": {name: verdict_on(model, method).as_dict() for name, method in methods().items()},
    }


def _guess(path: Path, architecture: Mapping[str, Any] | None) -> Kind:
    """By content: an archive of `.npy` members or of images is data; so are safetensors named as data is (`x`, `y`,
    `x_train`)."""
    if architecture is not None:
        return "model"
    with path.open("rb") as file:
        head = file.read(9)
    if head.startswith(b"PK\x03\x04"):
        try:
            with Zip(path, MAX_DIRECTORY) as archive:
                names_there = archive.namelist()
        except ZIP_ERRORS as error:
            raise IntakeError(f"the archive can't be read: {error}", path.name) from error
        arrays = all(name.endswith(".npy") for name in names_there)
        return "data" if arrays or any(map(format_of, names_there)) else "model"
    if head[8:9] != b"{":
        return "model"
    try:
        with safe_open(path, framework="numpy") as file:
            names = set(file.keys())
            described = "niwaki" in (file.metadata() or {})
    except SafetensorError as error:
        raise IntakeError(f"not a readable safetensors file: {error}", path.name) from error
    if described or not names & {"x", "y", "x_train", "y_train"}:
        return "model"
    return "data"


def describe(inspection: Mapping[str, Any]) -> str:
    """The inspection as text for a terminal."""
    if inspection["kind"] == "data":
        return "\n".join(_data_lines(inspection))
    cost = inspection["cost"]
    inputs = ", ".join(
        f"{entry['name']} {entry['dtype']} N×{'×'.join(map(str, entry['shape']))}" for entry in inspection["inputs"]
    )
    lines = [
        f"{inputs} → {', '.join(inspection['outputs'])}",
        f"{cost['parameters']:,} parameters, {_macs(cost)}, {cost['bytes']:,} bytes of tensors",
        *_stopped(inspection),
        "",
        f"{'layer':32} {'type':16} {'weight':>20} {'parameters':>12} {'MACs':>14}",
    ]
    for layer in inspection["layers"]:
        shape = "×".join(map(str, layer["weight_shape"] or []))
        lines.append(
            f"{layer['name']:32} {layer['type']:16} {shape:>20} {layer['parameters']:>12,} {layer['macs']:>14,}"
        )
    lines.append("")
    for name, verdict in inspection["methods"].items():
        state = "can run" if verdict["applicable"] else f"can't run: {verdict['reason']}"
        lines.append(f"{name}: {state}")
        lines += [f"    left as it is: {detail}" for detail in verdict["details"]]
    return "\n".join(lines)


def _macs(cost: Mapping[str, Any]) -> str:
    return "MACs unknown" if cost["macs"] is None else f"{cost['macs']:,} MACs a sample"


def _stopped(inspection: Mapping[str, Any]) -> list[str]:
    stopped = inspection["stopped_by"]
    if stopped is None:
        return []
    return [f"opaque: it runs, but can't be taken apart: {stopped['operator']} {stopped['node']}: {stopped['why']}"]


def _data_lines(inspection: Mapping[str, Any]) -> list[str]:
    lines = [_array_line(name, facts) for name, facts in inspection["arrays"].items()]
    if (images := inspection["images"]) is not None:
        sides = (f"{images[side]['min']}–{images[side]['max']}" for side in ("width", "height"))
        lines.append(f"{images['count']:,} images of {' × '.join(sides)} pixels; {images['skipped']} files left aside")
    lines.append(", ".join(f"{split}: {count:,} samples" for split, count in inspection["splits"].items()))
    if (labels := inspection["labels"]) is not None:
        classes = labels["classes"]
        lines.append(labels["task"] + (f", {len(classes)} classes: {', '.join(classes[:20])}" if classes else ""))
    warnings = inspection["warnings"]
    return lines + [f"warning ({entry['kind']}): {entry['where']}: {entry['message']}" for entry in warnings]


def _array_line(name: str, facts: Mapping[str, Any]) -> str:
    extent = f"{facts['min']:.4g} … {facts['max']:.4g}" if "min" in facts else "not finite or empty"
    classes = f", {len(facts['counts'])} values" if "counts" in facts else ""
    return f"{name:20} {facts['dtype']:8} {'×'.join(map(str, facts['shape'])):>20}  {extent}{classes}"
