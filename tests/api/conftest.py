"""`api`: the running service on the embedded settings; `api_everywhere`: also on Postgres, Redis and S3."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from store.settings import Settings
from tests.api.running import Json, Running, run


@pytest.fixture(scope="session")
def inspection() -> Json:
    """What the engine really finds in LeNet-5."""
    from compression.intake.inspect import inspect_network
    from compression.zoo.catalog import zoo_network

    return inspect_network(zoo_network("lenet5", {}, seed=0))


@pytest.fixture
def api(embedded_settings: Settings, inspection: Json) -> Iterator[Running]:
    with run(embedded_settings, inspection) as running:
        yield running


@pytest.fixture
def api_everywhere(settings: Settings, inspection: Json) -> Iterator[Running]:
    with run(settings, inspection) as running:
        yield running
