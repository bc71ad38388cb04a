"""A report as Markdown, for people: the figures are those of the JSON, rounded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compression.export.writers import ExportedFile
from compression.measure.accuracy import (
    Classification,
    Fidelity,
    MultiLabel,
    PairedAccuracy,
    PairedError,
    PairedF1,
    Regression,
    Share,
)
from compression.measure.delivered import Delivered
from compression.report import LayerChange, Report


def render_markdown(report: Report) -> str:
    sections = [
        f"# {report.headline}",
        "\n".join(f"- {claim.text}" for claim in report.claims),
        "## Before and after",
        _table(["", "original", "compressed", "change"], _rows(report)),
        _how_measured(report),
        "## Data" if report.data else "",
        _data(report.data) if report.data else "",
        "## Steps" if report.steps else "",
        *[_step(step) for step in report.steps],
        "## Layers" if report.layers else "",
        _table(["layer", "type", "weight", "parameters", "MACs"], [_layer_row(change) for change in report.layers])
        if report.layers
        else "",
        "## Time by node at batch 1",
        "As ONNX Runtime fuses the network; the slowest of each.",
        _table(["original", "µs", "compressed", "µs"], _node_rows(report.delivered)),
        "## Files",
        _table(["file", "bytes", "relative error", "SHA-256"], [_file_row(f) for f in report.artifacts]),
        *[f"```python\n{code}\n```" for code in report.usage.values()],
        "## What was asked",
        _facts({"seed": report.spec.get("seed"), **report.inputs}),
        "## Where it ran",
        _facts({**report.device, **report.versions}),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _rows(report: Report) -> list[list[str]]:
    before, after, delivered = report.original, report.compressed, report.delivered
    sizes = {file.format: file.bytes for file in report.original_files if file.variant == "full"}
    rows = [
        _number_row(_size_name(file.format, sizes), sizes.get(file.format, before.bytes), file.bytes)
        for file in report.artifacts
        if file.variant == "full"
    ]
    rows += [
        _number_row("parameters", before.parameters, after.parameters),
        _number_row("non-zero parameters", before.nonzero, after.nonzero),
        _number_row("MACs", before.macs, after.macs),
    ]
    for entry in delivered.latency:
        medians = [f"{1e3 * value:.4g}" for value in (entry.original.median, entry.compressed.median)]
        speed = f"{entry.ratio:.2f}× as fast (95 % {entry.low:.2f}–{entry.high:.2f})"
        rows.append([f"latency at batch {entry.batch}, ms", *medians, speed])
    loads = (1e3 * delivered.original.load_seconds, 1e3 * delivered.compressed.load_seconds)
    rows.append(["load time, ms", *[f"{value:.4g}" for value in loads], f"{loads[1] / loads[0]:.2f}×"])
    if delivered.original.peak_bytes is not None and delivered.compressed.peak_bytes is not None:
        rows.append(_number_row("peak memory, bytes", delivered.original.peak_bytes, delivered.compressed.peak_bytes))
    return rows + _quality_rows(delivered)


def _quality_rows(delivered: Delivered) -> list[list[str]]:
    if delivered.quality is None:
        return []
    quality, rows = delivered.quality, []
    if isinstance(quality.original, Classification) and isinstance(quality.compressed, Classification):
        change = ""
        if isinstance(quality.paired, PairedAccuracy):
            paired = quality.paired
            interval = f"95 % {100 * paired.low:+.2f} to {100 * paired.high:+.2f}"
            change = f"{100 * paired.difference:+.2f} points ({interval}; {paired.lost} lost, {paired.won} won)"
        rows.append(["top-1", _share(quality.original.top1), _share(quality.compressed.top1), change])
        if quality.original.top5 is not None and quality.compressed.top5 is not None:
            rows.append(["top-5", _share(quality.original.top5), _share(quality.compressed.top5), ""])
    if isinstance(quality.original, MultiLabel) and isinstance(quality.compressed, MultiLabel):
        change = ""
        if isinstance(quality.paired, PairedF1) and quality.paired.low is not None and quality.paired.high is not None:
            interval = f"95 % {100 * quality.paired.low:+.2f} to {100 * quality.paired.high:+.2f}"
            change = f"{100 * quality.paired.difference:+.2f} points ({interval})"
        rows.append(["micro F1", *[_f1(side) for side in (quality.original, quality.compressed)], change])
        precision = [_optional(side.average_precision) for side in (quality.original, quality.compressed)]
        rows.append(["macro average precision", *precision, ""])
    if isinstance(quality.original, Regression) and isinstance(quality.compressed, Regression):
        rows.append(["mean squared error", *_mse(quality.original, quality.compressed), _error(quality.paired)])
        rows.append(["R²", *[_optional(side.r2) for side in (quality.original, quality.compressed)], ""])
    return rows + _fidelity_rows(quality.fidelity)


def _fidelity_rows(fidelity: Fidelity) -> list[list[str]]:
    rows = [["cosine to the original's outputs", "", f"{fidelity.cosine:.6f}", ""]]
    rows.append(["SQNR to the original's outputs, dB", "", f"{fidelity.sqnr_db:.1f}", ""])
    if fidelity.agreement is not None:
        rows.insert(0, ["top-1 as the original's", "", _share(fidelity.agreement), ""])
    return rows


def _how_measured(report: Report) -> str:
    samples = "the test split" if report.delivered.quality is not None else "random inputs, as no data was given"
    return (
        f"Measured on {report.measured_on}; in ONNX Runtime on one thread, both files in turn in one process, on "
        f"{samples}. Parameters and MACs are the network's at batch 1. Intervals hold for 95 %: Wilson's for a share, "
        "Newcombe's for a paired difference of shares, Cochran's for F1 (a ratio of means), Student's for the ratio of "
        "latencies (over pairs of sessions)."
    )


def _data(data: Mapping[str, Any]) -> str:
    """What the job trained on and was judged by, as the network gets it; warnings first."""
    lines = [f"- **{entry['kind']}** {entry['where']}: {entry['message']}" for entry in data["warnings"]]
    lines.append(f"- task: {data['task'] or 'none: there are no labels'}")
    lines.append("- samples: " + ", ".join(f"{count:,} {name}" for name, count in data["splits"].items()))
    lines.append(f"- calibration: {data['calibration']}")
    if data["classes"]:
        shown = ", ".join(f"{index} {name}" for index, name in enumerate(data["classes"][:50]))
        lines.append(f"- classes: {shown}" + (" …" if len(data["classes"]) > 50 else ""))
    for name, facts in data["inputs"].items():
        lines.append(f"- input {name}: {_inline(facts)}")
    return "\n".join(lines)


def _step(step: Mapping[str, Any]) -> str:
    before, after = step.get("before", {}), step.get("after", {})
    rows = [[key, _value(before.get(key)), _value(after.get(key))] for key in before | after]
    title = f"### {step.get('index', 0) + 1}. {step['method']} ({step['seconds']:.1f} s)"
    return "\n\n".join(
        [
            title,
            _facts(step.get("config", {})),
            _table(["", "before", "after"], rows) if rows else "",
            _facts({name: value for name, value in step.get("facts", {}).items() if name != "learned"}),
            _learned(step.get("facts", {}).get("learned")),
        ]
    )


def _learned(learned: Mapping[str, Any] | None) -> str:
    """What each class looks like to the teacher, softened, in percent; of the other classes the likest is bold."""
    if learned is None:
        return ""
    title = f"What a class looks like to the teacher (mean probabilities at T = {learned['temperature']:g}, in %)"
    if "pairs" in learned:
        rows = [[pair["class"], pair["looks_like"], f"{100 * pair['teacher_at_t']:.2f}"] for pair in learned["pairs"]]
        return f"{title}\n\n" + _table(["class", "looks like", "%"], rows)
    names = learned["classes"]
    rows = [[names[place], *_class_row(row, place)] for place, row in enumerate(learned["teacher_at_t"])]
    return f"{title}\n\n" + _table(["", *names], rows)


def _class_row(row: Sequence[float | None], own: int) -> list[str]:
    others = [value for place, value in enumerate(row) if place != own and value is not None]
    most = max(others, default=0)
    cells = ["–" if value is None else f"{100 * value:.1f}" for value in row]
    return [f"**{cell}**" if place != own and row[place] == most else cell for place, cell in enumerate(cells)]


def _layer_row(change: LayerChange) -> list[str]:
    layer = change.after or change.before
    if layer is None:
        raise ValueError(f"{change.name} is in neither network")
    cells = []
    for attribute in ("weight_shape", "parameters", "macs"):
        old, new = (_value(getattr(side, attribute)) if side else "–" for side in (change.before, change.after))
        cells.append(old if old == new else f"{old} → {new}")
    return [change.name, layer.type, *cells]


def _node_rows(delivered: Delivered, most: int = 12) -> list[list[str]]:
    columns = []
    for side in (delivered.original, delivered.compressed):
        cells = [[f"{node.name} ({node.operator})", f"{node.microseconds:.1f}"] for node in side.nodes[:most]]
        columns.append(cells + [["", ""]] * (most - len(cells)))
    rows = [[*left, *right] for left, right in zip(*columns, strict=True)]
    return [row for row in rows if any(row)]


def _file_row(file: ExportedFile) -> list[str]:
    error = f"{file.max_relative_error:.1e}, against {file.compared_with}"
    return [file.name, f"{file.bytes:,}", error, f"`{file.sha256}`"]


def _number_row(name: str, before: int | None, after: int | None) -> list[str]:
    if before is None or after is None:
        return [name, *["not known" if side is None else f"{side:,}" for side in (before, after)], ""]
    return [name, f"{before:,}", f"{after:,}", f"{after / before:.1%} of it" if before else ""]


def _share(value: Share) -> str:
    return f"{value.value:.2%} ({value.low:.2%}–{value.high:.2%})"


def _f1(value: MultiLabel) -> str:
    interval = "" if value.low is None or value.high is None else f" ({value.low:.2%}–{value.high:.2%})"
    return f"{value.f1:.2%}{interval}"


def _mse(*sides: Regression) -> list[str]:
    return [f"{side.mse:.5g}" for side in sides]


def _error(paired: PairedAccuracy | PairedF1 | PairedError | None) -> str:
    if not isinstance(paired, PairedError) or paired.low is None or paired.high is None:
        return ""
    return f"{paired.difference:+.4g} (95 % {paired.low:+.4g} to {paired.high:+.4g})"


def _optional(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _value(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.5g}"


def _size_name(kind: str, originals: Mapping[str, int]) -> str:
    return f".{kind}, bytes" if kind in originals else f".{kind}, bytes (original: its weights in fp32)"


def _facts(facts: Mapping[str, Any]) -> str:
    """A list of what is simple; a list of mappings (rounds, epochs) is a line each. The JSON has all of it."""
    lines = []
    for key, value in facts.items():
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            lines += [f"- {key}:", *[f"  - {_inline(entry)}" for entry in value]]
        else:
            lines.append(f"- {key}: {_inline(value)}")
    return "\n".join(lines)


def _inline(value: Any) -> str:
    if isinstance(value, Mapping):
        nested = {name: entry for name, entry in value.items() if not isinstance(entry, Mapping)}
        return ", ".join(f"{name} {_inline(entry)}" for name, entry in nested.items()) or "–"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return _value(value)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    escaped = [[cell.replace("|", r"\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)
