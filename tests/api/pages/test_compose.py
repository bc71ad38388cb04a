"""`/jobs/new`: jobs put together by people, with scripts and without, and by forms sent twice or wrong."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from api.jobs.submission import check
from api.pages.compose_choices import candidates, state_after
from api.pages.compose_edits import JOB, edited
from api.pages.presets import PRESETS
from api.pages.schema_node import completed
from compression.registry import methods
from tests.api.pages.form_posts import Posted, posted
from tests.api.running import Running
from tests.browser import accessible, opened, picture

ARRAYS: dict[str, Any] = {
    "x_train": {"shape": [400, 1, 28, 28], "dtype": "uint8", "finite": True, "min": 0, "max": 255, "mean": 33},
    "y_train": {"shape": [400], "dtype": "int64", "finite": True, "min": 0, "max": 9, "mean": 4.5},
}


@pytest.fixture
def ready(api: Running) -> dict[str, str]:
    """LeNet-5 and digits, ready."""
    return {"model": api.model(), "dataset": digits(api)}


def digits(api: Running, **more: Any) -> str:
    id_ = api.upload("dataset", b"digits")["id"]
    labels = {"task": "classification", "classes": None, "counts": None}
    api.inspect(id_, {"kind": "data", "arrays": ARRAYS, "splits": {"train": 400}, "labels": labels, **more})
    return id_


def new(**given: str) -> str:
    return "/jobs/new?" + "&".join(f"{name}={value}" for name, value in given.items())


def step(page: Page, number: int) -> Locator:
    return page.locator(f"[id='f.steps.{number - 1}']")


def settled(page: Page) -> None:
    """The answer to what was typed last is in."""
    expect(page.locator("#f")).not_to_have_attribute("aria-busy", "true")


def spec(page: Page) -> Any:
    return json.loads(page.get_by_role("textbox", name="The job as JSON").input_value())


def jobs(api: Running) -> list[Any]:
    return list(api.http.get("/v1/jobs").json()["items"])


def queued(api: Running, page: Page) -> Any:
    """The spec of the job that the page has led to."""
    expect(page).to_have_url(re.compile(r"/jobs/job_[0-9A-Z]{26}$"))
    return api.http.get(f"/v1/jobs/{page.url.rpartition('/')[2]}/spec").json()


# The way of most people


def test_without_a_model_the_page_says_where_to_get_one(api: Running, site: Page) -> None:
    site.goto("/jobs/new")
    expect(site.get_by_role("heading", name="No model yet")).to_be_visible()
    expect(site.get_by_role("link", name="Upload a model")).to_have_attribute("href", "/upload")
    accessible(site)
    picture(site, "compose-empty")
    api.upload()
    site.reload()
    expect(site.get_by_role("heading", name="Your model is being inspected")).to_be_visible()
    accessible(site)


def test_a_preset_is_chosen_seen_in_figures_and_queued(api: Running, site: Page, ready: dict[str, str]) -> None:
    site.goto("/jobs/new")
    accessible(site)
    picture(site, "compose-fresh")
    site.get_by_label("Model", exact=True).select_option(ready["model"])
    expect(site.get_by_text("431 k parameters")).to_be_visible()
    site.get_by_label("Dataset", exact=True).select_option(ready["dataset"])
    expect(site.get_by_text("400 train")).to_be_visible()
    site.get_by_role("button", name="Faster").click()
    expect(site.get_by_role("status")).to_contain_text("50 %")
    site.get_by_role("button", name="Scale by 1/255").click()
    expect(site.get_by_label("Scale", exact=True)).to_be_focused()
    site.get_by_label("Name", exact=True).fill("half of it")
    site.get_by_label("Tags", exact=True).fill("first, lenet")
    accessible(site)
    picture(site, "compose-preset")
    site.get_by_role("button", name="Queue the job").click()
    made = queued(api, site)
    assert (made["name"], made["tags"]) == ("half of it", ["first", "lenet"])
    assert made["data"]["preprocess"]["x"]["scale"] == 1 / 255
    assert [entry["method"] for entry in made["steps"]] == ["prune.structured", "finetune"]
    assert made["steps"][0]["macs_ratio"] == 0.5


def test_all_of_it_works_without_scripts(api: Running, plain: Page, ready: dict[str, str]) -> None:
    plain.goto("/jobs/new")
    plain.get_by_label("Model", exact=True).select_option(ready["model"])
    plain.get_by_role("button", name="Take this model").click()
    expect(plain.get_by_text("431 k parameters")).to_be_visible()
    plain.get_by_role("button", name="Finetune", exact=True).click()
    assert plain.url.endswith("#f.steps.0")
    plain.get_by_text("Add a step").click()
    plain.get_by_role("button", name="Prune: structured", exact=True).click()
    plain.get_by_text("Add a step").click()
    plain.get_by_role("button", name="Prune: structured", exact=True).click()
    expect(step(plain, 3)).to_be_visible()
    plain.get_by_role("button", name="Move up: step 2, Prune: structured").click()
    expect(step(plain, 1).get_by_role("heading")).to_have_text(re.compile("Prune: structured"))
    assert plain.url.endswith("#f.steps.0")
    plain.get_by_role("button", name="Remove: step 3, Prune: structured").click()
    expect(step(plain, 3)).to_have_count(0)
    step(plain, 1).get_by_label("MACs ratio").fill("1/4")
    plain.get_by_role("button", name="Check").click()
    needs = plain.get_by_role("alert").get_by_role("link")
    expect(needs.first).to_contain_text("needs data here")
    plain.get_by_label("Dataset", exact=True).select_option(ready["dataset"])
    plain.get_by_role("button", name="Check").click()
    expect(plain.get_by_role("alert")).to_have_count(0)
    expect(plain.get_by_role("status")).to_contain_text("25 %")
    plain.get_by_role("button", name="Queue the job").click()
    made = queued(api, plain)
    assert [entry["method"] for entry in made["steps"]] == ["prune.structured", "finetune"]
    assert made["steps"][0]["macs_ratio"] == 0.25


def test_typing_is_checked_without_losing_the_place(site: Page, ready: dict[str, str]) -> None:
    site.goto(new(**ready, preset="both"))
    ratio = step(site, 1).get_by_label("MACs ratio")
    ratio.fill("")
    ratio.press_sequentially("0.2")
    expect(site.get_by_role("status")).to_contain_text("20 %")
    assert spec(site)["steps"][0]["macs_ratio"] == 0.2
    ratio.press_sequentially("5")
    expect(site.get_by_role("status")).to_contain_text("25 %")
    expect(ratio).to_be_focused()
    expect(ratio).to_have_value("0.25")
    # Nothing leaves the fields but by a button. The fold with the rounds is open: the preset sets them.
    step(site, 1).get_by_label("Multiple of").fill("16")
    expect(site.get_by_role("textbox", name="The job as JSON")).to_have_value(re.compile('"multiple_of": 16'))
    expect(step(site, 1).get_by_label("Multiple of")).to_be_visible()


def test_steps_move_under_the_keyboard(site: Page, ready: dict[str, str]) -> None:
    site.goto(new(**ready, preset="faster"))
    down = site.get_by_role("button", name="Move down: step 1")
    down.focus()
    site.keyboard.press("Enter")
    expect(step(site, 2).get_by_role("heading")).to_have_text(re.compile("Prune: structured"))
    expect(site.get_by_role("button", name="Move up: step 2")).to_be_focused()
    site.keyboard.press("Enter")
    expect(step(site, 1).get_by_role("heading")).to_have_text(re.compile("Prune: structured"))
    site.get_by_role("button", name="Remove: step 2").click()
    expect(step(site, 2)).to_have_count(0)
    expect(step(site, 1)).to_be_focused()


def test_a_block_that_is_off_is_null_and_comes_back_as_it_was(site: Page, ready: dict[str, str]) -> None:
    site.goto(new(**ready, preset="faster"))
    step(site, 1).get_by_text("Finetune: epochs 1").click()
    epochs = step(site, 1).locator("[id='f.steps.0.finetune.epochs']")
    epochs.fill("2.5")
    step(site, 1).get_by_label("Finetune").uncheck()
    expect(epochs).to_be_hidden()
    expect(site.get_by_role("textbox", name="The job as JSON")).to_have_value(re.compile('"finetune": null'))
    step(site, 1).get_by_label("Finetune").check()
    expect(epochs).to_have_value("2.5")
    expect(site.get_by_role("textbox", name="The job as JSON")).to_have_value(re.compile('"epochs": 2.5'))


def test_layers_are_picked_from_the_networks_own(site: Page, ready: dict[str, str]) -> None:
    site.goto(new(**ready, preset="faster"))
    step(site, 1).get_by_text("Layers: 4 of 4").click()
    layers = step(site, 1).get_by_role("row")
    expect(layers.filter(has_text="f1")).to_contain_text("Linear, 400 k parameters")
    step(site, 1).get_by_label("Exclude: f1").check()
    expect(layers.filter(has_text="f1")).to_contain_text("left")
    step(site, 1).get_by_label("Exclude also, by pattern").fill("c*")
    expect(layers.filter(has_text="c1")).to_contain_text("left")
    assert spec(site)["steps"][0]["layers"] == {"exclude": ["f1", "c*"]}
    accessible(site)
    picture(site, "compose-layers")
    step(site, 1).get_by_label("Exclude also, by pattern").fill("convs.*")
    expect(step(site, 1).get_by_text("no layer matches 'convs.*'")).to_be_visible()


# What doesn't fit


def test_faults_are_told_at_their_fields_and_at_the_top(
    api: Running, site: Page, browser: Browser, ready: dict[str, str]
) -> None:
    site.goto(new(**ready, preset="both"))
    rounds = step(site, 1).get_by_label("Rounds")
    rounds.fill("many")
    step(site, 1).get_by_label("MACs ratio").fill("1.5")
    site.get_by_role("button", name="Queue the job").click()
    top = site.get_by_role("alert")
    expect(top.get_by_role("link")).to_have_count(2)
    expect(rounds).to_have_value("many")
    expect(rounds).to_have_attribute("aria-invalid", "true")
    expect(rounds).to_have_accessible_description(re.compile("write a whole number, not “many”"))
    top.get_by_role("link", name="Rounds").click()
    expect(rounds).to_be_focused()
    accessible(site)
    picture(site, "compose-faults")
    assert jobs(api) == []
    rounds.fill("2")
    expect(top.get_by_role("link")).to_have_count(1)
    with opened(browser, str(api.http.base_url), dark=True) as dark:
        dark.goto(new(**ready, preset="both"))
        step(dark, 1).get_by_label("Rounds").fill("many")
        dark.get_by_role("button", name="Check").click()
        expect(dark.locator(".faults")).to_be_focused()
        accessible(dark)
        picture(dark, "compose-dark")


@pytest.mark.usefixtures("ready")
def test_an_empty_form_is_told_what_it_lacks_when_asked(site: Page) -> None:
    site.goto("/jobs/new")
    expect(site.get_by_role("status")).to_have_text("Choose a model to begin.")
    site.get_by_role("button", name="Queue the job").click()
    expect(site.get_by_role("alert").get_by_role("link")).to_have_text(
        ["Model: choose a model", "Steps: add at least one step"]
    )


def test_a_method_that_can_not_run_says_why_before_it_is_added_and_on_its_step(
    api: Running, site: Page, inspection: dict[str, Any]
) -> None:
    refused = copy.deepcopy(inspection)
    refused["methods"]["prune.structured"] = {
        "applicable": False,
        "reason": "every channel is an output",
        "where": "fc",
        "details": [],
    }
    site.goto(new(model=api.model(refused)))
    expect(site.locator(".add li", has_text="Prune: structured")).to_contain_text("every channel is an output (at fc)")
    site.get_by_role("button", name="Prune: structured", exact=True).click()
    expect(step(site, 1).locator(".fault").first).to_contain_text("every channel is an output (at fc)")
    accessible(site)


def test_data_that_does_not_fit_is_told_at_the_data(api: Running, site: Page) -> None:
    small = {name: {**facts, "shape": [400, 1, 8, 8][: len(facts["shape"])]} for name, facts in ARRAYS.items()}
    site.goto(new(model=api.model(), dataset=digits(api, arrays=small), preset="faster"))
    expect(site.get_by_label("Dataset", exact=True)).to_have_accessible_description(re.compile(r"x_train.*28"))
    expect(site.get_by_role("status")).to_contain_text("One thing is to be mended")


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_what_is_not_there_or_not_ready_is_told_at_its_field(api: Running, site: Page, kind: str) -> None:
    api.model()
    waiting = api.upload(kind)["id"]
    unknown = f"{waiting[:4]}{'0' * 26}"
    for id_, said in ((waiting, "is being inspected"), (unknown, f"no {kind} has the id")):
        site.goto(new(**{kind: id_}))
        field = site.get_by_label(kind.capitalize(), exact=True)
        expect(field).to_have_value(id_)
        expect(field).to_have_accessible_description(re.compile(said))
        accessible(site)


# The JSON beside the form


def test_json_fills_the_form_and_is_told_where_it_is_wrong(site: Page, ready: dict[str, str]) -> None:
    site.goto(new(**ready))
    text, use = site.get_by_role("textbox", name="The job as JSON"), site.get_by_role("button", name="Use this JSON")
    text.fill('{"steps": [\n  {"method": }]}')
    use.click()
    expect(text).to_have_accessible_description(re.compile("line 2, column 14"))
    expect(text).to_be_focused()
    accessible(site)
    document = {**ready, "steps": [{"method": "prune.structured", "macs_ratio": 2, "roundz": 3}], "seed": 7}
    text.fill(json.dumps(document))
    use.click()
    expect(step(site, 1).get_by_label("MACs ratio")).to_have_attribute("aria-invalid", "true")
    expect(step(site, 1).get_by_label("roundz")).to_have_value("3")
    expect(step(site, 1).get_by_text("Extra inputs are not permitted")).to_be_visible()
    expect(site.get_by_label("Seed", exact=True)).to_have_value("7")
    step(site, 1).get_by_label("roundz").fill("")
    step(site, 1).get_by_label("MACs ratio").fill("0.2")
    expect(site.get_by_role("status")).to_contain_text("20 %")
    assert spec(site) == {**ready, "seed": 7, "steps": [{"method": "prune.structured", "macs_ratio": 0.2}]}


def test_json_that_was_changed_is_neither_lost_nor_taken_unasked(
    api: Running, plain: Page, ready: dict[str, str]
) -> None:
    plain.goto(new(**ready, preset="faster"))
    text = plain.get_by_role("textbox", name="The job as JSON")
    before = text.input_value()
    changed = before.replace("0.5", "0.4")
    text.fill(changed)
    plain.get_by_role("button", name="Queue the job").click()
    expect(plain.get_by_role("alert")).to_contain_text("use it, or discard the change")
    expect(text).to_have_value(changed)
    assert jobs(api) == []
    plain.get_by_role("button", name="Discard the change").click()
    expect(text).to_have_value(before)
    text.fill(changed)
    plain.get_by_role("button", name="Use this JSON").click()
    expect(step(plain, 1).get_by_label("MACs ratio")).to_have_value("0.4")
    plain.get_by_role("button", name="Queue the job").click()
    assert queued(api, plain)["steps"][0]["macs_ratio"] == 0.4


@pytest.mark.parametrize(
    "document",
    [
        {"steps": "all of them"},
        {"steps": [5, {"method": "magic"}, {"method": "finetune", "training": []}]},
        {"steps": [], "data": 3, "model": {"id": 1}, "dataset": ["x"], "exports": "onnx", "tags": {"a": 1}},
        {"steps": [], "data": {"preprocess": {"a/b ~": 1, "x": {"scale": "big"}}}, "later": {"webhook": "…"}},
    ],
)
def test_json_of_any_shape_comes_back_from_the_form(
    site: Page, ready: dict[str, str], document: dict[str, Any]
) -> None:
    site.goto(new(**ready))
    site.get_by_role("textbox", name="The job as JSON").fill(json.dumps(document))
    site.get_by_role("button", name="Use this JSON").click()
    expect(site.get_by_role("alert")).to_be_visible()
    site.get_by_role("button", name="Check").click()
    settled(site)
    for name, value in document.items():
        assert spec(site).get(name, []) == value
    accessible(site)


# A form that is sent


def form(api: Running, address: str) -> Posted:
    return posted(api.http.get(address).text)


def send(api: Running, fields: Posted, do: str, **more: str) -> Any:
    return api.http.post("/jobs/new", data={**fields, **{name: [text] for name, text in more.items()}, "do": [do]})


def test_a_form_sent_twice_makes_one_job(api: Running, ready: dict[str, str]) -> None:
    fields = form(api, new(**ready, preset="faster"))
    first, second = send(api, fields, "submit"), send(api, fields, "submit")
    assert first.status_code == second.status_code == 303
    assert first.headers["location"] == second.headers["location"]
    assert len(jobs(api)) == 1
    changed = send(api, fields, "submit", **{"/steps/0/rounds": "9"})
    assert changed.status_code == 409
    assert first.headers["location"].removeprefix("/jobs/") in changed.text
    assert send(api, posted(changed.text), "submit").status_code == 303
    assert len(jobs(api)) == 2
    assert send(api, form(api, new(**ready, preset="faster")), "submit").status_code == 303
    assert len(jobs(api)) == 3


def test_a_job_is_queued_as_the_api_queues_it(api: Running, ready: dict[str, str]) -> None:
    fields = form(api, new(**ready, preset="both"))
    made = send(api, fields, "submit").headers["location"].removeprefix("/jobs/")
    body = {**ready, "steps": next(preset.steps for preset in PRESETS if preset.name == "both")}
    other = api.http.post("/v1/jobs", json=body).json()["id"]
    assert api.http.get(f"/v1/jobs/{made}/spec").json() == api.http.get(f"/v1/jobs/{other}/spec").json()
    assert api.claim(made).attempt == 1


def test_an_earlier_job_is_composed_again(api: Running, site: Page, ready: dict[str, str]) -> None:
    job = api.submit(ready["model"], name="first try", seed=3)["id"]
    site.goto(f"/jobs/new?like={job}")
    expect(site.get_by_label("Name", exact=True)).to_have_value("first try")
    expect(site.get_by_role("link", name="an earlier job")).to_have_attribute("href", f"/jobs/{job}")
    expect(site.get_by_label("Seed", exact=True)).to_have_value("3")
    site.get_by_role("button", name="Queue the job").click()
    assert queued(api, site) == api.http.get(f"/v1/jobs/{job}/spec").json()
    assert api.http.get("/jobs/new?like=job_00000000000000000000000000").status_code == 404


def test_what_a_job_made_can_be_the_next_ones_model(api: Running, site: Page, ready: dict[str, str]) -> None:
    job = api.submit(ready["model"], name="first")["id"]
    made = api.succeed(job, {"model.pt2": b"smaller", "report.md": b"#"})["model.pt2"]["id"]
    site.goto("/jobs/new")
    site.get_by_label("Model", exact=True).select_option(made)
    expect(site.get_by_label("Model", exact=True).locator("option:checked")).to_contain_text("first: model.pt2")
    site.get_by_role("button", name="Both").click()
    expect(site.get_by_role("status")).to_contain_text("It can be queued")
    site.get_by_role("button", name="Queue the job").click()
    assert queued(api, site)["model"] == made


def test_long_lists_of_models_can_be_searched(api: Running, site: Page) -> None:
    for number in range(9):
        api.inspect(api.upload(name=f"net {number}")["id"])
    site.goto("/jobs/new")
    search = site.get_by_label("Search: Model")
    search.fill("NET 7")
    shown = site.get_by_label("Model", exact=True).locator("option:not([hidden])")
    expect(shown).to_have_count(2)
    expect(shown.last).to_contain_text("net 7")
    expect(site.get_by_label("Search: Dataset")).to_be_hidden()


# Presets, buttons, and posts that no page of ours sends


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
@pytest.mark.parametrize("data", [True, False])
def test_every_preset_is_a_job_that_can_be_run(api: Running, ready: dict[str, str], preset: Any, data: bool) -> None:
    chosen = ready if data else {"model": ready["model"]}
    order = check(api.database, {**chosen, "steps": preset.pipeline(data=data)})
    assert order.spec.steps
    fields = form(api, new(**chosen, preset=preset.name))
    assert send(api, fields, "submit").status_code == 303


@pytest.mark.parametrize("method", methods())
def test_every_method_has_its_fields_and_says_what_it_lacks(api: Running, ready: dict[str, str], method: str) -> None:
    answer = send(api, form(api, new(**ready)), f"add:/steps#{method}")
    assert answer.status_code == 200
    fields = posted(answer.text)
    spec_fields = set(methods()[method].spec.model_fields) - {"method"}
    named = {name.removeprefix("json:").split("/")[3] for name in (*fields, *fields["shown"]) if "/steps/0/" in name}
    assert named - {"method"} == spec_fields
    assert send(api, fields, "check").status_code == 200


def test_a_step_that_can_not_follow_is_named_and_can_be_moved(api: Running, ready: dict[str, str]) -> None:
    answer = send(api, form(api, new(**ready)), "add:/steps#encode")
    answer = send(api, posted(answer.text), "add:/steps#finetune")
    refused = send(api, posted(answer.text), "submit")
    assert refused.status_code == 422
    assert "finetune takes a network that is encoded or float, but here it is coded" in refused.text
    moved = send(api, posted(refused.text), "up:/steps/1")
    assert send(api, posted(moved.text), "submit").status_code == 303


def test_methods_say_which_network_they_take() -> None:
    assert state_after(["finetune", "prune.structured"]) == "float"
    for method in candidates("coded", None):
        assert (method.against == "") == ("coded" in methods()[method.name].accepts)
    finetune = next(method for method in candidates("coded", None) if method.name == "finetune")
    assert "these steps leave it coded" in finetune.against


def test_teachers_are_added_and_chosen_among_the_models(api: Running, site: Page, ready: dict[str, str]) -> None:
    other = api.model()
    site.goto(new(**ready))
    site.get_by_role("button", name="Distill", exact=True).click()
    expect(site.get_by_role("button", name="Faster")).to_be_hidden()  # there are steps now: the list folds
    step(site, 1).get_by_text("Teachers: 1").click()
    step(site, 1).get_by_role("button", name="Add a teacher").click()
    second = step(site, 1).get_by_role("group", name="Teacher 2")
    expect(second).to_be_focused()
    second.get_by_label("Model").select_option(other)
    step(site, 1).get_by_role("button", name="Move up: Teacher 2").click()
    expect(step(site, 1).get_by_role("group", name="Teacher 1").get_by_label("Model")).to_have_value(other)
    assert [teacher.get("model") for teacher in spec(site)["steps"][0]["teachers"]] == [other, None]
    accessible(site)
    picture(site, "compose-teachers")


@pytest.mark.parametrize(
    ("do", "order"),
    [
        ("up:/steps/1", "bac"),
        ("down:/steps/0", "bac"),
        ("up:/steps/0", "abc"),
        ("down:/steps/2", "abc"),
        ("remove:/steps/1", "ac"),
        ("remove:/steps/7", "abc"),
        ("up:/steps/x", "abc"),
        ("add:/steps#magic", "abc"),
        ("add:/exports", "abc"),
        ("up:/nowhere/1", "abc"),
        ("preset:magic", "abc"),
        ("nothing", "abc"),
    ],
)
def test_what_buttons_do_to_steps(do: str, order: str) -> None:
    document = {"steps": [{"method": "finetune", "name": name} for name in "abc"]}
    assert "".join(entry["name"] for entry in edited(document, do)[0]["steps"]) == order
    assert len(document["steps"]) == 3


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, 200),
        ({"do": "submit"}, 422),
        ({"json:": "[1]", "do": "submit"}, 422),
        ({"json:": '{"a":' * 500 + "1" + "}" * 500}, 200),
        ({"json": "[" * 100_000, "do": "json"}, 200),
        ({"json": "[" * 200 + "]" * 200, "do": "json"}, 200),
        ({"json": '{"name": "\\ud83d"}', "do": "json"}, 200),
        ({"shown": "/steps", "/steps/999999999/method": "finetune", "/steps/-1/method": "finetune"}, 200),
        ({"shown": ["/steps", "/steps/0/finetune"], "/steps/0/method": ["magic", "prune.structured"]}, 200),
        ({"json:/steps": '[{"method": "finetune", "training": {"epochs": {"a": [null]}}}]'}, 200),
        ({"/model": "mdl_\0", "/name": "\x1f\r\n", "/data/preprocess//scale": "x", "do": "submit"}, 422),
        ({"/data/preprocess/<b>/scale": "2", "key": "<script>", "like": "\"'><script>"}, 200),
        ({"do": "add:/steps/0/teachers"}, 200),
        ({"do": "remove:/data/preprocess/__class__"}, 200),
    ],
)
def test_posts_of_any_kind_are_answered(api: Running, fields: dict[str, Any], status: int) -> None:
    api.model()
    answer = api.http.post("/jobs/new", data=fields)
    assert answer.status_code == status
    assert "<script>" not in answer.text
    assert jobs(api) == []


def test_text_that_no_database_keeps_is_refused(api_everywhere: Running) -> None:
    http, model = api_everywhere.http, api_everywhere.model()
    assert http.get("/jobs/new?model=%00").status_code == http.get("/jobs/new?like=%00").status_code == 422
    assert http.get("/compare?job=%00").status_code == 422
    for fields in ({"/model": "art_\0"}, {"/model": model, "/dataset": "\0"}, {"json": '{"model": "\\u0000"}'}):
        answer = http.post("/jobs/new", data={"do": "json" if "json" in fields else "check", **fields})
        assert answer.status_code == 200
        assert "has the id" in answer.text


def test_a_post_has_bounds(api: Running) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert api.http.post("/jobs/new", content=b"a=" + b"x" * 9_000_000, headers=headers).status_code == 413
    assert api.http.post("/jobs/new", content=b"a&" * 60_000, headers=headers).status_code == 400
    assert api.http.post("/jobs/new", content=b"\xff\xfe", headers=headers).status_code == 400


def test_integers_are_exported_as_the_one_format_that_holds_them_unless_exports_were_chosen() -> None:
    start = completed(JOB, {"steps": []})
    added, _ = edited(start, "add:/steps#quantize.int8")
    assert added["exports"] == ["onnx"]
    preset, _ = edited(start, "preset:int8")
    assert preset["exports"] == ["onnx"]
    chosen, _ = edited({**start, "exports": ["pt2"]}, "add:/steps#quantize.int8")
    assert chosen["exports"] == ["pt2"]  # which is told to be at fault, at that field
    other, _ = edited(start, "add:/steps#encode")
    assert other["exports"] == start["exports"]
