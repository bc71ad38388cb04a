from pathlib import Path

import pytest
from pydantic import ValidationError

from store.settings import Settings
from tests.servers import environment


def test_defaults_are_the_embedded_service_below_one_folder(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert settings.database_url == f"sqlite+pysqlite:///{tmp_path}/niwaki.db"
    assert settings.objects_url == f"{tmp_path}/objects"
    assert settings.broker_url == f"filesystem://{tmp_path}/broker"
    assert settings.scratch == tmp_path / "scratch"
    assert (settings.host, settings.port) == ("127.0.0.1", 8765)


def test_the_environment_sets_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NIWAKI_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("NIWAKI_QUEUES", "cpu, inspect")
    monkeypatch.setenv("NIWAKI_DATABASE_URL", "postgresql://u:p@db/niwaki")
    settings = Settings()
    assert settings.queues == ("cpu", "inspect")
    assert settings.database_url == "postgresql+psycopg://u:p@db/niwaki"


def test_passwords_are_not_shown(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path,
        database_url="postgresql://u:hidden1@db/niwaki",
        broker_url="redis://:hidden2@broker",
        s3_access_key_id="key",
        s3_secret_access_key="hidden3",  # noqa: S106 - made up
    )
    assert "hidden" not in repr(settings)
    assert environment(settings)["NIWAKI_S3_SECRET_ACCESS_KEY"].endswith("3")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"database_url": "mysql://db/niwaki"}, "database_url"),
        ({"database_url": "sqlite://"}, "database_url"),
        ({"database_url": "no url"}, "database_url"),
        ({"broker_url": "amqp://broker"}, "broker_url"),
        ({"s3_access_key_id": "key"}, "s3_secret_access_key"),
        ({"renew_seconds": 30}, "renew_seconds"),
        ({"sandbox": "none", "host": "192.0.2.1"}, "loopback"),
        ({"sandbox": "none", "host": "example.org"}, "loopback"),
        ({"device": "tpu"}, "device"),
        ({"queues": "cpu,nope"}, "queues"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_what_can_not_work_is_refused(tmp_path: Path, wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Settings.model_validate({"data_dir": tmp_path, **wrong})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_no_sandbox_on_loopback(tmp_path: Path, host: str) -> None:
    assert Settings(data_dir=tmp_path, host=host, sandbox="none").on_loopback
