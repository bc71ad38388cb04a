"""What a distillation taught, as a heat map on the report's page."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from api.pages.learned import SHADES, learned
from tests.api.pages.reports import report, succeeded
from tests.api.running import Running
from tests.browser import accessible, opened, picture

NAMES = ["one", "seven", "eight"]
AT_T = [[0.81, 0.16, 0.03], [0.25, 0.7, 0.05], [None, None, None]]
AT_1 = [[0.99, 0.009, 0.001], [0.04, 0.95, 0.01], [None, None, None]]
FACTS: dict[str, Any] = {
    "match": "softmax",
    "learned": {
        "classes": NAMES,
        "temperature": 4.0,
        "teacher_at_1": AT_1,
        "teacher_at_t": AT_T,
        "student_at_1": AT_1,
        "student_at_t": AT_T,
    },
}


def test_rows_are_shaded_by_the_root_and_the_likest_other_class_is_marked() -> None:
    found = learned(FACTS)
    assert found is not None
    assert [rows.title for rows in found.maps] == [
        "Teacher at T = 4",
        "Teacher at T = 1",
        "Student at T = 4",
        "Student at T = 1",
    ]
    name, cells = found.maps[0].rows[0]
    assert name == "one"
    assert [(cell.percent, cell.shade, cell.likest) for cell in cells] == [
        ("81.0", 9, False),
        ("16.0", 4, True),
        ("3.0", round(SHADES * 0.03**0.5), False),
    ]
    assert [cell.percent for cell in found.maps[0].rows[2][1]] == ["–"] * 3  # no sample is of this class


def test_of_many_classes_the_pairs_are_shown() -> None:
    pair = {"class": "cat", "looks_like": "lynx", "teacher_at_1": 0.04, "teacher_at_t": 0.2, "student_at_1": None}
    found = learned({"learned": {"temperature": 1.0, "pairs": [pair]}})
    assert found is not None
    assert (found.columns, found.maps) == (["Teacher at T = 1", "Student at T = 1"], ())
    one, other, cells = found.pairs[0]
    assert (one, other, [cell.percent for cell in cells]) == ("cat", "lynx", ["4.0", "–"])


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"learned": 3},
        {"learned": {"temperature": "hot", "classes": NAMES}},
        {"learned": {"temperature": 4.0, "classes": NAMES, "teacher_at_t": [[0.5, 0.5], [1]]}},
        {"learned": {"temperature": 4.0, "classes": "one", "teacher_at_t": [[1.0]]}},
        {"learned": {"temperature": 4.0, "teacher_at_t": []}},
    ],
)
def test_what_another_version_tells_otherwise_is_not_drawn(facts: dict[str, Any]) -> None:
    assert learned(facts) is None


def test_the_report_draws_it(api: Running, site: Page, browser: Browser) -> None:
    given = report()
    given["steps"][0] |= {"method": "distill", "facts": FACTS}
    job = succeeded(api, given)
    site.goto(f"/jobs/{job}")
    site.locator("#did-0 > summary").click()
    table = site.get_by_role("group", name="Teacher at T = 4: what each class looks like")
    expect(table.get_by_role("row", name="seven 25.0 70.0 5.0")).to_be_visible()
    expect(table.locator("strong")).to_have_text(["16.0", "25.0"])
    expect(table.get_by_role("row", name="one 81.0").locator("td.shade-9")).to_have_text("81.0")
    expect(site.get_by_text("softmax")).to_be_visible()  # the other facts stay a list
    expect(site.get_by_text("teacher at t", exact=True)).to_have_count(0)
    colours = "cell => getComputedStyle(cell).backgroundColor"
    shades = [table.locator(f"td.shade-{shade}").first.evaluate(colours) for shade in (2, 4, 9)]
    assert len(set(shades)) == 3
    site.evaluate("document.querySelectorAll('details').forEach((item) => { item.open = true; })")
    accessible(site)
    picture(site, "report-learned")
    with opened(browser, str(api.http.base_url), dark=True) as dark:
        dark.goto(f"/jobs/{job}")
        dark.evaluate("document.querySelectorAll('details').forEach((item) => { item.open = true; })")
        accessible(dark)
        picture(dark, "report-learned-dark")
