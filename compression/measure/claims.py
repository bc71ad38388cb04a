"""Sentences that a report may say, derived from measured figures alone: never from a method's name or its aim.

A claim is made only where its figure is clear of the measurement's uncertainty; what got worse comes first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

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
from compression.measure.runtime import Comparison

# Two sessions of one and the same file differ by up to this: buffers lie differently (seen: 0.1 to 2 %).
CLEAR_LATENCY = 1.03
# Resident memory comes in pages and arenas: two runs of one file differ by this.
CLEAR_MEMORY = 1.05
# A file's size is exact; below half a percent nobody would call it smaller.
CLEAR_SIZE = 1.005
# An interval for the agreement that lies below this share means that users will meet differences.
AGREES = 0.99
# Where there is no top-1: below this the error has more than a hundredth of the outputs' energy.
FAITHFUL_DB = 20.0
# An interval of the agreement below this: most answers are others. Without a top-1, below BROKEN_DB the error has
# more than half of the outputs' energy. Whatever else was won, such a file doesn't stand for the original.
BROKEN, BROKEN_DB = 0.5, 3.0

NOT_USABLE = "the compressed network is not usable"
VOID = ("at chance", "broken")

Effect = Literal["worse", "none", "better"]


@dataclass(frozen=True)
class Claim:
    """`subject`: baseline, size, zeros, latency, memory, accuracy, error, fidelity, training or target (of a step).
    `verdict` is one of "smaller", "larger", "pays when coded", "faster", "slower", "less memory", "more memory",
    "accuracy lost", "accuracy gained", "no loss shown", "fidelity", "fidelity lost", "no gain", "not measured",
    "missed", "at chance" (the original itself guesses), "broken" (the compressed network can't be used). `text` is the
    sentence with its figures."""

    subject: str
    verdict: str
    effect: Effect
    text: str


def size_claim(kind: str, original: int, compressed: int, *, weights: bool = False) -> Claim:
    """Of the bytes of the compressed network in the file format `kind`, and of the original in the same, or, with
    `weights`, of the original's weights in fp32 alone."""
    of_weights = " of fp32 weights" if weights else ""
    figures = f"{original:,}{of_weights} → {compressed:,} bytes as .{kind}"
    if original >= compressed * CLEAR_SIZE:
        return Claim("size", "smaller", "better", f"{original / compressed:.2f}× smaller ({figures})")
    if compressed >= original * CLEAR_SIZE:
        return Claim("size", "larger", "worse", f"{compressed / original:.2f}× larger ({figures})")
    return Claim("size", "no gain", "none", f"no gain in size ({figures})")


def latency_claim(measured: Comparison) -> Claim:
    """Faster or slower only where the whole interval of the ratio says so, by more than CLEAR_LATENCY."""
    figures = (
        f"{_seconds(measured.original.median)} → {_seconds(measured.compressed.median)}, "
        f"95 % {measured.low:.2f}–{measured.high:.2f}×"
    )
    at = f"at batch {measured.batch}"
    if measured.low >= CLEAR_LATENCY:
        return Claim("latency", "faster", "better", f"{measured.ratio:.2f}× faster {at} ({figures})")
    if measured.high <= 1 / CLEAR_LATENCY:
        return Claim("latency", "slower", "worse", f"{1 / measured.ratio:.2f}× slower {at} ({figures})")
    return Claim("latency", "no gain", "none", f"no gain in speed {at} ({figures})")


def memory_claim(original: int, compressed: int) -> Claim:
    """Of the peak bytes that loading and running the file takes."""
    figures = f"{original / 1e6:.1f} → {compressed / 1e6:.1f} MB"
    if original > compressed * CLEAR_MEMORY:
        return Claim("memory", "less memory", "better", f"takes less memory ({figures})")
    if compressed > original * CLEAR_MEMORY:
        return Claim("memory", "more memory", "worse", f"takes more memory ({figures})")
    return Claim("memory", "no gain", "none", f"no gain in memory ({figures})")


def accuracy_claim(paired: PairedAccuracy) -> Claim:
    """Lost or gained only where the interval of the paired difference excludes zero."""
    points = 100 * paired.difference
    figures = f"95 % {100 * paired.low:+.2f} to {100 * paired.high:+.2f} points, {paired.n:,} samples"
    if paired.high < 0:
        return Claim("accuracy", "accuracy lost", "worse", f"accuracy lost: {points:+.2f} points ({figures})")
    if paired.low > 0:
        return Claim("accuracy", "accuracy gained", "better", f"accuracy gained: {points:+.2f} points ({figures})")
    return Claim("accuracy", "no loss shown", "none", f"no loss of accuracy shown: {points:+.2f} points ({figures})")


def f1_claim(paired: PairedF1) -> Claim:
    """The same for multi-label, of the micro F1."""
    points = 100 * paired.difference
    if paired.low is None or paired.high is None:
        return Claim("accuracy", "no loss shown", "none", f"F1 {points:+.2f} points: one sample shows nothing")
    figures = f"{points:+.2f} points (95 % {100 * paired.low:+.2f} to {100 * paired.high:+.2f}, {paired.n:,} samples)"
    if paired.high < 0:
        return Claim("accuracy", "accuracy lost", "worse", f"F1 lost: {figures}")
    if paired.low > 0:
        return Claim("accuracy", "accuracy gained", "better", f"F1 gained: {figures}")
    return Claim("accuracy", "no loss shown", "none", f"no loss of F1 shown: {figures}")


def error_claim(paired: PairedError) -> Claim:
    """The same for regression, of the mean squared error: a higher one is a loss."""
    if paired.low is None or paired.high is None:
        return Claim(
            "error", "no loss shown", "none", f"squared error {paired.difference:+.4g}: one sample shows nothing"
        )
    figures = f"{paired.difference:+.4g}, 95 % {paired.low:+.4g} to {paired.high:+.4g}, {paired.n:,} samples"
    if paired.low > 0:
        return Claim("error", "accuracy lost", "worse", f"mean squared error rose: {figures}")
    if paired.high < 0:
        return Claim("error", "accuracy gained", "better", f"mean squared error fell: {figures}")
    return Claim("error", "no loss shown", "none", f"no change of the mean squared error shown: {figures}")


def fidelity_claim(measured: Fidelity) -> Claim:
    """Without labels: how far the outputs are the original's. It says nothing of accuracy."""
    if measured.agreement is None:
        text = f"outputs differ from the original's at {measured.sqnr_db:.1f} dB"
        if measured.sqnr_db < BROKEN_DB:
            return Claim(
                "fidelity", "broken", "worse", f"{NOT_USABLE}: {text}, more than half of their energy is error"
            )
        if measured.sqnr_db < FAITHFUL_DB:
            return Claim("fidelity", "fidelity lost", "worse", f"outputs changed: {text}")
        return Claim("fidelity", "fidelity", "none", text)
    share = measured.agreement
    text = f"top-1 as the original's on {share.value:.2%} (95 % {share.low:.2%}–{share.high:.2%}, {share.n:,} samples)"
    if measured.commonest is not None and measured.commonest < 1 and _guesses(share, measured.commonest):
        guess = f"no better than always giving its commonest answer ({measured.commonest:.2%})"
        return Claim("fidelity", "broken", "worse", f"{NOT_USABLE}: {text}, {guess}")
    if share.high < BROKEN:
        return Claim("fidelity", "broken", "worse", f"{NOT_USABLE}: {text}")
    if share.high < AGREES:
        return Claim("fidelity", "fidelity lost", "worse", f"outputs changed: {text}")
    return Claim("fidelity", "fidelity", "none", text)


def unmeasured_claim() -> Claim:
    text = "what it costs in accuracy is not known: there was no data to measure it on"
    return Claim("accuracy", "not measured", "worse", text)


def baseline_claims(original: Share, chance: float) -> list[Claim]:
    """A warning where the original itself does no better than guessing: then a comparison says nothing."""
    if not _guesses(original, chance):
        return []
    text = (
        f"the original itself is right on {original.value:.2%} of {original.n:,} samples, no better than always "
        f"guessing the commonest ({chance:.2%}): check the preprocessing and the labels"
    )
    return [Claim("baseline", "at chance", "worse", text)]


def f1_baseline_claims(original: MultiLabel) -> list[Claim]:
    """The same for multi-label: saying every label of every sample needs no network."""
    highest = original.f1 if original.high is None else original.high
    if highest > original.chance:
        return []
    text = (
        f"the original itself reaches an F1 of {original.f1:.2%} on {original.n:,} samples, no better than always "
        f"saying every label ({original.chance:.2%}): check the preprocessing and the labels"
    )
    return [Claim("baseline", "at chance", "worse", text)]


def training_claims(steps: Sequence[Mapping[str, Any]]) -> list[Claim]:
    """Of the records of steps: where a whole training was for nothing, which no other figure tells."""
    claims = []
    for index, step in enumerate(steps):
        runs = list(_trainings(step.get("facts", {})))
        vain = sum(run["best_epoch"] == 0 for run in runs)
        if vain:
            which = f"{vain} of {len(runs)} trainings" if len(runs) > 1 else "the training"
            text = (
                f"step {index + 1} ({step['method']}): {which} made nothing better on validation, so the weights from "
                "before were kept; try a lower learning rate or more data"
            )
            claims.append(Claim("training", "no gain", "none", text))
    return claims


def target_claims(steps: Sequence[Mapping[str, Any]]) -> list[Claim]:
    """Of the records of steps: a target of time or of bytes that was aimed at and not met."""
    claims = []
    for index, step in enumerate(steps):
        facts, head = step.get("facts", {}), f"step {index + 1} ({step['method']}): the target was missed"
        rounds = facts.get("rounds", [])
        timed = (rounds[-1] if rounds else facts).get("latency", {})
        attempts = timed.get("attempts", [timed] if timed else [])
        if attempts and not any(attempt["reached"] for attempt in attempts):  # the fastest is kept then
            left = min(attempt["measured"] for attempt in attempts)
            text = f"{head}: {left:.1%} of the time is left, {timed['wanted']:.1%} was wanted"
            claims.append(Claim("target", "missed", "worse", text))
        if facts.get("target_met") is False:
            size = facts.get("file_bytes_after_rdoq", facts["file_bytes"])
            text = f"{head}: {size:,} bytes of the .nwk file, {facts['target_bytes']:,} were wanted"
            claims.append(Claim("target", "missed", "worse", text))
    return claims


def _trainings(facts: Any) -> Iterator[Mapping[str, Any]]:
    """What `compression.training.loop.train` recorded, wherever a step's facts hold it."""
    if isinstance(facts, Mapping):
        if "best_epoch" in facts and "history" in facts:
            yield facts
        else:
            for value in facts.values():
                yield from _trainings(value)
    elif isinstance(facts, list):
        for value in facts:
            yield from _trainings(value)


def fidelity_baseline_claims(measured: Fidelity) -> list[Claim]:
    """The same without labels: an original that answers everything alike says nothing of the compressed network."""
    if measured.agreement is None or measured.commonest != 1 or measured.agreement.n == 1:
        return []
    text = (
        f"the original itself gives the same top-1 for all of {measured.agreement.n:,} samples, so agreeing with it "
        "shows nothing: check the preprocessing, and give samples that it tells apart"
    )
    return [Claim("baseline", "at chance", "worse", text)]


def broken_claims(
    original: Classification | MultiLabel | Regression | None,
    compressed: Classification | MultiLabel | Regression | None,
) -> list[Claim]:
    """With labels: a compressed network that does no better than guessing where the original did."""
    if isinstance(original, Classification) and isinstance(compressed, Classification):
        if _guesses(original.top1, original.chance) or not _guesses(compressed.top1, compressed.chance):
            return []
        text = (
            f"right on {compressed.top1.value:.2%} of {compressed.top1.n:,} samples, no better than always guessing "
            f"the commonest ({compressed.chance:.2%})"
        )
    elif isinstance(original, MultiLabel) and isinstance(compressed, MultiLabel):
        if f1_baseline_claims(original) or not f1_baseline_claims(compressed):
            return []
        text = f"F1 of {compressed.f1:.2%}, no better than always saying every label ({compressed.chance:.2%})"
    elif isinstance(original, Regression) and isinstance(compressed, Regression):
        if original.r2 is None or compressed.r2 is None or original.r2 <= 0 or compressed.r2 > 0:
            return []
        text = f"R² of {compressed.r2:.3g}, no better than always giving the mean of the targets"
    else:
        return []
    return [Claim("accuracy", "broken", "worse", f"{NOT_USABLE}: {text}")]


def _guesses(measured: Share, chance: float) -> bool:
    """Within its interval of guessing, and less than a tenth of the way from there to being always right."""
    return measured.low <= chance and measured.value - chance < 0.1 * (1 - chance)


def worst_first(claims: Sequence[Claim]) -> list[Claim]:
    """What makes all else void, what got worse, what didn't change, what got better; otherwise in the given order."""
    order: tuple[Effect, ...] = ("worse", "none", "better")
    return sorted(claims, key=lambda claim: (claim.verdict not in VOID, order.index(claim.effect)))


def headline(claims: Sequence[Claim]) -> str:
    """One line: the first claim of each subject and verdict, the worse first. Says so if nothing got better."""
    first: dict[tuple[str, str], Claim] = {}
    for claim in worst_first(claims):
        first.setdefault((claim.subject, claim.verdict), claim)
    ordered = list(first.values())
    if not ordered:
        return "Nothing was measured."
    text = "; ".join(claim.text for claim in ordered)
    if ordered[0].verdict not in VOID and not any(claim.effect == "better" for claim in ordered):
        return f"No gain: {text}."
    return f"{text[0].upper()}{text[1:]}."


def _seconds(value: float) -> str:
    return f"{value * 1e6:.1f} µs" if value < 1e-3 else f"{value * 1e3:.2f} ms"
