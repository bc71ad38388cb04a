"""`python -m benchmarks.service`: the service's own speed, on the embedded default and on Postgres + Redis + S3.

Polls a second beside a bare route of the same SELECT, uploads beside a plain copy of the file, the memory of a 2 GB
upload, submit → claimed, submit → the first event from the engine's process, and what a job costs besides the engine's
seconds. Everything runs on loopback, on servers that it starts itself. `--quick`: fewer rounds, 200 MB.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np
from sqlalchemy.engine import make_url

from api.jobs.row import SQL
from benchmarks.claim import claim
from compression.intake.weights import save_network
from compression.zoo.catalog import zoo_network
from store import jobs, uploads
from store.database import open_database
from store.migration import migrate
from store.objects import open_objects
from store.settings import Settings
from tests import servers

CONNECTIONS = 16
STEP = {"method": "finetune", "training": {"epochs": 1}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=["embedded", "production"])
    options = parser.parse_args()
    for kind in ("embedded", "production"):
        if options.only in {None, kind}:
            with ExitStack() as stack:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="niwaki-bench-")))
                folder.chmod(0o755)
                settings = _embedded(folder) if kind == "embedded" else _production(folder, stack)
                migrate(settings)
                _polls(kind, settings, rounds=3 if options.quick else 9)
                _uploads(kind, settings, folder, megabytes=200 if options.quick else 2048)
                _jobs(kind, settings, folder, count=3 if options.quick else 12)


def _embedded(folder: Path) -> Settings:
    return Settings(data_dir=folder)


def _production(folder: Path, stack: ExitStack) -> Settings:
    for name in ("postgres", "redis", "s3"):
        (folder / name).mkdir()
    database = stack.enter_context(servers.postgres(folder / "postgres"))
    broker = stack.enter_context(servers.redis_server(folder / "redis"))
    s3 = stack.enter_context(servers.s3(folder / "s3"))
    return Settings.model_validate(
        {
            "data_dir": folder,
            "database_url": database.create("bench"),
            "broker_url": broker,
            "objects_url": f"s3://{servers.BUCKET}/bench",
            "s3_endpoint": s3.endpoint,
            "s3_access_key_id": s3.access_key_id,
            "s3_secret_access_key": s3.secret_access_key,
        }
    )


@contextmanager
def _process(command: list[str], variables: dict[str, str], log: Path) -> Iterator[int]:
    with log.open("ab") as output:
        process = subprocess.Popen(command, env=variables, stdout=output, stderr=output)
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def _server(app: str, settings: Settings, **more: str) -> Iterator[tuple[int, int]]:
    """(pid, port) of one uvicorn process."""
    (port,) = servers.free_ports(1)
    command = [sys.executable, "-m", "uvicorn", "--factory", app, "--port", str(port), "--log-level", "warning"]
    variables = servers.environment(settings) | more
    with _process(command, variables, settings.data_dir / "uvicorn.log") as pid:
        for _ in range(200):
            try:
                httpx.get(f"http://127.0.0.1:{port}/livez", trust_env=False)
                break
            except httpx.TransportError:
                time.sleep(0.05)
        yield pid, port


def _polls(kind: str, settings: Settings, rounds: int) -> None:
    job = _queued_job(settings)
    with (
        _server("api.app:create_app", settings) as (_, ours),
        _server(
            "benchmarks.bare_route:create_app",
            settings,
            BARE_SQL=SQL[make_url(settings.database_url).get_backend_name()],
        ) as (_, bare),
    ):
        rates: dict[int, list[float]] = {ours: [], bare: []}
        for number in range(rounds + 1):
            for port in (ours, bare) if number % 2 else (bare, ours):
                rate = _load(port, f"/v1/jobs/{job}")
                if number:  # the first round warms up
                    rates[port].append(rate)
    ratios = [a / b for a, b in zip(rates[ours], rates[bare], strict=True)]
    value = median(ratios)
    claim(
        f"status polls a second as a share of the bare route's, {kind}, one process, {CONNECTIONS} connections "
        f"({median(rates[ours]):.0f} of {median(rates[bare]):.0f})",
        value, peer=1.0, target=">= 0.70", met=value >= 0.70, seeds=rounds, spread=[min(ratios), max(ratios)],
    )  # fmt: skip


def _load(port: int, path: str, seconds: float = 3.0) -> float:
    command = [sys.executable, "-m", "benchmarks.http_load", str(port), path, str(CONNECTIONS), str(seconds)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _queued_job(settings: Settings) -> str:
    database, objects = open_database(settings), open_objects(settings)
    bytes_ = settings.data_dir / "bytes"
    bytes_.write_bytes(b"any")
    stored = objects.put_file("blobs/any", bytes_)
    model = uploads.add(database, objects, "model", stored, name="any", filename="any.pt2")
    made = jobs.submit(database, jobs.NewJob(model, None, {"steps": [STEP]}, [("finetune", STEP)], max_attempts=3))
    jobs.request_cancel(database, made.id)
    database.close()
    return made.id


def _uploads(kind: str, settings: Settings, folder: Path, megabytes: int) -> None:
    source = folder / "upload.bin"
    block = os.urandom(1 << 20)
    with source.open("wb") as file:
        for number in range(megabytes):
            file.write(number.to_bytes(8, "little") + block[8:])
    for form in (False, True):
        with _server("api.app:create_app", settings) as (pid, port):
            _upload(port, source, form=form, limit=1 << 20)  # what the first request loads isn't the upload's
            before = _memory(pid, "VmRSS")
            copied = _copy(source, folder / "copy.bin")
            seconds, identity = _upload(port, source, form=form)
            added = (_memory(pid, "VmHWM") - before) / 1e6
            httpx.delete(f"http://127.0.0.1:{port}/v1/models/{identity}", timeout=60).raise_for_status()
        way = "a form" if form else "a raw body"
        claim(
            f"MB of memory added by an upload of {megabytes} MB as {way}, {kind}",
            added, peer=None, target="< 64", met=added < 64, seeds=1, spread=None,
        )  # fmt: skip
        share = copied / seconds
        claim(
            f"upload speed as {way} as a share of a plain copy's, {kind} ({megabytes / seconds:.0f} of "
            f"{megabytes / copied:.0f} MB/s)",
            share, peer=1.0, target=">= 0.50", met=share >= 0.5, seeds=1, spread=None,
        )  # fmt: skip
    source.unlink()


def _upload(port: int, path: Path, *, form: bool, limit: int | None = None) -> tuple[float, str]:
    size = limit or path.stat().st_size
    head, tail, headers = b"", b"", {}
    if form:
        head = b'--niwaki\r\nContent-Disposition: form-data; name="file"; filename="m.pt2"\r\n\r\n'
        tail = b"\r\n--niwaki--\r\n"
        headers = {"Content-Type": "multipart/form-data; boundary=niwaki"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    start = time.monotonic()
    connection.putrequest("POST", "/v1/models?filename=m.pt2")
    for name, value in (headers | {"Content-Length": str(len(head) + size + len(tail))}).items():
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(head) if head else None
    with path.open("rb") as file:
        left = size
        while left:
            part = file.read(min(left, 1 << 20))
            connection.send(part)
            left -= len(part)
    connection.send(tail) if tail else None
    answer = connection.getresponse()
    body = json.loads(answer.read())
    if answer.status != 201:
        raise SystemExit(f"upload: {answer.status} {body}")
    return time.monotonic() - start, str(body["id"])


def _copy(source: Path, target: Path) -> float:
    start = time.monotonic()
    with source.open("rb") as reading, target.open("wb") as writing:
        while part := reading.read(1 << 20):
            writing.write(part)
    target.unlink()
    return time.monotonic() - start


def _memory(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"/proc has no {field}")


def _jobs(kind: str, settings: Settings, folder: Path, count: int) -> None:
    save_network(zoo_network("lenet300", {"features": 49}, seed=0), folder / "m.safetensors")
    random = np.random.default_rng(0)
    np.savez(folder / "d.npz", x=random.normal(size=(400, 49)).astype(np.float32), y=np.arange(400) % 10)
    variables = servers.environment(settings)
    with ExitStack() as stack:
        for queue in ("cpu", "inspect"):
            command = [sys.executable, "-m", "worker", "run", "--queues", queue]
            stack.enter_context(_process(command, variables, folder / f"{queue}.log"))
        _, port = stack.enter_context(_server("api.app:create_app", settings))
        client = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False))
        model = _ready(client, "models", folder / "m.safetensors")
        data = _ready(client, "datasets", folder / "d.npz")
        spec = {"model": model, "dataset": data, "steps": [STEP], "exports": ["safetensors"]}
        runs = [_one_job(client, spec) for _ in range(count + 1)][1:]
    for name, target in {"claimed": 0.15, "first event of the engine": 1.5 if kind == "production" else 2.0}.items():
        values = [run[name] for run in runs]
        value = median(values)
        claim(
            f"seconds from submit to {name}, {kind}, median",
            value, peer=None, target=f"<= {target}", met=value <= target, seeds=count,
            spread=[min(values), max(values)],
        )  # fmt: skip
    values = [run["overhead"] for run in runs]
    value = median(values)
    claim(
        f"seconds of a job besides the engine's own, {kind}, median",
        value, peer=None, target="<= 3", met=value <= 3, seeds=count, spread=[min(values), max(values)],
    )  # fmt: skip


def _ready(client: httpx.Client, kind: str, path: Path) -> str:
    row = client.post(f"/v1/{kind}", params={"filename": path.name}, content=path.read_bytes()).json()
    for _ in range(600):
        row = client.get(f"/v1/{kind}/{row['id']}").json()
        if row["state"] != "inspecting":
            break
        time.sleep(0.1)
    if row["state"] != "ready":
        raise SystemExit(f"{path.name}: {row}")
    return str(row["id"])


def _one_job(client: httpx.Client, spec: dict[str, Any]) -> dict[str, float]:
    """Seconds from just before the request, told by the job's own rows where this process can't see the moment."""
    start = time.monotonic()
    job = client.post("/v1/jobs", json=spec).json()["id"]
    seen: dict[str, float] = {}
    while True:
        row = client.get(f"/v1/jobs/{job}").json()
        if row["state"] != "queued":
            seen.setdefault("claimed", time.monotonic() - start)
        if "first event of the engine" not in seen:
            events = client.get(f"/v1/jobs/{job}/events", headers={"Accept": "application/json"}).json()["items"]
            if any(event["kind"] == "started" for event in events):
                seen["first event of the engine"] = time.monotonic() - start
        if row["state"] in {"succeeded", "failed", "canceled"}:
            break
        time.sleep(0.01)
    if row["state"] != "succeeded":
        raise SystemExit(f"{job}: {row['error']}")
    engine = sum(row["times"].get(phase, 0.0) for phase in ("loading", "steps", "exporting", "measuring"))
    return seen | {"overhead": time.monotonic() - start - engine}


if __name__ == "__main__":
    main()
