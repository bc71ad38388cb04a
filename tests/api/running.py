"""The API as it runs: uvicorn on a free port, in a thread; and a worker's part played through the store's functions."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn

from api.app import create_app
from store import leases, outcomes
from store.database import Database, open_database
from store.objects import Objects, open_objects
from store.settings import Settings

Json = dict[str, Any]


@dataclass(frozen=True)
class Running:
    http: httpx.Client
    port: int
    settings: Settings
    database: Database
    objects: Objects
    inspection: Json

    def upload(self, kind: str = "model", content: bytes = b"weights", **params: Any) -> Json:
        answer = self.http.post(f"/v1/{kind}s", content=content, params=params)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def inspect(self, id_: str, inspection: Json | None = None, problem: Json | None = None) -> None:
        kind = "model" if id_.startswith("mdl") else "dataset"
        lease = leases.claim_upload(self.database, kind, id_, "w", 45, 3)
        assert lease is not None
        if problem is not None:
            outcomes.rejected(self.database, lease, problem)
        else:
            outcomes.inspected(self.database, lease, inspection or self.inspection)

    def model(self, inspection: Json | None = None) -> str:
        """The id of a model that is ready: LeNet-5, unless an inspection is given."""
        id_ = self.upload()["id"]
        self.inspect(id_, inspection)
        return id_

    def dataset(self, arrays: Json) -> str:
        id_ = self.upload("dataset", b"arrays")["id"]
        self.inspect(id_, {"kind": "data", "arrays": arrays})
        return id_

    def submit(self, model: str | None = None, **more: Any) -> Json:
        answer = self.http.post("/v1/jobs", json={"model": model or self.model(), "steps": STEPS, **more})
        assert answer.status_code == 202, answer.text
        return answer.json()

    def claim(self, id_: str) -> leases.Lease:
        lease = leases.claim_job(self.database, id_, "w", "cpu", 45)
        assert lease is not None
        return lease

    def succeed(self, id_: str, files: dict[str, bytes], report: Json | None = None) -> dict[str, Json]:
        """Publishes files as a worker does, and answers with the artifacts by name."""
        lease = self.claim(id_)
        published = []
        for name, content in files.items():
            path = self.settings.data_dir / f"{id_}-{name}"
            path.write_bytes(content)
            stored = self.objects.put_file(f"jobs/{id_}/{lease.attempt}/{name}", path)
            kind = "text/markdown" if name.endswith(".md") else "application/octet-stream"
            published.append(outcomes.NewArtifact(name, kind, stored.size, stored.sha256, stored.key, None))
        outcomes.succeed(self.database, lease, published, report or {"headline": "2× smaller"}, {"publishing": 0.1})
        return {item["name"]: item for item in self.http.get(f"/v1/jobs/{id_}/artifacts").json()["items"]}


STEPS = [{"method": "prune.structured", "macs_ratio": 0.5, "finetune": None, "importance": "magnitude"}]


@contextmanager
def run(settings: Settings, inspection: Json) -> Iterator[Running]:
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    server = uvicorn.Server(
        uvicorn.Config(create_app(settings), log_level="warning", timeout_graceful_shutdown=1, http="httptools")
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    database = open_database(settings)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as http:
            yield Running(http, port, settings, database, open_objects(settings), inspection)
    finally:
        database.close()
        server.should_exit = True
        thread.join(20)
        listening.close()
