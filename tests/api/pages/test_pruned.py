"""Pruned weights on the report's page: what a scan found, rounds beside pruning at once, lottery tickets."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from api.pages.pruned import SHADES, pruned
from tests.api.pages.reports import report, succeeded
from tests.api.running import Running
from tests.browser import accessible, opened, picture


def trained(accuracy: float) -> dict[str, Any]:
    return {"best_epoch": 2, "history": [{"epoch": 0, "accuracy": 0.1}, {"epoch": 2, "accuracy": accuracy}]}


WEIGHTS: dict[str, Any] = {
    "rounds": [
        {"round": 1, "sparsity": 0.9, "training": trained(0.97)},
        {"round": 2, "sparsity": 0.99, "training": trained(0.95)},
    ],
    "at_once": [
        {"round": 1, "sparsity": 0.9, "epochs": 2, "accuracy": 0.97, "loss": 0.1},
        {"round": 2, "sparsity": 0.99, "epochs": 4, "accuracy": 0.81, "loss": 0.5},
    ],
    "sensitivity": [
        {"weight": "conv1.weight", "sparsity": 0.5, "curve": [[0.0, 0.1], [0.5, 0.3], [0.9, 4.1]]},
        {"weight": "fc.weight", "sparsity": 0.95, "curve": [[0.0, 0.1], [0.5, 0.1], [0.9, 1.1]]},
    ],
    "zeros_percent": {"fc.weight": 95.0},
}


def figures(score: float, stop: int) -> dict[str, list[float]]:
    return {"score": [score, score - 0.01, score + 0.01], "stopped_at": [stop, stop - 5, stop + 5]}


CELL: dict[str, Any] = {
    "kind": "weights",
    "rate": "small",
    "learning_rate": 0.01,
    "metric": "accuracy",
    "words": "Weights, small learning rate (0.01): the hypothesis held at 10 % of the weights.",
    "rounds": [
        {"weights_left": 1.0, "arms": {"dense": figures(0.9, 80)}},
        {
            "weights_left": 0.1,
            "arms": {"rewind": figures(0.91, 40), "random": figures(0.8, 90), "signs": figures(0.9, 50)},
        },
    ],
    "over_iterations": {
        "dense": [[0, 0.1, 0.1, 0.1], [50, 0.8, 0.7, 0.9], [100, 0.9, 0.89, 0.91]],
        "rewind": [[0, 0.1, 0.1, 0.1], [50, 0.7, 0.7, 0.7], [100, 0.91, 0.9, 0.92]],
    },
    "passes_dense_at": {"rewind": 100, "random": None},
}
LOTTERY: dict[str, Any] = {"ticket": {"kind": "weights"}, "lottery": [CELL]}


def test_a_scan_is_a_table_shaded_by_what_is_lost() -> None:
    part = next(part for part in pruned(WEIGHTS, 0) if part.title == "Which layers suffer")
    assert part.numbers is not None
    assert part.numbers.columns == ["0%", "50%", "90%", "taken"]
    name, cells = part.numbers.rows[0]
    assert name == "conv1.weight"
    assert cells == [("0.1", 0), ("0.3", round(SHADES * 0.05**0.5)), ("4.1", SHADES), ("50.0%", 0)]


def test_rounds_and_at_once_lie_at_the_weights_left() -> None:
    part = next(part for part in pruned(WEIGHTS, 0) if part.charts)
    (chart,) = part.charts
    assert [(label, kind) for label, kind, _, _ in chart.lines] == [
        ("pruned in rounds", "after"),
        ("pruned at once", "second"),
    ]
    assert part.numbers is not None
    assert [(left, [cell for cell, _ in cells]) for left, cells in part.numbers.rows] == [
        ("10 %", ["97.0 %", "97.0 %"]),
        ("1 %", ["95.0 %", "81.0 %"]),
    ]
    rounds, at_once = (points.split() for _, _, points, _ in chart.lines)
    assert rounds[0] == at_once[0]
    assert float(rounds[1].split(",")[1]) < float(at_once[1].split(",")[1])  # higher up in the drawing


def test_a_cell_of_the_lottery_has_its_curves_spread_and_crossing() -> None:
    (part,) = pruned(LOTTERY, 3)
    assert part.title == "Weights, small learning rate"
    assert [chart.title for chart in part.charts] == [
        "Accuracy by weights left",
        "What signs alone are worth",
        "Step of the least validation loss",
        "At the smallest size, step by step",
    ]
    scores, signs, _, steps = part.charts
    assert [label for label, *_ in scores.lines] == ["the whole network", "ticket", "drawn anew"]
    assert [label for label, *_ in signs.lines] == ["the whole network", "ticket", "signs alone"]
    assert len(scores.joins) == 6  # a whisker at each end of each line: they all begin at the whole network
    assert [mark.label for mark in steps.marks] == ["ticket"]
    assert steps.marks[0].x == pytest.approx(steps.x.place(100))
    assert part.numbers is not None
    assert part.numbers.rows[1] == (
        "10 %",
        [
            ("–", 0),
            ("91.0 % (90.0 % to 92.0 %)", 0),
            ("80.0 % (79.0 % to 81.0 %)", 0),
            ("90.0 % (89.0 % to 91.0 %)", 0),
        ],
    )


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"lottery": 3, "sensitivity": [], "at_once": {}},
        {"lottery": [{"rounds": [{"weights_left": 1.0}]}]},
        {"sensitivity": [{"weight": "a", "curve": [[0.0, 1.0]]}, {"weight": "b", "curve": "steep"}]},
        {"at_once": [{"sparsity": 1.0, "accuracy": 1.0}], "rounds": [{"sparsity": 1.0}]},
        {"at_once": [{"sparsity": 0.5, "accuracy": "high"}], "rounds": [{"sparsity": 0.5}]},
    ],
)
def test_what_another_version_tells_otherwise_is_not_drawn(facts: dict[str, Any]) -> None:
    assert pruned(facts, 0) == []


def test_a_cell_without_figures_has_no_charts() -> None:
    bare = {
        "rounds": [{"weights_left": None}, {"arms": {"rewind": {"score": "good"}}}],
        "over_iterations": {"dense": 3},
    }
    (part,) = pruned({"lottery": [bare]}, 0)
    assert list(part.charts) == []


def test_the_report_draws_it(api: Running, site: Page, browser: Browser) -> None:
    given = report()
    given["steps"][0] |= {"method": "prune.weights", "facts": WEIGHTS | LOTTERY}
    job = succeeded(api, given)
    site.goto(f"/jobs/{job}")
    site.locator("#did-0 > summary").click()
    expect(site.get_by_role("img", name="Little by little, or at once")).to_be_visible()
    expect(site.get_by_role("img", name="Accuracy by weights left")).to_be_visible()
    table = site.get_by_role("group", name="Which layers suffer, numbers")
    expect(table.get_by_role("row", name="fc.weight 0.1 0.1 1.1 95.0%")).to_be_visible()
    expect(site.get_by_text("the hypothesis held at 10 % of the weights")).to_be_visible()
    site.evaluate("document.querySelectorAll('details').forEach((item) => { item.open = true; })")
    accessible(site)
    picture(site, "report-pruned")
    with opened(browser, str(api.http.base_url), dark=True) as dark:
        dark.goto(f"/jobs/{job}")
        dark.evaluate("document.querySelectorAll('details').forEach((item) => { item.open = true; })")
        accessible(dark)
        picture(dark, "report-pruned-dark")


def test_layers_that_share_a_width_are_a_row() -> None:
    layers = [f"blocks.{place}.conv2" for place in range(6)]
    curve = [[0.0, 0.2], [0.25, 0.3], [0.5, 0.9]]
    facts = {"sensitivity": [{"layers": layers, "units": 16, "curve": curve, "removed": 0.25}]}
    (part,) = pruned(facts, 0)
    assert part.numbers is not None
    assert part.numbers.first == "Layers"
    ((name, cells),) = part.numbers.rows
    assert name == "blocks.0.conv2, blocks.1.conv2, blocks.2.conv2, blocks.3.conv2 …"
    assert [shown for shown, _ in cells] == ["0.2", "0.3", "0.9", "25.0%"]
    assert [shade for _, shade in cells][:3] == sorted(shade for _, shade in cells[:3])
