"""`site`: a tab on the running service, with scripts; `plain`: one without."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.api.running import Running
from tests.browser import chromium, opened


@pytest.fixture(scope="module")  # while it is open its event loop runs, and other tests run loops of their own
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def site(api: Running, browser: Browser) -> Iterator[Page]:
    with opened(browser, str(api.http.base_url)) as page:
        yield page


@pytest.fixture
def plain(api: Running, browser: Browser) -> Iterator[Page]:
    with opened(browser, str(api.http.base_url), scripts=False) as page:
        yield page
