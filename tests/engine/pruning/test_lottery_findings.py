"""What is said of the lottery follows from its figures: spread, crossing points, whether it held."""

from __future__ import annotations

import math

import pytest

from compression.methods.prune.lottery import PruneLottery
from compression.pruning.lottery import Lot
from compression.pruning.lottery_findings import findings, judged, margin, mean_curve, passes


def run(score: float, stopped_at: int = 10, curve: list[list[float]] | None = None) -> dict[str, object]:
    return {"score": score, "stopped_at": stopped_at, "curve": curve or [[0, 0.1], [10, score]]}


def rounds(dense: float, **arms: float) -> list[dict[str, object]]:
    return [
        {"weights_left": 1.0, "runs": {"dense": run(dense, 30)}},
        {"weights_left": 0.25, "runs": {arm: run(score) for arm, score in arms.items()}},
    ]


def test_the_margin_is_the_error_of_a_difference() -> None:
    """σ² over seeds of both sides, plus p(1 − p)/n of the split that judges them."""
    expected = math.sqrt(0.02**2 / 2 / 2 + 0.1**2 / 2 / 2 + 0.9 * 0.1 / 400)
    assert margin([0.88, 0.9], [0.86, 0.96], True, 400) == pytest.approx(expected)
    assert margin([0.9], [0.8], False, 400) == 0


@pytest.mark.parametrize(
    ("ticket", "random", "held"), [(0.90, 0.80, True), (0.90, 0.895, False), (0.80, 0.70, False), (0.97, 0.9, True)]
)
def test_it_held_where_the_ticket_is_as_good_and_drawn_anew_is_not(ticket: float, random: float, held: bool) -> None:
    assert judged([0.9], {"rewind": [ticket], "random": [random]}, True, 1000)["held"] is held


def test_without_a_control_nothing_is_judged() -> None:
    assert judged([0.9], {"rewind": [0.9], "finetune": [0.9]}, True, 1000)["held"] is None


@pytest.mark.parametrize(
    ("line", "at"),
    [
        ([[0, 0.5], [1, 0.3], [2, 0.5], [3, 0.7]], 2),
        ([[0, 0.5], [1, 0.6], [2, 0.3], [3, 0.7]], 3),  # it fell behind again
        ([[0, 0.5], [1, 0.6], [2, 0.6], [3, 0.7]], 1),
        ([[0, 0.5], [1, 0.3], [2, 0.3], [3, 0.5]], None),
        ([[0, 0.5], [1, 0.3], [2, 0.3], [3, 0.5], [4, 0.5], [5, 0.6], [6, 0.65]], 5),  # the other's last figure counts
    ],
)
def test_where_one_passes_the_other_for_good(line: list[list[float]], at: int | None) -> None:
    assert passes(line, [[0, 0.1], [1, 0.4], [2, 0.5], [3, 0.6]]) == at


def test_curves_have_their_spread() -> None:
    assert mean_curve([[[0, 0.1], [5, 0.6], [9, 1.0]], [[0, 0.3], [5, 0.4]]]) == [
        [0, 0.2, 0.1, 0.3],
        [5, 0.5, 0.4, 0.6],
    ]


def test_each_kind_and_rate_is_told_by_itself() -> None:
    spec = PruneLottery()
    columns = {
        Lot("weights", 0.1, 0): rounds(0.95, rewind=0.95, random=0.95, scratch_b=0.96, finetune=0.95),
        Lot("weights", 0.01, 0): rounds(0.95, rewind=0.95, random=0.80, scratch_b=0.70, finetune=0.95),
        Lot("structured", 0.1, 0): rounds(0.95, rewind=0.70, random=0.95, scratch_b=0.96, finetune=0.95),
        Lot("structured", 0.01, 0): rounds(0.95, rewind=0.95, random=0.95, scratch_b=0.96, finetune=0.95),
    }
    cells = findings(columns, spec, "classification", 1000)  # type: ignore[arg-type]
    assert [(cell["kind"], cell["rate"]) for cell in cells] == [
        ("weights", "large"), ("weights", "small"), ("structured", "large"), ("structured", "small")
    ]  # fmt: skip
    said = [cell["words"] for cell in cells]
    assert said[0].startswith("Weights, large learning rate (0.1): the hypothesis did not hold: drawn anew")
    assert said[1].startswith("Weights, small learning rate (0.01): the hypothesis held at 25 % of the weights.")
    assert "does worse than training on" in said[1]
    assert "the ticket is below the whole network" in said[2]
    assert "does as well as training on" in said[2]
    assert "from scratch for longer at step 10" in said[2]
    assert "the ticket not within the budget" in said[2]
    assert cells[0]["rounds"][1]["arms"]["scratch_b"] == {"score": [0.96] * 3, "stopped_at": [10, 10, 10]}
