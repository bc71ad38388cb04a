"""The start page, pages of errors, static files, and what every page has in common."""

from __future__ import annotations

import re

from playwright.sync_api import Page

from tests.api.running import Running
from tests.browser import accessible, picture


def test_nothing_yet_says_what_to_do_next(site: Page) -> None:
    site.goto("/")
    assert site.get_by_role("heading", name="No job yet").is_visible()
    assert site.get_by_text("No worker is running").is_visible()
    accessible(site)
    picture(site, "home-empty")
    site.get_by_role("link", name="Upload a model").click()
    assert site.url.endswith("/upload")


def test_the_latest_jobs_are_one_click_away(api: Running, site: Page) -> None:
    job = api.submit(name="a third of the MACs", tags=["first"])["id"]
    site.goto("/")
    site.get_by_role("link", name="a third of the MACs").click()
    assert site.url.endswith(f"/jobs/{job}")


def test_the_keyboard_comes_to_the_content_first(site: Page) -> None:
    site.goto("/")
    site.keyboard.press("Tab")
    site.keyboard.press("Enter")
    assert site.evaluate("document.activeElement.id") == "content"


def test_an_address_that_is_not_there_is_a_page_for_people_and_a_problem_for_programs(api: Running, site: Page) -> None:
    answer = site.goto("/nothing")
    assert answer is not None
    assert answer.status == 404
    assert site.get_by_role("heading", level=1).inner_text() == "There is nothing here"
    accessible(site)
    assert api.http.get("/nothing").json()["type"] == "/problems/not-found"
    assert api.http.get("/v1/nothing", headers={"Accept": "text/html"}).json()["status"] == 404


def test_pages_allow_nothing_from_elsewhere_and_nothing_inline(api: Running) -> None:
    answer = api.http.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    for address in re.findall(r'(?:href|src)="(/static/[^"]+)"', answer.text):
        found = api.http.get(address)
        assert found.status_code == 200
        assert "immutable" in found.headers["cache-control"]
        assert api.http.get(address, headers={"If-None-Match": found.headers["etag"]}).status_code == 304
    assert api.http.get("/static/..%2Fsite.py").status_code == 404
    assert api.http.get("/static/base.py").status_code == 404


def test_what_another_site_sends_is_refused(api: Running) -> None:
    job = api.submit()["id"]
    cancel = f"/v1/jobs/{job}/cancel"
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
        answer = api.http.post(cancel, headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (403, "/problems/from-another-site")
    assert api.http.get(f"/v1/jobs/{job}").json()["state"] == "queued"
    own = f"http://127.0.0.1:{api.port}"
    for headers in ({"Sec-Fetch-Site": "same-origin", "Origin": "http://proxied.example"}, {"Origin": own}):
        assert api.http.post(cancel, headers=headers).status_code == 202
