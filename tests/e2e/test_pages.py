"""The whole way in a browser, on a service with workers: upload, look, compose, watch, read, download, and what goes
wrong on it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from playwright.sync_api import Page, expect

from store.settings import Settings
from tests.browser import accessible, chromium, opened, picture
from tests.e2e.conftest import Files, api, process

LONG = 240_000  # ms: as long as a job may take on a busy machine


@pytest.fixture(params=["embedded", "production"])
def page(request: pytest.FixtureRequest) -> Iterator[Page]:
    settings: Settings = request.getfixturevalue(f"{request.param}_settings")
    with ExitStack() as stack:
        for queue in ("cpu", "inspect"):
            stack.enter_context(process(settings, "worker", "run", "--queues", queue))
        client = stack.enter_context(api(settings))
        browser = stack.enter_context(chromium())
        page = stack.enter_context(opened(browser, str(client.base_url)))
        page.set_default_timeout(60_000)
        expect.set_options(timeout=30_000)
        yield page


def send(page: Page, form: str, path: Path) -> None:
    """Uploads one file, and waits at its own page until it has been inspected."""
    page.goto("/upload")
    part = page.locator(f"form[action='/upload/{form}']")
    part.locator("input[type=file]").set_input_files(path)
    part.get_by_role("button", name=re.compile("^Upload")).click()
    page.wait_for_url(re.compile(rf"/{form}s/[a-z]{{3}}_"), timeout=60_000)
    expect(page.locator(".state").first).to_have_text(re.compile("ready|rejected"), timeout=LONG)


def test_from_the_upload_to_a_file_that_runs(page: Page, files: Files, tmp_path: Path) -> None:
    pickle = tmp_path / "model.pth"
    pickle.write_bytes(b"\x80\x02}q\x00.")
    send(page, "model", pickle)
    expect(page.locator(".state").first).to_have_text("rejected")
    expect(page.get_by_text("torch.export.save").first).to_be_visible()
    accessible(page)
    picture(page, "model-refused")

    send(page, "dataset", files.data)
    expect(page.locator(".state").first).to_have_text("ready")
    send(page, "model", files.model)
    expect(page.get_by_text("prune.structured").first).to_be_visible()
    accessible(page)
    picture(page, "model-real")

    page.goto("/jobs/new?model=" + page.url.rpartition("/")[2])
    page.get_by_label("Dataset", exact=True).select_option(index=1)
    page.get_by_role("button", name="Both").click()
    macs = page.get_by_label(re.compile("^MACs ratio", re.IGNORECASE)).first
    macs.fill("3")
    page.get_by_role("button", name="Queue the job").click()
    expect(macs).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_role("alert")).to_be_visible()
    accessible(page)
    picture(page, "compose-wrong")
    macs.fill("0.5")
    page.get_by_role("button", name="Queue the job").click()
    page.wait_for_url(re.compile("/jobs/job_"))

    expect(page.locator(".state").first).to_have_text("succeeded", timeout=LONG)
    expect(page.get_by_role("heading", name="What came of it")).to_be_visible(timeout=30_000)
    accessible(page)
    picture(page, "report-real")
    with page.expect_download() as download:
        page.get_by_role("link", name="model.onnx").first.click()
    got = tmp_path / "model.onnx"
    download.value.save_as(got)
    assert hashlib.sha256(got.read_bytes()).hexdigest() in page.content()
    session = onnxruntime.InferenceSession(got)
    logits = session.run(None, {"image": files.test_images.astype(np.float32)})[0]
    assert float((np.asarray(logits).argmax(1) == files.test_labels).mean()) > 0.5

    page.get_by_role("link", name=re.compile("Compose again")).click()
    rounds = page.get_by_label(re.compile("^Epochs", re.IGNORECASE)).last
    rounds.fill("500")
    page.get_by_role("button", name="Queue the job").click()
    page.wait_for_url(re.compile("/jobs/job_"))
    page.get_by_text(re.compile("^Cancel")).first.click()
    page.get_by_role("button", name=re.compile("Cancel|Stop")).last.click()
    expect(page.locator(".state").first).to_have_text("canceled", timeout=LONG)
    accessible(page)
