"""The OpenAPI document against the service's real answers."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from api import problems
from api.problems import every_problem
from api.translation import translate
from compression.registry import methods
from tests.api.running import Running

# Every value of a form is text, whatever type it was made from.
# A body can fit its schema and yet be refused: ids must exist, chains of steps must be possible, names must be known.
CONFIG = """
[checks]
positive_data_acceptance.expected-statuses = ["2xx", "304", "400", "404", "409", "416", "422"]
[[operations]]
include-method = "POST"
include-path-regex = "^/v1/(models|datasets)$"
checks.negative_data_rejection.enabled = false
[parameters]
{parameters}
"""


def schemathesis(api: Running, folder: Path, ids: dict[str, str], *options: str) -> None:
    lines = "\n".join(f'"path.{name}" = "{value}"' for name, value in ids.items())
    config = folder / "schemathesis.toml"
    config.write_text(CONFIG.format(parameters=lines))
    program = Path(sys.executable).with_name("schemathesis")
    command = [program, "--config-file", config, "run", f"http://127.0.0.1:{api.port}/openapi.json", "--no-color"]
    limits = ["--request-timeout", "5", "--seed", "1", "--generation-database", "none"]
    done = subprocess.run([*command, *limits, *options], capture_output=True, text=True, cwd=folder, timeout=120)
    assert done.returncode == 0, done.stdout[-60000:]


def test_answers_are_as_documented_whatever_comes(api: Running, tmp_path: Path) -> None:
    schemathesis(api, tmp_path, {}, "--max-examples", "8", "--phases", "examples,coverage,fuzzing")


def test_answers_about_real_rows_are_as_documented(api: Running, tmp_path: Path) -> None:
    job = api.submit()
    made = api.succeed(job["id"], {"model.pt2": b"x" * 100, "report.md": b"# Smaller"})
    api.inspect(api.upload("dataset")["id"], {"kind": "data", "arrays": {}})
    dataset = api.http.get("/v1/datasets").json()["items"][0]["id"]
    ids = {"model_id": job["model"], "dataset_id": dataset, "job_id": job["id"], "artifact_id": made["model.pt2"]["id"]}
    only = ["--exclude-method", "POST", "--exclude-method", "DELETE", "--exclude-path-regex", "^[^{]*$"]
    schemathesis(api, tmp_path, ids, *only, "--max-examples", "8", "--phases", "examples,coverage,fuzzing")


def test_the_document_is_openapi_3_1_with_examples(api: Running) -> None:
    document = api.http.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert document["components"]["schemas"]["JobSpec"]["examples"]
    assert document["components"]["schemas"]["Job"]["examples"]
    missing = [
        f"{method} {path}"
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if not operation.get("summary") or not operation.get("tags")
    ]
    assert missing == []


def test_the_docs_are_one_page_with_nothing_from_elsewhere(api: Running) -> None:
    answer = api.http.get("/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    page = answer.text
    assert "<script" not in page
    assert "http:" not in page.replace("http://www.w3.org", "")
    assert all(re.match(r"#|/(?!/)", link) for link in re.findall(r"""(?:src|href)=["']([^"']*)""", page))
    assert "unsafe" not in answer.headers["content-security-policy"]
    document = api.http.get("/openapi.json").json()
    for path in document["paths"]:
        assert f"<code>{path}</code>" in page
    for name in document["components"]["schemas"]:
        assert f"id='{name}'" in page
    for kind in every_problem():
        assert f"/problems/{kind.slug}" in page


def test_methods_come_from_the_registry(api: Running) -> None:
    items = {item["name"]: item for item in api.http.get("/v1/methods").json()["items"]}
    assert items.keys() == methods().keys()
    prune = items["prune.structured"]
    assert prune["summary"].startswith("Structured pruning")
    assert (prune["accepts"], prune["leaves"]) == (["encoded", "float"], None)
    assert prune["schema"]["properties"]["macs_ratio"]["description"]
    assert items["finetune"]["schema"]["properties"]["training"]["default"]["epochs"] > 0
    names = [item["name"] for item in api.http.get("/v1/architectures").json()["items"]]
    assert "lenet5" in names


def test_every_problem_has_a_type_of_its_own() -> None:
    slugs = [kind.slug for kind in every_problem()]
    assert len(set(slugs)) == len(slugs)
    told = {line.split()[3] for line in (problems.__doc__ or "").splitlines() if "──" in line}
    assert told == set(slugs)


def test_an_error_of_ours_is_a_problem_too() -> None:
    answer = translate(ZeroDivisionError("secret")).render()
    assert (answer.status_code, answer.media_type) == (500, "application/problem+json")
    assert b"secret" not in answer.body
