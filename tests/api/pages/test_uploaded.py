"""The pages of a model and of a data set, in each state."""

from __future__ import annotations

import re
import zipfile
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from api.pages.uploads import passages
from compression.errors import IntakeError
from compression.intake.foreign import EXPORT_YOUR_MODEL
from compression.intake.inspect import inspect_file
from store.roster import sign_in
from tests.api.running import Running
from tests.browser import accessible, opened, picture


def test_a_model_that_waits_shows_itself_when_it_is_ready(api: Running, site: Page) -> None:
    id_ = api.upload(name="LeNet-5")["id"]
    site.goto(f"/models/{id_}")
    expect(site.locator(".state").first).to_have_text("inspecting")
    expect(site.get_by_text("No worker is running")).to_be_visible()
    accessible(site)
    sign_in(api.database, "w", ["cpu"], "cpu", "landlock")
    site.reload()
    expect(site.get_by_text("closed-off process")).to_be_visible()
    picture(site, "model-inspecting")
    api.inspect(id_)
    expect(site.locator(".state").first).to_have_text("ready")
    expect(site.get_by_role("heading", name="Layers")).to_be_visible()


def test_without_a_script_one_looks_again(api: Running, plain: Page) -> None:
    id_ = api.upload("dataset", name="digits")["id"]
    plain.goto(f"/datasets/{id_}")
    api.inspect(id_, {"kind": "data", "arrays": {"x": {"shape": [3, 4], "dtype": "uint8", "finite": True}}})
    plain.get_by_role("link", name="Look again").click()
    expect(plain.get_by_role("rowheader", name="x")).to_be_visible()
    expect(plain.get_by_text("3 × 4")).to_be_visible()


def test_a_model_shows_its_layers_to_scale_and_what_can_be_done(api: Running, browser: Browser, site: Page) -> None:
    id_ = api.model()
    jobs = [api.submit(id_, name=f"job {number}")["id"] for number in range(11)]
    site.goto(f"/models/{id_}")
    cost = api.inspection["cost"]
    totals = site.locator(".totals")
    expect(totals.locator(f"[title='{cost['parameters']:,}']")).to_be_visible()
    expect(totals.locator(f"[title='{cost['macs']:,}']")).to_be_visible()
    rows = site.locator("#layers tbody tr")
    assert rows.count() == len(api.inspection["layers"])
    largest = max(layer["macs"] for layer in api.inspection["layers"])
    for row, layer in zip(rows.all(), api.inspection["layers"], strict=True):
        assert layer["name"] in row.inner_text()
        bar, whole = row.locator(".bar.second .part").bounding_box(), row.locator(".bar.second .whole").bounding_box()
        assert bar is not None
        assert whole is not None
        assert bar["width"] / whole["width"] == pytest.approx(layer["macs"] / largest, abs=0.01)
    method = site.locator(".methods li", has_text="prune.structured")
    expect(method.locator(".state")).to_have_text("can run")
    method.get_by_text("left alone").click()
    expect(method.get_by_text("it is an output of the network")).to_be_visible()
    expect(site.get_by_role("link", name="job 10", exact=True)).to_have_attribute("href", f"/jobs/{jobs[10]}")
    expect(site.get_by_role("link", name="job 0", exact=True)).to_have_count(0)
    expect(site.get_by_role("link", name="Compose a job with it")).to_have_attribute("href", f"/jobs/new?model={id_}")
    accessible(site)
    picture(site, "model")
    with opened(browser, str(api.http.base_url), dark=True) as dark:
        dark.goto(f"/models/{id_}")
        accessible(dark)
        picture(dark, "model-dark")
    site.get_by_role("link", name="All jobs made from it").click()
    assert site.locator("tbody tr").count() == 11


def test_many_layers_are_searched(api: Running, site: Page) -> None:
    layer = api.inspection["layers"][0]
    named = [{**layer, "name": f"blocks.{number}.conv", "type": "Conv2d"} for number in range(40)]
    id_ = api.model({**api.inspection, "layers": [*named, {**layer, "name": "head", "type": "Linear"}]})
    site.goto(f"/models/{id_}")
    shown = site.locator("#layers tbody tr:visible")
    expect(shown).to_have_count(41)
    box = site.get_by_label("Search layers")
    box.fill("BLOCKS.1")
    expect(shown).to_have_count(11)
    expect(site.get_by_text("11 of 41 layers")).to_be_visible()
    box.fill("linear")
    expect(shown).to_have_count(1)
    accessible(site)


def test_what_a_method_cannot_do_is_told_with_the_layer(api: Running, plain: Page) -> None:
    refused = {"applicable": False, "reason": "it has no weights to prune", "where": "blocks.3", "details": []}
    known = api.inspection["methods"]
    id_ = api.model({**api.inspection, "methods": dict.fromkeys(list(known)[1:], refused)})
    plain.goto(f"/models/{id_}")
    first, second = (plain.locator(".methods li", has_text=name).first for name in list(known)[:2])
    expect(first.locator(".state")).to_have_text("not looked at")
    expect(second.locator(".state")).to_have_text("can’t run")
    expect(second).to_contain_text("At blocks.3: it has no weights to prune")


def test_a_model_that_only_runs_says_what_stopped_it(api: Running, site: Page) -> None:
    opaque = {
        **api.inspection,
        "form": "opaque",
        "stopped_by": {"operator": "NonZero", "node": "node_7", "why": "its shape hangs on values"},
        "inputs": [{"name": "image", "shape": [3, None, None], "dtype": "float32"}],
        "cost": {**api.inspection["cost"], "macs": None},
        "layers": [],
    }
    id_ = api.model(opaque)
    site.goto(f"/models/{id_}")
    expect(site.locator(".note.warn")).to_contain_text("NonZero (node_7) stands in the way: its shape hangs on values")
    expect(site.get_by_text("N × 3 × any × any")).to_be_visible()
    expect(site.get_by_role("heading", name="Layers")).to_have_count(0)
    accessible(site)
    picture(site, "model-opaque")


def test_a_refused_file_says_why_and_what_to_do(api: Running, site: Page, tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", b"\x80\x02.")
    with pytest.raises(IntakeError) as refusal:
        inspect_file(path)
    assert EXPORT_YOUR_MODEL in refusal.value.message
    id_ = api.upload(name="net.pth")["id"]
    api.inspect(id_, problem=refusal.value.as_dict())
    site.goto(f"/models/{id_}")
    expect(site.get_by_role("heading", name="The model was refused")).to_be_visible()
    expect(site.locator(".refusal pre")).to_contain_text('torch.export.save(program, "model.pt2")')
    expect(site.locator(".refusal dd").first).to_have_text("net.pth")
    accessible(site)
    picture(site, "model-refused")
    site.get_by_role("link", name="Which files are taken").click()
    assert site.url.endswith("/upload#model-formats")


def test_a_message_is_told_as_text_and_code_in_turn() -> None:
    assert passages("One.\nTwo:\n    a = 1\n      b\nThree") == [
        (False, "One.\nTwo:"),
        (True, "a = 1\n  b"),
        (False, "Three"),
    ]


def images() -> bytes:
    """Two classes of pictures, of which one is missing in the test split."""
    content = BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for number in range(9):
            name = ("train/moss", "train/fern <b>", "test/moss")[number % 3]
            picture_ = BytesIO()
            Image.new("RGB", (24, 16), (40 * (number % 3), 90 + 10 * number, 60)).save(picture_, "PNG")
            archive.writestr(f"{name}/{number}.png", picture_.getvalue())
    return content.getvalue()


def test_a_set_of_images_shows_samples_classes_and_warnings(
    api: Running, browser: Browser, site: Page, tmp_path: Path
) -> None:
    path = tmp_path / "images.zip"
    path.write_bytes(images())
    id_ = api.upload("dataset", images(), name="plants", filename="images.zip")["id"]
    api.inspect(id_, inspect_file(path))
    site.goto(f"/datasets/{id_}")
    expect(site.get_by_role("heading", name="Worth a look")).to_be_visible()
    expect(site.get_by_text("no samples of fern <b> in the test split")).to_be_visible()
    expect(site.get_by_role("img", name="of class fern <b>, train").first).to_be_visible()
    assert site.evaluate("[...document.images].every(each => each.complete && each.naturalWidth)")
    row = site.locator(".classes tbody tr", has_text="fern")
    expect(row.locator(".figure")).to_have_text(["3", "0"])
    expect(site.get_by_text("24 × 16, 3 channels")).to_be_visible()
    accessible(site)
    picture(site, "dataset-images")
    with opened(browser, str(api.http.base_url), dark=True) as dark:
        dark.goto(f"/datasets/{id_}")
        accessible(dark)


def test_arrays_show_shapes_ranges_and_classes(api: Running, site: Page) -> None:
    counts = {str(number): 10 + number for number in (10, 9, 2)}
    arrays = {
        "x_train": {"shape": [33, 1, 28], "dtype": "float32", "finite": True, "min": -0.5, "max": 1.0, "mean": 0.25},
        "y_train": {"shape": [33], "dtype": "int64", "finite": True, "min": 2, "max": 10, "mean": 5, "counts": counts},
        "x_test": {"shape": [0, 1, 28], "dtype": "float32"},
        "extra": {"shape": [4], "dtype": "float32", "finite": False},
    }
    id_ = api.dataset(arrays)
    site.goto(f"/datasets/{id_}")
    expect(site.get_by_text("-0.5 to 1, mean 0.25")).to_be_visible()
    expect(site.get_by_text("some are not finite")).to_be_visible()
    assert site.locator(".classes tbody th").all_inner_texts() == ["2", "9", "10"]
    expect(site.get_by_role("link", name=re.compile("Compose"), exact=False).last).to_have_attribute(
        "href", f"/jobs/new?dataset={id_}"
    )
    accessible(site)
    picture(site, "dataset-arrays")
