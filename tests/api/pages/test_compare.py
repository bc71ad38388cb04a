"""Jobs side by side, and how they are chosen."""

from __future__ import annotations

import re

from playwright.sync_api import Browser, Page, expect

from tests.api.pages.reports import report, succeeded
from tests.api.running import STEPS, Running
from tests.browser import accessible, opened, picture


def test_jobs_are_chosen_and_put_side_by_side(api: Running, site: Page, browser: Browser) -> None:
    model = api.model()
    small = succeeded(api, report(after=430, size=200_000, width=3), name="small", model=model)
    good = succeeded(
        api, report(after=484, seconds=2e-5), name="good", model=model, steps=[{**STEPS[0], "macs_ratio": 0.7}]
    )
    api.submit(model, name="still waiting")
    site.goto("/compare")
    expect(site.get_by_text("still waiting")).to_have_count(0)
    accessible(site)
    picture(site, "compare-choice")
    site.get_by_label("small").check()
    site.get_by_label("good").check()
    site.get_by_role("button", name="Compare").click()
    assert site.url.endswith(f"/compare?job={good}&job={small}")
    expect(site.get_by_role("heading", level=1)).to_have_text("2 jobs side by side")

    def cells(label: str) -> list[str]:
        return site.get_by_role("row", name=re.compile(f"^{re.escape(label)} ")).get_by_role("cell").all_inner_texts()

    quality, size, speed = cells("Accuracy"), cells(".onnx file"), cells("Latency at batch 1")
    assert "best" in quality[0]
    assert "best" not in quality[1]
    assert ["best" in text for text in size] == [False, True]
    assert ["best" in text for text in speed] == [False, True]
    assert not any("best" in text for text in cells("By guessing the commonest"))
    expect(site.get_by_role("row", name="steps 1.macs_ratio 0.7 0.5")).to_be_visible()
    expect(site.get_by_role("img", name=re.compile("Accuracy and size"))).to_be_visible()
    expect(site.get_by_text("Not all figures compare")).to_have_count(0)
    accessible(site)
    picture(site, "compare")
    with opened(browser, str(api.http.base_url), dark=True) as dark:
        dark.goto(f"/compare?job={good}&job={small}")
        accessible(dark)


def test_what_may_be_chance_is_not_called_the_best(api: Running, plain: Page) -> None:
    model = api.model()
    jobs = [succeeded(api, report(after=count), name=str(count), model=model) for count in (470, 474)]
    plain.goto(f"/compare?job={jobs[0]}&job={jobs[1]}")
    row = plain.get_by_role("row", name=re.compile("^Accuracy "))
    expect(row).to_contain_text("ahead, may be chance")
    expect(plain.get_by_text("Nothing: the specs are the same.")).to_be_visible()


def test_jobs_on_different_models_and_reports_with_gaps_are_compared_with_care(api: Running, plain: Page) -> None:
    other = report(inputs={"model": "cd34"})
    jobs = [succeeded(api), succeeded(api, other), succeeded(api, {"headline": "2× smaller"})]
    plain.goto("/compare?" + "&".join(f"job={job}" for job in jobs))
    expect(plain.get_by_text("The jobs began with different models.")).to_be_visible()
    again = [succeeded(api), succeeded(api)]  # the same file, uploaded twice
    plain.goto("/compare?" + "&".join(f"job={job}" for job in again))
    expect(plain.get_by_text("Not all figures compare")).to_have_count(0)
    plain.go_back()
    expect(plain.get_by_role("row", name=re.compile("^MACs ")).get_by_role("cell").last).to_have_text("–")


def test_jobs_that_cannot_be_compared_are_named(api: Running, site: Page) -> None:
    model = api.model()
    done, waiting = succeeded(api, model=model, name="done"), api.submit(model, name="waits")["id"]
    for query, status, said in (
        (f"job={done}&job={waiting}", 409, "waits is queued: only a job that succeeded has figures."),
        (f"job={done}&job=job_nothing", 404, "No job has the id job_nothing."),
        ("&".join(f"job={succeeded(api, model=model)}" for _ in range(5)), 422, "Choose at most 4 jobs."),
    ):
        answer = site.goto(f"/compare?{query}")
        assert answer is not None
        assert answer.status == status
        expect(site.get_by_role("alert")).to_contain_text(said)
    accessible(site)
    site.goto(f"/compare?job={done}")
    expect(site.get_by_label("done")).to_be_checked()


def test_with_nothing_to_compare_there_is_something_to_do(site: Page) -> None:
    site.goto("/compare")
    expect(site.get_by_role("heading", name="No job has succeeded yet")).to_be_visible()
    accessible(site)
