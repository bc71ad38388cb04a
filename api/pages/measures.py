"""What a report measures of a network before and after, one after another: for its table and for comparing jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from api.pages import words
from api.pages.facts import Shown, Table, Text, label, plain, share, shown
from api.pages.figures import Json, at, entries, mapping, number, span, text

Span = tuple[float, float]
LABELS = {
    "top1": "Accuracy",
    "top5": "Right within the five likeliest",
    "f1": "F1 of all decisions together",
    "average_precision": "Average precision, mean of the classes",
    "chance": "By guessing the commonest",
    "mse": "Mean squared error",
    "r2": "R²",
    "agreement": "Same answer as the original",
    "commonest": "By always giving the original's commonest answer",
    "cosine": "Cosine to the original's outputs",
    "sqnr_db": "Signal to noise against the original, dB",
}
SHARES = frozenset({"chance", "commonest", "f1", "average_precision"})
LESS_IS_BETTER = frozenset({"mse", "mae", "rmse", "loss", "error", "hamming_loss"})
MORE_IS_BETTER = frozenset({"f1", "average_precision", "r2", "cosine", "sqnr_db"})
NOT_ALONE = frozenset({"n", "count", "low", "high"})  # counts, and the interval of the first figure beside it


@dataclass(frozen=True)
class Measure:
    """`change` is in words. `good`: whether less or more of it is better, or neither. `gain`: how many times better the
    compressed network is, where that may be told across jobs. Spans are what the figure may be off by."""

    key: str
    label: str
    before: float | None
    after: float | None
    write: Callable[[float], str]
    good: Literal["less", "more", ""]
    change: str = ""
    before_span: Span | None = None
    after_span: Span | None = None
    gain: float | None = None
    kind: Literal["size", "cost", "time", "quality"] = "cost"

    @property
    def left(self) -> float | None:
        """What is left of it, as a share."""
        return self.after / self.before if self.before and self.after is not None and self.kind != "quality" else None


def measures(report: Json) -> list[Measure]:
    """Those that the report has figures for: quality first, likeness to the original last."""
    cost = [*_sizes(report), *_costs(report), *_latencies(report), *_footprint(report)]
    found = [*_quality(report), *cost, *_fidelity(report)]
    return [measure for measure in found if measure.before is not None or measure.after is not None]


def judged_by(found: Sequence[Measure]) -> Measure | None:
    """The one measure that stands for quality: the first with an interval, else the first that has a better side."""
    quality = [measure for measure in found if measure.kind == "quality" and measure.good and measure.after is not None]
    certain = [measure for measure in quality if measure.after_span is not None]
    return next(iter([*certain, *quality]), None)


def _times(before: float | None, after: float | None, less: str, more: str) -> str:
    if not before or not after:
        return ""
    if before == after:
        return "the same"
    if 0.995 < before / after < 1.005:
        return "about the same"
    return f"{before / after:.2f}× {less}" if before > after else f"{after / before:.2f}× {more}"


def _sizes(report: Json) -> list[Measure]:
    old = {text(file, "format"): number(file, "bytes") for file in entries(report, "original_files") if _full(file)}
    found = []
    for file in filter(_full, entries(report, "artifacts")):
        form, after = text(file, "format"), number(file, "bytes")
        name, before = f".{form} file", old.get(form)
        if form not in old:  # no such file was made of the original
            name, before = f".{form} file (before: weights in fp32)", number(report, "original", "bytes")
        gain = before / after if before and after else None
        change = _times(before, after, "smaller", "larger")
        found.append(
            Measure(f"bytes.{form}", name, before, after, words.bytes_, "less", change, gain=gain, kind="size")
        )
    return found


def _full(file: Json) -> bool:
    return bool(file.get("variant", "full") == "full")


def _costs(report: Json) -> list[Measure]:
    found = []
    for key, name in (("parameters", "Parameters"), ("nonzero", "Parameters that aren't zero"), ("macs", "MACs")):
        before, after = number(report, "original", key), number(report, "compressed", key)
        gain = before / after if before and after else None
        found.append(
            Measure(key, name, before, after, words.short, "less", _times(before, after, "fewer", "more"), gain=gain)
        )
    return found


def _latencies(report: Json) -> list[Measure]:
    found = []
    for entry in entries(report, "delivered", "latency"):
        batch = number(entry, "batch")
        before, after = number(entry, "original", "median"), number(entry, "compressed", "median")
        ratio, ends = number(entry, "ratio"), span(entry)
        change = "" if ratio is None else f"{ratio:.2f}× as fast"
        if change and ends is not None:
            change += f" (95 % {ends[0]:.2f}–{ends[1]:.2f})"
        old, new = (span(at(entry, side), "low_quartile", "high_quartile") for side in ("original", "compressed"))
        name = f"Latency at batch {plain(None if batch is None else int(batch))}"
        key = f"latency.{plain(None if batch is None else int(batch))}"
        found.append(Measure(key, name, before, after, words.seconds, "less", change, old, new, ratio, "time"))
    return found


def _footprint(report: Json) -> list[Measure]:
    found = []
    rows: list[tuple[str, str, Callable[[float], str]]] = [
        ("load_seconds", "Time to load", words.seconds),
        ("peak_bytes", "Peak memory", words.bytes_),
    ]
    for key, name, write in rows:
        before, after = number(report, "delivered", "original", key), number(report, "delivered", "compressed", key)
        change = f"{after / before:.2f} of before" if before and after else ""
        found.append(Measure(key, name, before, after, write, "less", change, kind="time"))
    return found


def _quality(report: Json) -> list[Measure]:
    quality = mapping(report, "delivered", "quality")
    before, after = mapping(quality, "original"), mapping(quality, "compressed")
    found = []
    for key in before | after:
        if key not in NOT_ALONE:
            measure = _quality_measure(key, before.get(key), after.get(key))
            found += [] if measure is None else [measure]
    if found:
        change = _paired(mapping(quality, "paired"), points=found[0].write is words.percent) or found[0].change
        spans = (found[0].before_span or span(before), found[0].after_span or span(after))
        found[0] = replace(found[0], change=change, before_span=spans[0], after_span=spans[1])
    return found


def _fidelity(report: Json) -> list[Measure]:
    fidelity = mapping(report, "delivered", "quality", "fidelity")
    found = [_quality_measure(key, None, value) for key, value in fidelity.items()]
    return [measure for measure in found if measure is not None]


def _quality_measure(key: str, before: Any, after: Any) -> Measure | None:
    """A share with its interval, or a number; None for anything else."""
    good: Literal["less", "more", ""] = "less" if key in LESS_IS_BETTER else "more" if key in MORE_IS_BETTER else ""
    name = LABELS.get(key, label(key).capitalize())
    if share(before) is not None or share(after) is not None:
        values, ends = (number(before, "value"), number(after, "value")), (_span(before), _span(after))
        return Measure(key, name, *values, words.percent, good or "more", _points(*values), *ends, None, "quality")
    numbers = number(before), number(after)
    if numbers == (None, None):
        return None
    write = words.percent if key in SHARES else _short
    change = _points(*numbers) if write is words.percent else _difference(*numbers)
    return Measure(key, name, *numbers, write, good, change, kind="quality")


def _span(value: Any) -> Span | None:
    return None if value is None else span(value)


def _short(value: float) -> str:
    return f"{value:.4g}"


def _points(before: float | None, after: float | None) -> str:
    return "" if before is None or after is None else f"{100 * (after - before):+.2f} points"


def _difference(before: float | None, after: float | None) -> str:
    return "" if before is None or after is None else f"{after - before:+.3g}" if before != after else "the same"


def _paired(paired: Json, *, points: bool) -> str:
    """How the first measure changed on the same samples, with what it may be off by."""
    difference, ends = number(paired, "difference"), span(paired)
    if difference is None:
        return ""
    if not points:
        return f"{difference:+.4g}" + (f" (95 % {ends[0]:+.4g} to {ends[1]:+.4g})" if ends else "")
    said = f"{100 * difference:+.2f} points"
    if ends:
        said += f" (95 % {100 * ends[0]:+.2f} to {100 * ends[1]:+.2f})"
    return f"{said}; {plain(paired['lost'])} lost, {plain(paired.get('won'))} won" if "lost" in paired else said


def quality_tables(report: Json) -> list[tuple[str, Shown]]:
    """What the figures of quality hold besides single numbers, such as one figure for each class."""
    quality = mapping(report, "delivered", "quality")
    before, after = mapping(quality, "original"), mapping(quality, "compressed")
    found = []
    for key in before | after:
        sides = before.get(key), after.get(key)
        if any(isinstance(side, dict | list) and share(side) is None for side in sides):
            found.append((LABELS.get(key, label(key).capitalize()), _beside(*sides)))
    known = {"original", "compressed", "paired", "fidelity"}
    found += [(label(key).capitalize(), shown(value)) for key, value in quality.items() if key not in known]
    return found


def _beside(before: Any, after: Any) -> Shown:
    """Two objects, or two lists, entry by entry."""
    old, new = _named(before), _named(after)
    rows: list[list[Shown]] = [[Text(name), shown(old.get(name), 1), shown(new.get(name), 1)] for name in old | new]
    return Table(["", "before", "after"], rows)


def _named(value: Any) -> Json:
    if isinstance(value, list):
        return {str(index): entry for index, entry in enumerate(value)}
    return mapping(value)
