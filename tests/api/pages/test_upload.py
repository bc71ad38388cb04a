"""Uploading by the page, with scripts and without; the pages of what was uploaded."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, FilePayload, Page, expect

from tests.api.running import Json, Running
from tests.browser import accessible, opened, picture

WEIGHTS: FilePayload = {"name": "net.safetensors", "mimeType": "application/octet-stream", "buffer": b"weights" * 100}


def only(api: Running, kind: str) -> Json:
    items = api.http.get(f"/v1/{kind}s").json()["items"]
    assert len(items) == 1
    return api.http.get(f"/v1/{kind}s/{items[0]['id']}").json()


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_a_plain_form_streams_a_file_and_shows_what_became_of_it(api: Running, plain: Page, kind: str) -> None:
    plain.goto("/upload")
    section = plain.locator(f"section#{kind}")
    section.get_by_label(re.compile("file$")).set_input_files(WEIGHTS)
    section.get_by_label("Name", exact=True).fill("my <net>")
    section.get_by_label("Tags").fill("vision, small,")
    section.get_by_role("button", name="Upload the").click()
    row = only(api, kind)
    assert plain.url.endswith(f"/{kind}s/{row['id']}")
    assert (row["name"], row["tags"], row["filename"]) == ("my <net>", ["vision", "small"], "net.safetensors")
    assert row["size"] == 700
    assert row.get("architecture") is None
    expect(plain.get_by_role("heading", level=1)).to_have_text("my <net>")
    expect(plain.get_by_role("link", name="Look again")).to_be_visible()


def test_weights_get_their_architecture_without_a_script(api: Running, plain: Page) -> None:
    plain.goto("/upload")
    plain.get_by_text("Weights alone (").click()
    plain.get_by_label("Tags").first.fill("kept")
    plain.get_by_label("Architecture").select_option("mobilenet-v1")
    plain.get_by_role("button", name="Show its fields").click()
    expect(plain.get_by_label("Tags").first).to_have_value("kept")
    plain.get_by_label("Classes").fill("7")
    plain.get_by_text("More:").click()
    plain.get_by_label("Multiplier").fill("a half")
    plain.get_by_label("Model file").set_input_files(WEIGHTS)
    plain.get_by_role("button", name="Upload the model").click()
    expect(plain.get_by_role("alert")).to_contain_text("write a number, not “a half”")
    expect(plain.get_by_label("Classes")).to_have_value("7")
    plain.get_by_label("Multiplier").fill("0.5")
    plain.get_by_label("Small images").uncheck()
    plain.get_by_label("Model file").set_input_files(WEIGHTS)
    plain.get_by_role("button", name="Upload the model").click()
    row = only(api, "model")
    assert row["architecture"]["architecture"] == "mobilenet-v1"
    said = row["architecture"]["arguments"]
    assert (said["classes"], said["multiplier"], said["small_images"], said["in_channels"]) == (7, 0.5, False, 3)
    assert row["tags"] == ["kept"]


@pytest.mark.parametrize(
    ("label", "value", "said"),
    [
        ("Name", "n" * 300, "at most 200 characters"),
        ("Tags", "good, no spaces", "“no spaces” is no tag"),
        ("Tags", ",".join(f"t{place}" for place in range(21)), "at most 20 items"),
    ],
)
def test_what_is_wrong_is_said_at_its_field_and_nothing_is_kept(
    api: Running, plain: Page, label: str, value: str, said: str
) -> None:
    plain.goto("/upload")
    section = plain.locator("section#dataset")
    field = section.get_by_label(label, exact=True)
    field.evaluate("field => field.removeAttribute('maxlength')")
    field.fill(value)
    section.get_by_label(re.compile("file$")).set_input_files(WEIGHTS)
    with plain.expect_response("**/upload/dataset") as answer:
        section.get_by_role("button", name="Upload the data").click()
    assert answer.value.status == 422
    field = plain.locator("section#dataset").get_by_label(label, exact=True)
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_value(value)
    expect(field).to_have_accessible_description(re.compile(said))
    plain.get_by_role("alert").get_by_role("link").click()
    expect(field).to_be_focused()
    assert api.objects.list("blobs") == {}
    assert list(api.objects.incoming.iterdir()) == []


@pytest.mark.parametrize(("size", "status", "said"), [(0, 400, "No file was chosen"), (3_000_000, 413, "are allowed")])
def test_a_file_of_the_wrong_size_is_told_without_a_script(
    api: Running, plain: Page, tmp_path: Path, size: int, status: int, said: str
) -> None:
    api.settings.max_upload_bytes = 1000
    path = tmp_path / "net.pt2"
    path.write_bytes(bytes(size))
    plain.goto("/upload")
    plain.get_by_label("Model file").set_input_files(path)
    with plain.expect_response("**/upload/model") as answer:
        plain.get_by_role("button", name="Upload the model").click()
    assert answer.value.status == status
    expect(plain.get_by_label("Model file")).to_have_accessible_description(re.compile(said))
    assert api.objects.list("blobs") == {}


def test_an_architecture_that_cannot_be_is_told_at_its_fields(api: Running) -> None:
    fields = {"architecture": "vit-tiny", "/arguments/patch": "5", "/arguments/heads": "0"}
    answer = api.http.post("/upload/model", data=fields, files={"file": ("w", b"x")})
    assert answer.status_code == 422
    assert 'href="#f.arguments.heads"' in answer.text
    fields["/arguments/heads"] = "3"
    answer = api.http.post("/upload/model", data=fields, files={"file": ("w", b"x")})
    assert "patch must divide height and width" in answer.text
    answer = api.http.post("/upload/model", data={"architecture": "no<such>"}, files={"file": ("w", b"x")})
    assert 'href="#model-architecture"' in answer.text
    answer = api.http.post("/upload/model", data={"shapes": "x 3 48"}, files={"file": ("w", b"x")})
    assert 'href="#model-shapes"' in answer.text
    answer = api.http.post("/upload/model", data={"shapes": "x: 3 × 0"}, files={"file": ("w", b"x")})
    assert "a list of up to 8 positive lengths" in answer.text
    assert api.http.get("/v1/models").json()["items"] == []


def test_an_onnx_file_gets_the_lengths_that_it_leaves_free(api: Running, plain: Page) -> None:
    plain.goto("/upload")
    plain.get_by_label("Model file").set_input_files({**WEIGHTS, "name": "net.onnx"})
    plain.get_by_text("leaves lengths free").click()
    plain.get_by_label("Lengths of the inputs").fill("image: 3 × 48 x 192; mask:7")
    plain.get_by_role("button", name="Upload the model").click()
    assert only(api, "model")["architecture"] == {"inputs": {"image": [3, 48, 192], "mask": [7]}}


def test_one_file_is_sent_raw_and_its_page_follows(api: Running, site: Page) -> None:
    site.goto("/upload")
    site.get_by_label("Model file").set_input_files(WEIGHTS)
    expect(site.get_by_label("Architecture")).to_be_visible()
    site.get_by_label("Architecture").select_option("resnet20")
    site.get_by_label("Classes").fill("7")
    site.get_by_label("Name", exact=True).first.fill("ResNet & co.")
    with site.expect_request("**/v1/models?*") as sent:
        site.get_by_role("button", name="Upload the model").click()
    assert "multipart" not in sent.value.headers["content-type"]
    site.wait_for_url("**/models/mdl_*")
    row = only(api, "model")
    assert (row["name"], row["filename"], row["size"]) == ("ResNet & co.", "net.safetensors", 700)
    assert row["architecture"]["arguments"]["classes"] == 7
    api.inspect(row["id"])
    expect(site.get_by_role("heading", name="Layers")).to_be_visible()


def test_files_go_one_after_the_other_and_lead_to_a_job(api: Running, site: Page) -> None:
    site.goto("/upload")
    chosen: list[FilePayload] = [{**WEIGHTS, "name": f"{name}.pt2"} for name in "ab"]
    site.get_by_label("Model file").set_input_files(chosen)
    site.get_by_label("Tags").first.fill("night")
    site.get_by_role("button", name="Upload the model").click()
    files = site.locator("#sending li")
    expect(files).to_have_count(2)
    expect(files.locator(".state")).to_have_text(["inspecting", "inspecting"])
    site.get_by_label("Data file").set_input_files([{**WEIGHTS, "name": "digits.npz"}])
    site.get_by_role("button", name="Upload the data").click()
    expect(files.get_by_role("link", name="Look at it")).to_have_count(3)
    models = {row["name"]: row for row in api.http.get("/v1/models").json()["items"]}
    assert models.keys() == {"a.pt2", "b.pt2"}
    assert models["a.pt2"]["tags"] == ["night"]
    data = only(api, "dataset")
    last = models["b.pt2"]["id"]
    expect(site.locator("#sending").get_by_role("link", name="Compose a job")).to_have_attribute(
        "href", f"/jobs/new?model={last}&dataset={data['id']}"
    )
    api.inspect(last, problem={"kind": "model-unsafe", "message": "no", "where": ""})
    expect(files.nth(1).locator(".state")).to_have_text("rejected")
    expect(site.locator("#sending").get_by_role("link", name="Compose a job")).to_have_attribute(
        "href", f"/jobs/new?model={models['a.pt2']['id']}&dataset={data['id']}"
    )
    accessible(site)
    picture(site, "upload-sent")


def test_a_wrong_field_is_told_before_the_file_is_sent(api: Running, site: Page) -> None:
    site.goto("/upload")
    site.get_by_label("Tags").first.fill("no spaces")
    site.get_by_label("Model file").set_input_files(WEIGHTS)
    site.get_by_role("button", name="Upload the model").click()
    tags = site.get_by_label("Tags").first
    expect(tags).to_have_attribute("aria-invalid", "true")
    expect(tags).to_be_focused()
    accessible(site)
    picture(site, "upload-fault")
    tags.fill("none")
    site.get_by_role("button", name="Upload the model").click()
    site.wait_for_url("**/models/mdl_*")
    assert only(api, "model")["tags"] == ["none"]


def test_an_upload_is_canceled_and_leaves_nothing(api: Running, site: Page) -> None:
    line = site.context.new_cdp_session(site)
    line.send("Network.enable")
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 200_000}
    site.goto("/upload")
    line.send("Network.emulateNetworkConditions", slow)
    large: FilePayload = {**WEIGHTS, "buffer": bytes(5_000_000)}
    site.get_by_label("Model file").set_input_files([{**large, "name": "a.pt2"}, {**large, "name": "b.pt2"}])
    site.get_by_role("button", name="Upload the model").click()
    files = site.locator("#sending li")
    expect(files.locator(".state")).to_have_text(["uploading", "waiting"])
    expect(files.nth(0).locator(".rate")).to_have_text(re.compile(r"B of 5.00 MB, \d.*B/s, \d+ s left"))
    accessible(site)
    picture(site, "upload-sending")
    assert len(list(api.objects.incoming.iterdir())) == 1
    files.nth(1).get_by_role("button", name="Cancel").click()
    expect(files.locator(".state")).to_have_text(["uploading", "canceled"])
    files.nth(0).get_by_role("button", name="Cancel").click()
    expect(files.locator(".state")).to_have_text(["canceled", "canceled"])
    for _ in range(200):  # until the service has heard of it: only then the line gets fast
        if not list(api.objects.incoming.iterdir()):
            break
        site.wait_for_timeout(50)
    assert list(api.objects.incoming.iterdir()) == []
    line.send("Network.emulateNetworkConditions", {**slow, "uploadThroughput": -1})
    site.get_by_label("Model file").set_input_files([{**WEIGHTS, "name": "c.pt2"}, {**WEIGHTS, "name": "d.pt2"}])
    site.get_by_role("button", name="Upload the model").click()
    expect(files.get_by_role("link", name="Look at it")).to_have_count(2)
    assert {row["name"] for row in api.http.get("/v1/models").json()["items"]} == {"c.pt2", "d.pt2"}
    assert list(api.objects.list("blobs").values()) == [700]


def test_a_file_that_the_service_refuses_is_told_at_the_field(api: Running, site: Page) -> None:
    site.goto("/upload")
    field = site.get_by_label("Model file")
    site.get_by_role("button", name="Upload the model").click()
    expect(field).to_have_accessible_description(re.compile("Choose a file first"))
    field.set_input_files({**WEIGHTS, "buffer": b""})
    site.get_by_role("button", name="Upload the model").click()
    expect(field).to_have_accessible_description(re.compile("is empty"))
    api.settings.max_upload_bytes = 100  # after the page was made: as if another process of the service had it
    field.set_input_files(WEIGHTS)
    site.get_by_role("button", name="Upload the model").click()
    expect(site.locator("#sending li .state")).to_have_text("failed")
    expect(field).to_have_accessible_description(re.compile("100 are allowed"))
    site.reload()
    site.get_by_label("Model file").set_input_files(WEIGHTS)
    site.get_by_role("button", name="Upload the model").click()
    expect(site.get_by_label("Model file")).to_have_accessible_description(
        re.compile("700 bytes; 100 bytes are allowed")
    )
    assert api.http.get("/v1/models").json()["items"] == []


def test_a_dropped_file_is_taken(api: Running, site: Page) -> None:
    site.goto("/upload")
    transfer = site.evaluate_handle(
        "() => { const all = new DataTransfer(); all.items.add(new File(['abc'], 'dropped.npz')); return all }"
    )
    site.dispatch_event("#dataset-drop", "dragover", {"dataTransfer": transfer})
    expect(site.locator("#dataset-drop.over")).to_be_visible()
    site.dispatch_event("#dataset-drop", "drop", {"dataTransfer": transfer})
    site.get_by_role("button", name="Upload the data").click()
    site.wait_for_url("**/datasets/dst_*")
    assert only(api, "dataset")["name"] == "dropped.npz"


def test_the_upload_page_is_accessible_in_the_dark_too(browser: Browser, api: Running) -> None:
    for dark in (False, True):
        with opened(browser, str(api.http.base_url), dark=dark) as page:
            page.goto("/upload?form=model&architecture=vit-tiny")
            for summary in page.locator("summary").all():
                if not summary.evaluate("each => each.parentElement.open"):
                    summary.click()
            accessible(page)
            picture(page, "upload-dark" if dark else "upload")


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # inside torch's own exporter
def test_the_lines_that_export_do_what_the_page_says(api: Running, tmp_path: Path, monkeypatch) -> None:
    import torch

    from compression.intake.inspect import inspect_file

    page = api.http.get("/upload").text
    lines = dict(re.findall(r'<pre tabindex="0" id="export-(\w+)">(.*?)</pre>', page, re.DOTALL))
    monkeypatch.chdir(tmp_path)
    model = torch.nn.Sequential(torch.nn.Linear(784, 300), torch.nn.ReLU(), torch.nn.Linear(300, 10))
    known = {"model": model, "example": torch.randn(2, 784), "images": torch.ones(5, 784).numpy(), "labels": [1] * 5}
    for kind in ("pt2", "onnx", "safetensors", "npz"):
        exec(html.unescape(lines[kind]), known)  # noqa: S102 - our own page's lines
    for name in ("model.pt2", "model.onnx"):
        found = inspect_file(Path(name))
        assert (found["form"], found["cost"]["parameters"]) == ("lifted", 238_510)
    assert inspect_file(Path("data.npz"))["arrays"].keys() == {"x", "y"}
    assert Path("weights.safetensors").stat().st_size > 4 * 238_510
