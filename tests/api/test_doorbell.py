"""The queues are rung after the commit, and once."""

from __future__ import annotations

import pytest
from celery import Celery

from store.doorbell import open_doorbell
from store.settings import Settings
from tests.api.running import STEPS, Json, Running, run
from tests.servers import free_ports


@pytest.fixture
def broker(api_everywhere: Running) -> Celery:
    return open_doorbell(api_everywhere.settings)


def heard(broker: Celery, queue: str) -> list[list[str]]:
    """Arguments of the messages that wait in a queue; they are rung for after the answer, so this waits a moment."""
    found = []
    with broker.connection_for_read() as connection, connection.SimpleQueue(broker.amqp.queues[queue]) as messages:
        try:
            while True:
                message = messages.get(timeout=0.5)
                message.ack()
                found.append(message.payload[0])
        except messages.Empty:
            return found


def test_a_row_is_rung_for_once(api_everywhere: Running, broker: Celery) -> None:
    api = api_everywhere
    model, dataset = api.model(), api.upload("dataset")["id"]
    assert heard(broker, "inspect") == [["model", model], ["dataset", dataset]]
    body = {"model": model, "steps": STEPS}
    api.http.post("/v1/jobs", params={"dry_run": True}, json=body)
    api.http.post("/v1/jobs", json={"model": dataset, "steps": STEPS})
    ids = [
        api.http.post("/v1/jobs", json=sent, headers={"Idempotency-Key": key}).json()["id"]
        for key, sent in (("a", body), ("a", body), ("b", {**body, "device": "gpu"}))
    ]
    either, gpu = ids[0], ids[2]
    assert heard(broker, "cpu") == [[either]]
    assert heard(broker, "gpu") == [[either], [gpu]]
    api.http.post(f"/v1/jobs/{gpu}/cancel")
    again = api.http.post(f"/v1/jobs/{gpu}/retry").json()["id"]
    assert heard(broker, "gpu") == [[again]]


def test_a_broker_that_is_away_keeps_no_job_from_being_queued(embedded_settings: Settings, inspection: Json) -> None:
    (port,) = free_ports(1)
    given = {**embedded_settings.model_dump(exclude_unset=True), "broker_url": f"redis://127.0.0.1:{port}/0"}
    with run(Settings.model_validate(given), inspection) as api:
        assert api.submit()["state"] == "queued"
