"""The store as a whole, on the embedded service and on production's servers: one job's way through it."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from store import jobs, outcomes, uploads
from store.database import open_database
from store.doorbell import job_rings, open_doorbell, ring, upload_ring
from store.leases import claim_job, claim_upload
from store.objects import open_objects
from store.settings import Settings
from tests.servers import environment


async def model() -> AsyncIterator[bytes]:
    yield b"a model"


def test_a_job_goes_through(settings: Settings, tmp_path: Path) -> None:
    database, objects, app = open_database(settings), open_objects(settings), open_doorbell(settings)
    stored = asyncio.run(objects.put_stream(model(), settings.max_upload_bytes))
    model_id = uploads.add(database, objects, "model", stored, name="net", filename="net.pt2")
    assert ring(app, [upload_ring("model", model_id)])
    inspection = claim_upload(database, "model", model_id, "w", settings.lease_seconds, settings.max_attempts)
    assert inspection is not None
    outcomes.inspected(database, inspection, {"layers": []})

    id_ = jobs.submit(database, jobs.NewJob(model_id, None, {}, [("finetune", {})], settings.max_attempts)).id
    assert ring(app, job_rings(id_, "auto", ()))
    lease = claim_job(database, id_, "w", "cpu", settings.lease_seconds)
    assert lease is not None
    objects.get_file(stored.key, tmp_path / "model")
    result = objects.put_file(f"jobs/{id_}/{lease.attempt}/model.onnx", tmp_path / "model")
    artifact = outcomes.NewArtifact("model.onnx", "application/octet-stream", result.size, result.sha256, result.key)
    outcomes.succeed(database, lease, [artifact], {"macs": 1})

    (published,) = jobs.artifacts(database, id_)
    assert objects.head(published["key"]) == len(b"a model")
    assert jobs.remove(database, objects, id_)
    assert uploads.remove(database, objects, "model", model_id)
    assert objects.list("jobs") == objects.list("blobs") == {}
    database.close()
    app.close()


def test_another_process_is_given_the_same_service(settings: Settings) -> None:
    same = "from store.settings import Settings; print(Settings().model_dump_json())"
    command = [sys.executable, "-c", same]
    run = subprocess.run(command, env=environment(settings), check=True, capture_output=True, text=True, timeout=60)
    assert Settings.model_validate_json(run.stdout).database_url == settings.database_url
    assert run.stdout.strip() == settings.model_dump_json()


def test_the_store_brings_no_tensors_and_no_web_framework() -> None:
    loaded = "import store.sweep, store.jobs, store.migration, sys; print(*sorted(sys.modules))"
    names = subprocess.run(
        [sys.executable, "-c", loaded], check=True, capture_output=True, text=True, timeout=60
    ).stdout
    assert {"torch", "numpy", "fastapi", "compression"}.isdisjoint(names.split())
