"""The API's page."""

from __future__ import annotations

from playwright.sync_api import Browser, Page, expect

from tests.api.running import Running
from tests.browser import accessible, opened, picture

OPEN = "document.querySelectorAll('.operation').forEach(each => { each.open = true })"


def test_the_api_is_read_like_any_page(site: Page) -> None:
    site.goto("/docs")
    expect(site.get_by_role("link", name="API", exact=True)).to_have_attribute("aria-current", "page")
    expect(site.get_by_role("link", name="openapi.json")).to_have_attribute("href", "/openapi.json")
    picture(site, "docs")
    site.get_by_text("POST /v1/jobs Submit a job").click()
    shown = site.locator("#submit_job")
    expect(shown).to_contain_text("dry_run")
    expect(shown).to_contain_text('"macs_ratio": 0.33')
    shown.get_by_role("link", name="JobSpec").click()
    expect(site.locator("#JobSpec")).to_be_visible()


def test_the_whole_api_is_accessible_on_a_phone_and_in_the_dark(api: Running, browser: Browser) -> None:
    with opened(browser, str(api.http.base_url), dark=True) as page:
        page.goto("/docs")
        page.evaluate(OPEN)
        accessible(page)
        picture(page, "docs-open")
