"""What looks wrong in data and is no fault: said in the inspection of a file and in a job's report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from compression.layout import place

FEW_SAMPLES = 100
UNBALANCED = 10.0
FAR_MEAN, FAR_STD, LOW_STD = 5.0, 5.0, 0.01
NAMED = 5  # so many classes are listed, the others counted


@dataclass(frozen=True)
class Concern:
    """`kind` is stable: class-missing, class-unbalanced, class-gap, class-order, constant-input, constant-feature,
    not-normalised, not-finite, duplicates, few-samples, labels, probabilities. `where`: arrays, an input or a split."""

    kind: str
    message: str
    where: str = ""

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def class_concerns(counts: Mapping[str, Mapping[str, int]]) -> list[Concern]:
    """Of samples by split and class name: classes that a split lacks, and very unequal ones in training."""
    known = list(dict.fromkeys(name for found in counts.values() for name in found))
    found = []
    for split, present in counts.items():
        missing = [name for name in known if not present.get(name)]
        if missing:
            found.append(Concern("class-missing", f"no samples of {listed(missing)} in the {split} split", split))
    train = {name: count for name, count in counts.get("train", {}).items() if count}
    if train and max(train.values()) >= UNBALANCED * min(train.values()):
        most, least = max(train, key=train.__getitem__), min(train, key=train.__getitem__)
        message = f"{most} has {train[most]} training samples, {least} has {train[least]}: accuracy says little of it"
        found.append(Concern("class-unbalanced", message, "train"))
    return found


def gap_concerns(present: Sequence[int]) -> list[Concern]:
    """Class indices that don't run from 0 without a gap: `present` are those that occur, ascending."""
    missing = sorted(set(range(present[-1] + 1)) - set(present)) if present and present[-1] < 1_000_000 else []
    if not missing:
        return []
    return [Concern("class-gap", f"no sample has the class {listed(list(map(str, missing)))}", "y")]


def order_concerns(classes: Sequence[str]) -> list[Concern]:
    """Class folders called by numbers: as text, 10 comes before 2."""
    if not all(name.isdecimal() and name.isascii() for name in classes):
        return []
    moved = [index for index, name in enumerate(sorted(classes, key=int)) if classes[index] != name]
    if not moved:
        return []
    message = (
        f"folders are sorted as text, so the class {classes[moved[0]]} has the index {moved[0]}; write numbers with "
        "leading zeros if the network counts otherwise"
    )
    return [Concern("class-order", message, "y")]


def value_concerns(where: str, low: float, high: float, mean: float, std: float, *, images: bool) -> list[Concern]:
    """Of an input's values, as they reach the network or as they are stored."""
    if low == high:
        return [Concern("constant-input", f"every value is {low:.4g}", where)]
    if abs(mean) <= FAR_MEAN and LOW_STD <= std <= FAR_STD:
        return []
    figures = f"values from {low:.4g} to {high:.4g}, mean {mean:.4g}, standard deviation {std:.4g}"
    advice = f"mean [{mean:.4g}] and std [{std:.4g}]"
    if images and low >= 0 and 1 < high <= 255:
        advice = "scale 1/255"
    return [Concern("not-normalised", f"{figures}; unless the network was trained on them, declare {advice}", where)]


def told_once(concerns: Iterable[Concern]) -> list[Concern]:
    """Of arrays by name: what several splits of an input share is said once, with the figures of the first."""
    found: dict[tuple[str, str], Concern] = {}
    for concern in concerns:
        same = concern.kind if concern.kind == "not-normalised" else concern.message
        key = place(concern.where)[0], same
        found[key] = replace(found[key], where=f"{found[key].where}, {concern.where}") if key in found else concern
    return list(found.values())


def size_concerns(sizes: Mapping[str, int]) -> list[Concern]:
    """Of the number of samples by split, made ones included."""
    found = []
    for split in ("train", "test"):
        count = sizes.get(split, FEW_SAMPLES)
        if count < FEW_SAMPLES:
            points = 100 * 1.96 * math.sqrt(0.9 * 0.1 / max(count, 1))
            figures = f": an accuracy of 90 % is known to about ± {points:.0f} points" if split == "test" else ""
            found.append(Concern("few-samples", f"the {split} split has {count} samples{figures}", split))
    return found


def listed(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
