"""The examples of the API's document are what they say: specs that are taken."""

from __future__ import annotations

from api.app import create_app
from compression.spec import parse_job
from store.settings import Settings


def test_the_examples_are_valid_specs(embedded_settings: Settings) -> None:
    document = create_app(embedded_settings).openapi()
    body = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]
    assert len(body["examples"]) == 2
    for example in body["examples"].values():
        parse_job(example["value"])
