"""What the lottery experiment found: curves with their spread, where one arm passes another, and whether it held."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compression.methods.prune.lottery import PruneLottery
    from compression.pruning.lottery import Lot
    from compression.training.losses import Task

Rounds = Sequence[Mapping[str, Any]]
NAMES = {
    "dense": "the whole network",
    "rewind": "the ticket",
    "finetune": "trained weights trained on",
    "signs": "signs alone",
    "random_signs": "random signs",
    "random": "drawn anew",
    "scratch_b": "from scratch for longer",
}


def findings(
    columns: Mapping[Lot, Rounds], spec: PruneLottery, task: Task | None, samples: int
) -> list[dict[str, Any]]:
    """One entry for each kind of pruning and learning rate. `columns`: the rounds of each seed; `samples`: of the
    validation split, on which all was judged."""
    found = []
    for kind in spec.kinds:
        for rate in dict.fromkeys(lot.rate for lot in columns):
            seeds = [rounds for lot, rounds in columns.items() if (lot.kind, lot.rate) == (kind, rate)]
            size = "large" if rate == spec.training.learning_rate else "small"
            found.append(_cell(seeds, {"kind": kind, "learning_rate": rate, "rate": size}, task, samples))
    return found


def _cell(seeds: list[Rounds], names: dict[str, Any], task: Task | None, samples: int) -> dict[str, Any]:
    share = task == "classification"
    table = [_row([rounds[number] for rounds in seeds]) for number in range(len(seeds[0]))]
    dense = _scores(seeds, 0, "dense")
    verdicts = []
    for number in range(1, len(table)):
        arms = {arm: _scores(seeds, number, arm) for arm in seeds[0][number]["runs"]}
        verdicts.append({"weights_left": table[number]["weights_left"], **judged(dense, arms, share, samples)})
    lines = {"dense": mean_curve([rounds[0]["runs"]["dense"]["curve"] for rounds in seeds])}
    last = [rounds[-1]["runs"] for rounds in seeds]
    lines |= {arm: mean_curve([runs[arm]["curve"] for runs in last]) for arm in last[0]}
    crossings = {arm: passes(line, lines["dense"]) for arm, line in lines.items() if arm != "dense"}
    metric = "accuracy" if share else "score"
    cell = {**names, "metric": metric, "seeds": len(seeds), "rounds": table, "verdicts": verdicts}
    cell |= {"over_iterations": lines, "passes_dense_at": crossings}
    return {**cell, "words": words(cell)}


def _scores(seeds: list[Rounds], number: int, arm: str) -> list[float]:
    return [rounds[number]["runs"][arm]["score"] for rounds in seeds]


def _row(same: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A round over all seeds: [mean, lowest, highest] of each arm's score and of the step at which its validation
    loss was the lowest (early stopping)."""
    arms = {}
    for arm in same[0]["runs"]:
        figures = {name: [entry["runs"][arm][name] for entry in same] for name in ("score", "stopped_at")}
        arms[arm] = {name: [mean(values), min(values), max(values)] for name, values in figures.items()}
    return {"weights_left": mean(entry["weights_left"] for entry in same), "arms": arms}


def margin(one: Sequence[float], other: Sequence[float], share: bool, samples: int) -> float:
    """What a difference of two means must exceed: the standard error over seeds, and, of shares, that of one share of
    so many samples, on which all seeds were judged."""
    variance = sum(stdev(side) ** 2 / len(side) for side in (one, other) if len(side) > 1)
    if share:
        middle = mean([*one, *other])
        variance += middle * (1 - middle) / samples
    return math.sqrt(variance)


def judged(dense: Sequence[float], arms: Mapping[str, Sequence[float]], share: bool, samples: int) -> dict[str, Any]:
    """Whether the hypothesis held at one size: the ticket is as good as the whole network (not below it by more than
    the error), and the same structure drawn anew is below the ticket by more than the error."""
    ticket = arms["rewind"]
    found: dict[str, Any] = {"as_good": mean(ticket) >= mean(dense) - margin(ticket, dense, share, samples)}
    for arm in ("random", "scratch_b", "finetune", "signs", "random_signs"):
        if arm in arms:
            error = margin(ticket, arms[arm], share, samples)
            found[f"above_{arm}"] = mean(ticket) > mean(arms[arm]) + error
    if "random" not in arms:
        found["held"] = None
    else:
        found["held"] = found["as_good"] and found["above_random"]
    if {"scratch_b", "finetune"} <= set(arms):
        error = margin(arms["scratch_b"], arms["finetune"], share, samples)
        found["scratch_b_as_finetune"] = mean(arms["scratch_b"]) >= mean(arms["finetune"]) - error
    return found


def mean_curve(curves: Sequence[Sequence[Sequence[float]]]) -> list[list[float]]:
    """[step, mean, lowest, highest] over seeds, as far as the shortest goes."""
    rows = zip(*curves, strict=False)
    return [[row[0][0], mean(values), min(values), max(values)] for row in rows for values in [[p[1] for p in row]]]


def passes(line: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> float | None:
    """The first step from which on `line` is never below `other` again; None: not within its budget. Where it is
    trained for longer, it is the other's last figure that counts."""
    steps = [entry[0] for entry in other]
    at = None
    for step, value, *_ in line[1:]:  # before training nothing has been passed
        place = max(index for index, known in enumerate(steps) if known <= step)
        if value < other[place][1]:
            at = None
        elif at is None:
            at = step
    return at


def words(cell: Mapping[str, Any]) -> str:
    """The sentences of one kind of pruning at one learning rate."""
    head = f"{cell['kind'].capitalize()}, {cell['rate']} learning rate ({cell['learning_rate']:g}): "
    verdicts, table = cell["verdicts"], cell["rounds"]
    held = [entry for entry in verdicts if entry["held"]]
    if verdicts[0]["held"] is None:
        text = "not judged, for no arm was drawn anew"
    elif not held:
        reasons = [_why_not(entry) for entry in verdicts]
        text = f"the hypothesis did not hold: {reasons[-1]}"
    else:
        what = "weights" if cell["kind"] == "weights" else "parameters"
        text = f"the hypothesis held at {', '.join(_percent(entry['weights_left']) for entry in held)} of the {what}"
        if not verdicts[-1]["held"]:
            text += f"; not at {_percent(verdicts[-1]['weights_left'])}: {_why_not(verdicts[-1])}"
    sentences = [f"{head}{text}.", _figures(cell, table[0], table[-1])]
    if "scratch_b_as_finetune" in verdicts[-1]:
        does = "does as well as" if verdicts[-1]["scratch_b_as_finetune"] else "does worse than"
        sentences.append(f"From scratch for longer (Scratch-B) {does} training on.")
    return " ".join([*sentences, _crossings(cell)])


def _why_not(verdict: Mapping[str, Any]) -> str:
    if not verdict["as_good"]:
        return "the ticket is below the whole network"
    return "drawn anew, the same structure does as well"


def _figures(cell: Mapping[str, Any], first: Mapping[str, Any], last: Mapping[str, Any]) -> str:
    shown = [f"{NAMES['dense']} {_figure(cell, first['arms']['dense'])}"]
    shown += [f"{NAMES[arm]} {_figure(cell, figures)}" for arm, figures in last["arms"].items()]
    return f"At {_percent(last['weights_left'])}: {', '.join(shown)}."


def _figure(cell: Mapping[str, Any], figures: Mapping[str, Sequence[float]]) -> str:
    value = figures["score"][0]
    return f"{value:.2%}".replace("%", " %") if cell["metric"] == "accuracy" else f"{value:.4g}"


def _crossings(cell: Mapping[str, Any]) -> str:
    passed = cell["passes_dense_at"]
    shown = [arm for arm in ("rewind", "random", "scratch_b") if arm in passed]
    if all(passed[arm] is None for arm in shown):
        return f"Step by step it isn't passed within the budget by {' or '.join(NAMES[arm] for arm in shown)}."
    told = [
        f"{NAMES[arm]} " + ("not within the budget" if passed[arm] is None else f"at step {passed[arm]:g}")
        for arm in shown
    ]
    return f"Step by step it is passed for good by {', '.join(told)}."


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
