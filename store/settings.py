"""`Settings`: everything that an operator can set, as environment variables `NIWAKI_…`.

The defaults are the embedded service: SQLite, a folder and a filesystem broker below `data_dir`, on loopback.
Production differs by URLs alone. Relative paths are below `data_dir`, whatever the working directory.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

Queue = Literal["cpu", "gpu", "inspect"]
MIB = 1024**2
GIB = 1024**3


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="NIWAKI_", extra="forbid")

    data_dir: Path = Field(Path("var"), description="folder of the embedded service, and of every relative path below")
    scratch: Path = Field(Path("scratch"), description="folder for jobs' working files and spooled uploads")

    database_url: str = Field(
        "sqlite+pysqlite:///niwaki.db", repr=False, description="sqlite+pysqlite:///FILE or postgresql+psycopg://…"
    )
    database_connections: int = Field(16, ge=1, le=200, description="connections that one process keeps at most")
    objects_url: str = Field("objects", description="a folder, or s3://BUCKET or s3://BUCKET/PREFIX")
    s3_endpoint: str | None = Field(None, description="URL of the S3 server; none: AWS")
    s3_region: str = Field("us-east-1", description="region that requests are signed for")
    s3_access_key_id: SecretStr | None = Field(None, description="none: requests go unsigned")
    s3_secret_access_key: SecretStr | None = None
    broker_url: str = Field("filesystem://broker", repr=False, description="filesystem://FOLDER or redis://…")
    broker_poll_seconds: float = Field(0.1, gt=0, le=10, description="how often the filesystem broker is looked at")

    host: str = Field("127.0.0.1", description="address that the API listens on")
    port: int = Field(8765, ge=0, le=65535)
    max_upload_bytes: int = Field(4 * GIB, ge=1, description="of one model or dataset")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    lease_seconds: float = Field(45, gt=0, le=3600, description="a worker silent for so long is taken for dead")
    renew_seconds: float = Field(15, gt=0, le=1200, description="how often a worker renews its lease")
    sweep_seconds: float = Field(10, gt=0, le=600, description="how often a worker looks for what was left lying")
    ring_again_seconds: float = Field(30, gt=0, le=3600, description="a row that waits for so long is rung for again")
    max_attempts: int = Field(3, ge=1, le=100, description="attempts at a job whose workers die, before it fails")

    queues: Annotated[tuple[Queue, ...], NoDecode] = Field(
        ("cpu",), min_length=1, description="what this worker takes, with commas between: cpu, gpu, inspect"
    )
    device: str = Field("cpu", pattern=r"^(cpu|cuda:\d{1,2})$", description="what this worker computes on")
    threads: int = Field(1, ge=1, le=512, description="threads of the engine's process")
    memory_bytes: int = Field(8 * GIB, ge=256 * MIB, description="memory of the engine's process")
    cpu_seconds: int = Field(24 * 3600, ge=1, description="processor time of the engine's process")
    sandbox: Literal["auto", "bubblewrap", "landlock-network", "landlock-files", "none"] = Field(
        "auto",
        description="rung of the sandbox ladder; auto: the highest that works here; none: no sandbox, on loopback only",
    )

    @field_validator("queues", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _resolve(self) -> Self:
        self.data_dir = self.data_dir.absolute()
        self.scratch = self.data_dir / self.scratch
        self.database_url = _database_url(self.database_url, self.data_dir)
        if not self.objects_url.startswith("s3://"):
            self.objects_url = str(self.data_dir / self.objects_url.removeprefix("file://"))
        if self.broker_url.startswith("filesystem://"):
            self.broker_url = f"filesystem://{self.data_dir / self.broker_url.removeprefix('filesystem://')}"
        elif not self.broker_url.startswith(("redis://", "rediss://")):
            raise ValueError("broker_url: give filesystem://FOLDER or redis://…")
        if (self.s3_access_key_id is None) != (self.s3_secret_access_key is None):
            raise ValueError("s3_access_key_id and s3_secret_access_key: give both or neither")
        if self.renew_seconds * 2 > self.lease_seconds:
            raise ValueError("renew_seconds: at most half of lease_seconds, or one late renewal loses the job")
        if self.sandbox == "none" and not self.on_loopback:
            raise ValueError("sandbox: 'none' is for a loopback host only")
        return self

    @property
    def worker_seconds(self) -> float:
        """A worker that has missed three sweeps isn't counted as present."""
        return 3 * self.sweep_seconds

    @property
    def on_loopback(self) -> bool:
        """Whether the API can be reached from this machine alone."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:  # a name, which may point anywhere
            return False


def _database_url(text: str, folder: Path) -> str:
    try:
        url = make_url(text)
    except ArgumentError as error:
        raise ValueError("database_url: not a database URL") from error
    if url.drivername in ("postgresql", "postgresql+psycopg"):
        return url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    if url.drivername in ("sqlite", "sqlite+pysqlite") and url.database not in (None, "", ":memory:"):
        return url.set(drivername="sqlite+pysqlite", database=str(folder / str(url.database))).render_as_string()
    raise ValueError("database_url: give sqlite+pysqlite:///FILE or postgresql+psycopg://…")
