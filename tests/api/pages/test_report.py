"""The report on a job's page: what got worse first, figures, charts, downloads."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from tests.api.pages.reports import FILES, classification, layer, report, share, succeeded
from tests.api.running import Running
from tests.browser import accessible, opened, picture


def test_the_report_is_read_from_top_to_bottom(api: Running, site: Page, browser: Browser) -> None:
    job = succeeded(api, name="a fifth of the MACs", tags=["demo"])
    site.goto(f"/jobs/{job}")
    worse = site.locator("#worse")
    expect(worse.get_by_role("listitem")).to_have_text(["accuracy lost: -3.00 points (95 % -5.00 to -1.00)"])
    headings = site.get_by_role("heading", level=2).all_inner_texts()
    assert headings[:4] == ["What got worse", "What came of it", "Before and after", "Downloads"]
    expect(site.locator(".headline")).to_have_text(report()["headline"])
    expect(site.locator(".tile.worse")).to_contain_text("-3.00 points")
    expect(site.locator(".tile.better")).to_have_count(2)
    row = site.get_by_role("row", name=re.compile("^Latency at batch 1 "))
    expect(row).to_contain_text("60.0 µs")
    expect(row).to_contain_text("4.00× as fast (95 % 3.88–4.12)")
    expect(site.get_by_role("row", name=re.compile("^Accuracy"))).to_contain_text("18 lost, 3 won")
    site.get_by_text("Verdict by verdict").click()
    expect(site.locator(".claims .state")).to_have_text(["worse", "no change", "better", "better"])
    for name in ("Accuracy and size", "Accuracy and speed", "Channels or neurons by layer", "Time by operation"):
        expect(site.get_by_role("img", name=re.compile(name))).to_be_visible()
    site.evaluate("document.querySelectorAll('details').forEach((item) => { item.open = true; })")
    expect(site.get_by_text("it is an output of the network")).to_be_visible()
    expect(site.get_by_role("row", name="features.0 20 6").first).to_be_visible()
    expect(site.get_by_text("AMD EPYC")).to_be_visible()
    accessible(site)
    picture(site, "report")
    with opened(browser, str(api.http.base_url), dark=True) as dark:
        dark.goto(f"/jobs/{job}")
        accessible(dark)
        picture(dark, "report-dark")


def test_what_came_out_is_downloaded_and_checked(api: Running, site: Page, tmp_path: Path) -> None:
    job = succeeded(api)
    site.goto(f"/jobs/{job}")
    for name, content in FILES.items():
        with site.expect_download() as waiting:
            site.get_by_role("link", name=name, exact=True).click()
        assert waiting.value.suggested_filename == name
        waiting.value.save_as(tmp_path / name)
        expect(site.get_by_text(hashlib.sha256(content).hexdigest(), exact=True)).to_be_visible()
    lines = site.locator("#sums-lines").text_content()
    assert lines is not None
    checked = subprocess.run(["sha256sum", "-c"], input=lines, text=True, cwd=tmp_path, capture_output=True, check=True)
    assert checked.stdout.count(": OK") == len(FILES)
    with site.expect_download() as waiting:
        site.get_by_role("link", name="All as one zip").click()
    assert waiting.value.suggested_filename == f"{job}.zip"
    expect(site.get_by_role("link", name="Use as the next job's model")).to_have_count(2)
    site.get_by_role("link", name="Use as the next job's model (model.pt2)").click()
    assert re.search(r"/jobs/new\?model=art_[0-9A-Z]{26}$", site.url)


def test_code_and_hashes_are_copied(api: Running, browser: Browser) -> None:
    job = succeeded(api)
    with opened(browser, str(api.http.base_url)) as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.goto(f"/jobs/{job}")
        page.get_by_role("button", name="Copy the code for .onnx").click()
        expect(page.locator("#said")).to_have_text("Copied")
        assert page.evaluate("navigator.clipboard.readText()") == report()["usage"]["onnx"]
        page.get_by_role("button", name="Copy SHA-256 of model.onnx").click()
        assert page.evaluate("navigator.clipboard.readText()") == hashlib.sha256(b"onnx").hexdigest()


def test_a_report_that_says_hardly_anything_is_a_page(api: Running, plain: Page) -> None:
    job = succeeded(api, {"headline": "2× smaller"})
    plain.goto(f"/jobs/{job}")
    expect(plain.get_by_text("2× smaller")).to_be_visible()
    expect(plain.get_by_role("heading", name="Downloads")).to_be_visible()
    expect(plain.get_by_role("heading", name="Before and after")).to_have_count(0)
    expect(plain.get_by_role("button", name="Copy")).to_have_count(0)


def test_a_deep_network_and_many_classes_stay_in_their_boxes(api: Running, site: Page) -> None:
    layers = [
        layer(f"blocks.{place}.a_rather_long_name.conv", "Conv2d", [64 + place, 32], 10**6) for place in range(120)
    ]
    given = report(layers=[{"name": one["name"], "before": one, "after": one} for one in layers])
    quality = classification()
    quality["original"]["per_class"] = {f"class {place}": share(400 + place) for place in range(40)}
    given["delivered"]["quality"] = quality
    given["data"]["warnings"] = [{"kind": "few-samples", "message": "the test split has 50 samples", "where": "test"}]
    job = succeeded(api, given)
    site.goto(f"/jobs/{job}")
    expect(site.get_by_text("the test split has 50 samples")).to_be_visible()
    box = site.get_by_role("group", name="Channels or neurons by layer, chart").bounding_box()
    assert box is not None
    assert box["height"] < 500
    site.get_by_text("Per class", exact=True).click()
    expect(site.get_by_role("cell", name="class 39")).to_be_visible()
    accessible(site)
    picture(site, "report-deep")
