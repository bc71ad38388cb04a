"""Lists of models, data sets and jobs; what a deletion takes along."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from api.pages.lists import ROWS
from store import jobs
from tests.api.running import Running
from tests.browser import accessible, opened, picture


def heading(page: Page) -> str:
    return page.get_by_role("heading", level=1).inner_text()


def named(page: Page) -> list[str]:
    """The rows' names, in order."""
    return page.locator("tbody th[scope=row] > a:first-child").all_inner_texts()


@pytest.mark.parametrize(
    ("address", "title", "action", "to"),
    [
        ("/models", "No model yet", "Upload a model", "/upload#model"),
        ("/datasets", "No data yet", "Upload data", "/upload#dataset"),
        ("/jobs", "No job yet", "Compose a job", "/jobs/new"),
    ],
)
def test_an_empty_list_says_what_to_do_next(plain: Page, address: str, title: str, action: str, to: str) -> None:
    plain.goto(address)
    expect(plain.get_by_role("heading", name=title)).to_be_visible()
    expect(plain.locator(".empty").get_by_role("link", name=action)).to_have_attribute("href", to)


def test_lists_are_searched_and_paged(api_everywhere: Running, browser: Browser) -> None:
    api = api_everywhere
    for number in range(ROWS + 2):
        api.upload(name=f"net {number:02}", tag=["even" if number % 2 == 0 else "odd", "v1.0:a" if number else "first"])
    ready = api.model()
    job = api.submit(ready, name="half", tags=["fast"])["id"]
    data = api.dataset({})
    with opened(browser, str(api.http.base_url), scripts=False) as page:
        page.goto("/models")
        assert named(page)[:2] == ["model", f"net {ROWS + 1:02}"]
        page.get_by_role("link", name="Older").click()
        assert named(page) == ["net 02", "net 01", "net 00"]
        page.get_by_role("link", name="Newest").click()
        page.get_by_label("Name").fill("NET 1")
        page.get_by_label("Tag").fill("odd")
        page.get_by_role("button", name="Search").click()
        assert named(page) == [f"net {number}" for number in (19, 17, 15, 13, 11)]
        expect(page.get_by_label("Tag")).to_have_value("odd")
        page.get_by_role("link", name="Clear").click()
        page.get_by_role("link", name="v1.0:a").first.click()
        assert "first" not in page.locator("tbody").inner_text()
        assert len(named(page)) == ROWS
        page.get_by_role("link", name="Older").click()
        assert named(page) == ["net 01"]
        page.goto("/models")
        page.get_by_label("State").select_option("ready")
        page.get_by_role("button", name="Search").click()
        assert named(page) == ["model"]
        page.get_by_label("State").select_option("rejected")
        page.get_by_role("button", name="Search").click()
        expect(page.get_by_role("heading", name="Nothing found")).to_be_visible()
        page.goto("/datasets")
        expect(page.locator("tbody th a")).to_have_attribute("href", f"/datasets/{data}")
        page.goto("/jobs?tag=fast")
        row = page.locator("tbody tr")
        expect(row.get_by_role("link", name="half", exact=True)).to_have_attribute("href", f"/jobs/{job}")
        assert "prune.structured" in row.inner_text()
        expect(row.get_by_role("link", name="model", exact=True)).to_have_attribute("href", f"/models/{ready}")
        page.goto(f"/jobs?model={api.upload()['id']}")
        expect(page.get_by_role("heading", name="Nothing found")).to_be_visible()
        page.goto("/jobs?state=sleeping")
        assert heading(page) == "A parameter or field is wrong"


def test_jobs_show_how_they_ended_and_what_became_of_their_model(api: Running, site: Page) -> None:
    model = api.model()
    done, canceled = api.submit(model, name="done"), api.submit(model, name="canceled")
    api.succeed(done["id"], {"model.pt2": b"x"})
    jobs.request_cancel(api.database, canceled["id"])
    api.http.delete(f"/v1/models/{model}")
    api.submit(name="waits")
    site.goto("/jobs")
    rows = site.locator("tbody tr")
    assert named(site) == ["waits", "canceled", "done"]
    expect(rows.nth(0).get_by_role("link", name="Watch")).to_be_visible()
    expect(rows.nth(0).get_by_role("link", name="Delete")).to_have_count(0)
    expect(rows.nth(1).locator(".state")).to_have_text("canceled")
    expect(rows.nth(2).locator(".state")).to_have_text("succeeded")
    expect(rows.nth(2).locator("[data-label=Model]")).to_have_text("deleted")
    expect(rows.nth(2).locator("[data-label=Took]")).to_have_text(re.compile(r"\d.* (s|ms|µs)$"))


def test_two_to_four_jobs_that_succeeded_are_compared(api: Running, site: Page) -> None:
    model = api.model()
    ids = [api.submit(model, name=f"job {number}", tags=["night"])["id"] for number in range(6)]
    site.goto("/jobs")
    expect(site.get_by_role("button", name="Compare the chosen jobs")).to_have_count(0)
    for id_ in ids[:5]:
        api.succeed(id_, {"model.pt2": b"x"})
    site.goto("/jobs")
    button = site.get_by_role("button", name="Compare the chosen jobs")
    boxes = site.get_by_role("checkbox")
    expect(boxes).to_have_count(5)
    expect(button).to_be_disabled()
    for box in boxes.all()[:4]:
        box.check()
    expect(boxes.nth(4)).to_be_disabled()
    accessible(site)
    picture(site, "jobs")
    boxes.nth(1).uncheck()
    expect(boxes.nth(4)).to_be_enabled()
    button.click()
    assert "?" + "&".join(f"job={ids[number]}" for number in (4, 2, 1)) in site.url


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_deleting_an_upload_asks_once_and_tells_what_goes(api: Running, plain: Page, kind: str) -> None:
    shared = api.upload(kind, b"the same bytes", name="first")
    again = api.upload(kind, b"the same bytes", name="again")
    plain.goto(f"/{kind}s")
    plain.get_by_role("link", name="Delete again").click()
    assert "Delete the" in heading(plain)
    card = plain.locator(".card")
    expect(card.get_by_role("link", name="first")).to_have_attribute("href", f"/{kind}s/{shared['id']}")
    expect(card).to_contain_text("No job was made from it")
    plain.get_by_role("link", name="Keep it").click()
    assert plain.url.endswith(f"/{kind}s/{again['id']}")
    plain.get_by_role("link", name="Delete").click()
    plain.get_by_role("button", name="Delete").click()
    expect(plain.get_by_role("status")).to_have_text("again was deleted.")
    assert named(plain) == ["first"]
    plain.goto(f"/{kind}s/{shared['id']}/delete")
    expect(plain.locator(".card")).to_contain_text("14 bytes")
    plain.get_by_role("button", name="Delete").click()
    assert api.objects.list("blobs") == {}
    answer = plain.goto(f"/{kind}s/{shared['id']}/delete")
    assert answer is not None
    assert answer.status == 404


def test_a_model_that_a_job_needs_is_not_deleted(api: Running, site: Page) -> None:
    model = api.model()
    waiting, done = api.submit(model, name="waits")["id"], api.submit(model, name="done")["id"]
    site.goto(f"/models/{model}/delete")
    note = site.get_by_role("alert")
    expect(note.get_by_role("link", name="waits")).to_have_attribute("href", f"/jobs/{waiting}")
    expect(site.get_by_role("button", name="Delete")).to_have_count(0)
    accessible(site)
    refused = api.http.post(f"/models/{model}/delete")
    assert refused.status_code == 409
    assert "It can't be deleted now" in refused.text
    for id_ in (waiting, done):
        jobs.request_cancel(api.database, id_)
    site.reload()
    expect(site.locator(".card").get_by_role("link", name="done")).to_have_attribute("href", f"/jobs/{done}")
    accessible(site)
    picture(site, "delete-model")
    site.get_by_role("button", name="Delete the model").click()
    assert site.url.endswith("/models?deleted=model")
    assert api.http.get(f"/v1/jobs/{done}").json()["state"] == "canceled"


def test_a_model_that_a_step_names_is_not_deleted(api: Running, plain: Page) -> None:
    data, teacher = api.dataset({"x": {"shape": [600, 1, 28, 28], "dtype": "float32"}}), api.model()
    distill = {"method": "distill", "teachers": [{"model": teacher}]}
    job = api.submit(name="learns", dataset=data, steps=[distill])["id"]
    plain.goto(f"/models/{teacher}/delete")
    expect(plain.get_by_role("alert").get_by_role("link", name="learns")).to_have_attribute("href", f"/jobs/{job}")
    assert api.http.post(f"/models/{teacher}/delete").status_code == 409


def test_deleting_a_job_tells_its_files_and_who_uses_them(api: Running, site: Page) -> None:
    job = api.submit(name="first")["id"]
    site.goto(f"/jobs/{job}/delete")
    expect(site.get_by_role("alert")).to_contain_text("it is queued")
    made = api.succeed(job, {"model.pt2": b"x" * 2000, "report.md": b"# Smaller"})
    log = api.settings.data_dir / "log"
    log.write_bytes(b"l" * 3000)
    api.objects.put_file(f"jobs/{job}/log", log)
    api.objects.put_file(f"jobs/{job}/checkpoints/step-0/weights", log)
    user = api.submit(made["model.pt2"]["id"], name="second")
    site.goto(f"/jobs/{job}/delete")
    expect(site.get_by_role("alert").get_by_role("link", name="second")).to_be_visible()
    assert api.http.post(f"/jobs/{job}/delete").status_code == 409
    jobs.request_cancel(api.database, user["id"])
    site.reload()
    text = site.locator(".card").inner_text()
    for said in ("model.pt2, 2.00 kB", "report.md, 9 bytes", "Its log: 3.00 kB", "Its checkpoints: 3.00 kB", "second"):
        assert said in text
    accessible(site)
    picture(site, "delete-job")
    site.get_by_role("button", name="Delete the job").click()
    expect(site.get_by_role("status")).to_have_text("first was deleted.")
    assert named(site) == ["second"]
    assert api.objects.list(f"jobs/{job}") == {}


def test_lists_fit_a_phone_and_the_dark(api: Running, browser: Browser, site: Page) -> None:
    long = "a-very-long-name-without-any-space-in-it-" * 4
    api.upload(name=long, filename="n.pt2", tag=["vision", "t" * 50])
    refused = api.upload(name="refused")["id"]
    api.inspect(refused, problem={"kind": "model-unsafe", "message": "it holds a pickle " * 20, "where": "data.pkl"})
    job = api.submit(name=long)["id"]
    api.succeed(job, {"m": b""})
    for address in ("/models", "/datasets", "/jobs"):
        site.goto(address)
        accessible(site)
        picture(site, f"list{address.replace('/', '-')}")
        with opened(browser, str(api.http.base_url), dark=True) as dark:
            dark.goto(address)
            accessible(dark)
    site.goto("/models?deleted=<b>x</b>")
    expect(site.get_by_role("status")).to_have_text("<b>x</b> was deleted.")
