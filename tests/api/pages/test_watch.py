"""A job's page while it waits, runs, fails or is canceled: live, and without scripts."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from store import outcomes, roster
from store.outcomes import StepChange
from tests.api.pages.reports import FILES, at_work, metric, report
from tests.api.running import Running
from tests.browser import accessible, opened, picture

ERROR = {
    "kind": "data-invalid",
    "message": "the labels have a class 12, the network has 10 outputs",
    "where": "y_train",
    "log_tail": "one line\n<b>another</b> line",
}


def test_a_queued_job_says_what_is_before_it_and_that_no_worker_is_there(api: Running, site: Page) -> None:
    model = api.model()
    first, other = api.submit(model)["id"], api.submit(model, device="gpu")["id"]
    job = api.submit(model, name="waits", tags=["night"], device="cpu")["id"]
    site.goto(f"/jobs/{job}")
    expect(site.get_by_text("1 job is before it.")).to_be_visible()
    expect(site.get_by_text("No worker for CPU is signed in")).to_be_visible()
    accessible(site)
    picture(site, "job-queued")
    roster.sign_in(api.database, "w", ["cpu"], "cpu", "bubblewrap")
    api.claim(first)
    site.reload()
    expect(site.get_by_text("It is the next one.")).to_be_visible()
    expect(site.get_by_text("is signed in")).to_have_count(0)
    site.goto(f"/jobs/{other}")
    expect(site.get_by_text("No worker for GPU is signed in")).to_be_visible()


def test_the_page_follows_the_job_to_its_report(api: Running, site: Page) -> None:
    job = api.submit(name="to the end")["id"]
    site.goto(f"/jobs/{job}")
    said = site.locator("#said")
    heading = site.get_by_role("heading", level=1)
    expect(heading).to_contain_text("queued")
    lease = at_work(api, job)
    expect(heading).to_contain_text("running")
    expect(said).to_have_text("Step 1 of 1 is running: prune.structured.")
    expect(site.get_by_text("40 %: round-2, epoch 1.0 of 2")).to_be_visible()
    expect(site.get_by_role("img", name=re.compile("^Accuracy on validation data"))).to_be_visible()
    expect(site.locator("#live-course tr.going")).to_contain_text("the steps")
    accessible(site)
    picture(site, "job-running")

    numbers = site.get_by_text("The numbers (4)")
    numbers.click()
    site.locator("#log-title").evaluate("element => element.before = true")
    outcomes.record(api.database, lease, [metric(0, "round-3", 0.0, 0.8, 0.5)])
    expect(site.get_by_text("The numbers (5)")).to_be_visible()
    expect(site.locator("#curve-numbers")).to_have_attribute("open", "")
    assert site.locator("#log-title").evaluate("element => element.before")  # what hasn't changed isn't touched
    site.get_by_label("Metrics on validation data").focus()
    site.evaluate("scrollTo(0, 200)")

    outcomes.record(api.database, lease, steps=[StepChange(0, "finished", 3.2, {})])
    outcomes.record(api.database, lease, [("measuring", {})])
    expect(said).to_have_text("The steps are done; the result is being written and measured.")
    assert site.evaluate("scrollY") == 200
    path = api.settings.data_dir / "file"
    path.write_bytes(b"onnx")
    stored = api.objects.put_file(f"jobs/{job}/1/model.onnx", path)
    made = outcomes.NewArtifact("model.onnx", "application/octet-stream", stored.size, stored.sha256, stored.key)
    outcomes.succeed(api.database, lease, [made], report(), {"steps": 3.2, "publishing": 0.1})
    expect(said).to_have_text("The job has succeeded.")
    expect(site.get_by_role("heading", name="Before and after")).to_be_visible()
    expect(heading).to_contain_text("succeeded")
    expect(site.get_by_role("button", name="Copy SHA-256 of model.onnx")).to_be_visible()
    assert site.evaluate("document.activeElement.id") == "content"


def test_without_a_stream_the_page_looks_now_and_then(api: Running, browser: Browser) -> None:
    job = api.submit()["id"]
    with opened(browser, str(api.http.base_url)) as page:
        page.add_init_script("delete window.EventSource")
        page.goto(f"/jobs/{job}")
        at_work(api, job)
        expect(page.locator("#said")).to_have_text("Step 1 of 1 is running: prune.structured.")
        expect(page.locator(".steps .state")).to_have_text("running")


def test_a_service_that_is_away_and_a_job_that_is_gone_are_told(api: Running, site: Page) -> None:
    job = api.submit()["id"]
    site.goto(f"/jobs/{job}")
    site.route("**/live", lambda route: route.abort())
    lease = at_work(api, job)
    expect(site.locator(".toast")).to_have_text("The service can't be reached; trying again.")
    site.unroute("**/live")
    expect(site.locator(".toast")).to_have_count(0)
    expect(site.locator("#said")).to_have_text("Step 1 of 1 is running: prune.structured.")
    site.route("**/live", lambda route: route.fulfill(status=404))
    outcomes.record(api.database, lease, [("measuring", {})])
    expect(site.locator(".toast")).to_have_text("The job isn't there any more: it was deleted.")


def test_many_rings_are_answered_together(api: Running, site: Page) -> None:
    asked: list[str] = []
    site.on("request", lambda request: asked.append(request.url) if request.url.endswith("/live") else None)
    job = api.submit()["id"]
    site.goto(f"/jobs/{job}")
    lease = at_work(api, job)
    for epoch in range(1, 60):
        outcomes.record(api.database, lease, [metric(0, "round-3", float(epoch), 0.9, 0.1)])
    expect(site.get_by_text("The numbers (63)")).to_be_visible()
    assert len(asked) < 20


def test_everything_is_there_without_scripts(api: Running, plain: Page) -> None:
    job = api.submit(name="plain")["id"]
    at_work(api, job)
    plain.goto(f"/jobs/{job}")
    expect(plain.get_by_text("40 %: round-2, epoch 1.0 of 2")).to_be_visible()
    expect(plain.get_by_role("img", name=re.compile("^Loss on validation data"))).to_be_visible()
    plain.get_by_role("link", name="Reload").click()
    plain.get_by_text("Cancel …").click()
    plain.get_by_role("button", name="Cancel the job").click()
    expect(plain.get_by_text("Being canceled")).to_be_visible()
    expect(plain.get_by_text("Cancel …")).to_have_count(0)


def test_a_queued_job_is_canceled_at_once_and_can_be_retried(api: Running, site: Page) -> None:
    job = api.submit(name="again")["id"]
    site.goto(f"/jobs/{job}")
    site.get_by_text("Cancel …").click()
    accessible(site)
    site.get_by_role("button", name="Cancel the job").click()
    expect(site.get_by_role("heading", name="It was canceled")).to_be_visible()
    accessible(site)
    picture(site, "job-canceled")
    site.get_by_role("button", name="Retry").click()
    expect(site.get_by_role("heading", level=1)).to_contain_text("queued")
    assert not site.url.endswith(job)
    site.get_by_role("link", name="an earlier job").click()
    assert site.url.endswith(job)


def test_a_failed_job_says_why_and_what_to_do(api: Running, site: Page, browser: Browser) -> None:
    job = api.submit(name="<b>bad</b> data")["id"]
    lease = at_work(api, job)
    path = api.settings.data_dir / "log"
    path.write_text("".join(f"line {number}\n" for number in range(100)) + "<script>alert(1)</script>\n")
    api.objects.put_file(f"jobs/{job}/log", path)
    outcomes.fail(api.database, lease, ERROR)
    site.goto(f"/jobs/{job}")
    expect(site.get_by_role("heading", name=f"It failed: {ERROR['message']}")).to_be_visible()
    expect(site.get_by_role("heading", level=1)).to_contain_text("<b>bad</b> data")
    expect(site.get_by_text("y_train", exact=True)).to_be_visible()
    expect(site.get_by_text("Mend the data file")).to_be_visible()
    expect(site.locator(".steps .state")).to_have_text("stopped")
    shown = site.locator("#log-tail").inner_text()
    assert shown.startswith("line 61\n")
    assert shown.endswith("<script>alert(1)</script>")
    accessible(site)
    picture(site, "job-failed")
    with opened(browser, str(api.http.base_url), dark=True) as dark:
        dark.goto(f"/jobs/{job}")
        accessible(dark)
        picture(dark, "job-failed-dark")


def test_without_a_log_the_error_brings_its_end(api: Running, plain: Page) -> None:
    job = api.submit()["id"]
    outcomes.fail(api.database, api.claim(job), ERROR | {"kind": "never heard of"})
    plain.goto(f"/jobs/{job}")
    expect(plain.locator("#log-tail")).to_have_text(ERROR["log_tail"])
    expect(plain.get_by_text("retry the job")).to_be_visible()


def test_what_is_deleted_or_unknown_is_told(api: Running, site: Page) -> None:
    model = api.model()
    job = api.submit(model)["id"]
    api.http.post(f"/v1/jobs/{job}/cancel")
    assert api.http.delete(f"/v1/models/{model}").status_code == 204
    site.goto(f"/jobs/{job}")
    expect(site.get_by_text(f"{model} (deleted)")).to_be_visible()
    site.get_by_role("button", name="Retry").click()
    expect(site.get_by_role("heading", level=1)).to_have_text("The job can't be run as it is described")
    answer = site.goto("/jobs/job_00000000000000000000000000")
    assert answer is not None
    assert answer.status == 404


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_a_finished_job_leaves_the_queue(api: Running, plain: Page, device: str) -> None:
    model = api.model()
    done = api.submit(model, device=device)["id"]
    api.succeed(done, FILES, report())
    waiting = api.submit(model, device=device)["id"]
    plain.goto(f"/jobs/{waiting}")
    expect(plain.get_by_text("It is the next one.")).to_be_visible()
