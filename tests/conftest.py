"""Fixtures of the service's tests. Servers start when a test first asks, one of each per pytest-xdist process.

    settings          Settings of a whole service, twice: "embedded" (SQLite, folder, filesystem broker) and
                      "production" (Postgres, Redis, S3). Its tables are made; database, broker and prefix are its own.
    embedded_settings, production_settings
                      the same, one of them
    database          an open `store.database.Database`, twice: "sqlite" and "postgres"; starts neither Redis nor S3
    objects           an open `store.objects.Objects`, twice: on a "folder" and on "s3"
    postgres_server, redis_url, s3_server
                      the servers themselves (tests/servers.py)
    tests.servers.environment(settings)
                      the same settings as an environment, for a subprocess (`python -m …`)

Everything that a test writes is in its `tmp_path`, or in a database and an S3 prefix of its own.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import redis

from store.database import Database, open_database
from store.migration import migrate
from store.objects import Objects, open_objects
from store.settings import Settings
from tests import servers

TEMPLATE = "niwaki_template"

hypothesis.settings.register_profile("niwaki", deadline=None)  # how long an example takes is the machine's affair
hypothesis.settings.load_profile("niwaki")


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    # Not pytest's own folder: Postgres may run as another user, who can't come by there.
    with tempfile.TemporaryDirectory(prefix="niwaki-servers-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def _folder(parent: Path, name: str) -> Path:
    path = parent / name
    path.mkdir()
    return path


@pytest.fixture(scope="session")
def postgres_server(server_folder: Path) -> Iterator[servers.Postgres]:
    with servers.postgres(_folder(server_folder, "postgres")) as server:
        migrate(Settings(data_dir=server_folder, database_url=server.create(TEMPLATE)))
        yield server


@pytest.fixture(scope="session")
def redis_url(server_folder: Path) -> Iterator[str]:
    with servers.redis_server(_folder(server_folder, "redis")) as url:
        yield url


@pytest.fixture(scope="session")
def s3_server(server_folder: Path) -> Iterator[servers.S3]:
    with servers.s3(_folder(server_folder, "s3")) as server:
        yield server


@pytest.fixture(scope="session")
def sqlite_template(server_folder: Path) -> Path:
    path = server_folder / "template.db"
    migrate(Settings(data_dir=server_folder, database_url=f"sqlite+pysqlite:///{path}"))
    return path


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    path = tmp_path / "niwaki.db"
    shutil.copyfile(sqlite_template, path)
    return f"sqlite+pysqlite:///{path}"


@pytest.fixture
def postgres_url(postgres_server: servers.Postgres) -> Iterator[str]:
    name = f"t_{uuid.uuid4().hex}"
    yield postgres_server.create(name, TEMPLATE)
    postgres_server.drop(name)


@pytest.fixture
def embedded_settings(sqlite_url: str, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, database_url=sqlite_url, broker_poll_seconds=0.05)


def _s3_settings(server: servers.S3, folder: Path) -> dict[str, str]:
    return {
        "objects_url": f"s3://{servers.BUCKET}/{folder.name}-{uuid.uuid4().hex}",
        "s3_endpoint": server.endpoint,
        "s3_access_key_id": server.access_key_id,
        "s3_secret_access_key": server.secret_access_key,
    }


@pytest.fixture
def production_settings(postgres_url: str, redis_url: str, s3_server: servers.S3, tmp_path: Path) -> Settings:
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    given = {"data_dir": tmp_path, "database_url": postgres_url, "broker_url": redis_url}
    return Settings.model_validate(given | _s3_settings(s3_server, tmp_path))


@pytest.fixture(params=["embedded", "production"])
def settings(request: pytest.FixtureRequest) -> Settings:
    return request.getfixturevalue(f"{request.param}_settings")


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    url = request.getfixturevalue(f"{request.param}_url")
    opened = open_database(Settings(data_dir=tmp_path, database_url=url))
    yield opened
    opened.close()


@pytest.fixture(params=["folder", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    if request.param == "folder":
        return open_objects(Settings(data_dir=tmp_path))
    given = {"data_dir": tmp_path} | _s3_settings(request.getfixturevalue("s3_server"), tmp_path)
    return open_objects(Settings.model_validate(given))
