"""A real Chromium for the tests of the pages: what it finds wrong by itself, and axe's rules."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

SCREENS = Path("out/screens")
PHONE, DESK = {"width": 360, "height": 740}, {"width": 1280, "height": 900}
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


@contextmanager
def chromium() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.fail("the tests of the pages need Chromium: sudo apt-get install chromium fonts-dejavu-core")
    expect.set_options(timeout=45_000)  # the machine may be busy
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=OPTIONS)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, address: str, *, scripts: bool = True, dark: bool = False) -> Iterator[Page]:
    """A tab with paths relative to the service's address. An error in a script, or a file refused by the page's own
    policy, fails the test. (That a form was answered with 4xx is no error of the page.)"""
    context = browser.new_context(
        base_url=address, java_script_enabled=scripts, viewport=DESK, color_scheme="dark" if dark else "light"
    )
    page = context.new_page()
    page.set_default_timeout(45_000)
    wrong: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:
            wrong.append(message.text)

    page.on("console", heard)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    yield page
    context.close()
    assert wrong == []


def accessible(page: Page) -> None:
    """axe finds nothing, and nothing sticks out sideways, at a desk's width and a phone's."""
    for size in (PHONE, DESK):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        results = Axe().run(page, options={"resultTypes": ["violations"]})
        assert results.violations_count == 0, results.generate_report()
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"the page is {wide} px too wide at {size['width']} px"


def picture(page: Page, name: str) -> None:
    """Kept out of the repository, to be looked at: `out/screens/NAME-{phone,desk}.png`."""
    SCREENS.mkdir(parents=True, exist_ok=True)
    for kind, size in (("phone", PHONE), ("desk", DESK)):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        page.screenshot(path=SCREENS / f"{name}-{kind}.png", full_page=True)
