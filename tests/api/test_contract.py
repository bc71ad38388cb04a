"""The OpenAPI document against the service's real answers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.api.running import Running

# Every value of a form is text, whatever type it was made from.
# A body can fit its schema and yet be refused: ids must exist, chains of steps must be possible, names must be known.
CONFIG = """
[checks]
positive_data_acceptance.expected-statuses = ["2xx", "400", "404", "409", "416", "422"]
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
