"""The tables. Every one has `workspace_id` ("default" until access control comes), so that none is added later."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

from store.clock import UtcDateTime, now

DEFAULT_WORKSPACE = "default"

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Id = String(40)
Json = JSON(none_as_null=True)


def _workspace() -> Column[str]:
    return Column("workspace_id", Id, nullable=False, default=DEFAULT_WORKSPACE)


def _created() -> Column[object]:
    return Column("created_at", UtcDateTime, nullable=False, default=now())


def _lease() -> list[Column[object]]:
    """Who works on a row, at which attempt and until when; `rung_at` is when its queue was last rung for it."""
    return [
        Column("attempt", Integer, nullable=False, default=0),
        Column("lease_until", UtcDateTime),
        Column("worker", Text),
        Column("rung_at", UtcDateTime),
    ]


# Uploaded bytes, content-addressed; `workspace_id` is the first uploader's. A blob goes with the last row that has it.
blob = Table(
    "blob",
    metadata,
    Column("sha256", String(64), primary_key=True),
    _workspace(),
    Column("size", BigInteger, nullable=False),
    Column("key", Text, nullable=False),
    _created(),
)


def _open_rows(name: str, column: str, condition: str) -> Index:
    """An index of only the few rows that wait or are worked on: what the sweeper looks for."""
    return Index(name, column, sqlite_where=text(condition), postgresql_where=text(condition))


def _upload(name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("id", Id, primary_key=True),
        _workspace(),
        Column("name", Text, nullable=False),
        Column("tags", Json, nullable=False, default=list),
        Column("filename", Text, nullable=False),
        Column("architecture", Json),  # {"architecture": NAME, "arguments": {…}} for weights without a graph
        Column("size", BigInteger, nullable=False),
        Column("sha256", String(64), ForeignKey("blob.sha256"), nullable=False),
        Column("state", String(16), nullable=False, default="inspecting"),
        Column("inspection", Json),  # what the engine's child found, once ready
        Column("problem", Json),  # {"kind", "message", "where"}, once rejected
        *_lease(),
        _created(),
        Column("updated_at", UtcDateTime, nullable=False, default=now()),
        CheckConstraint("state IN ('inspecting', 'ready', 'rejected')", name="state"),
        Index(None, "workspace_id", "id"),
        Index(None, "sha256"),
        _open_rows(f"ix_{name}_open", "rung_at", "state = 'inspecting'"),
    )


model = _upload("model")
dataset = _upload("dataset")

job = Table(
    "job",
    metadata,
    Column("id", Id, primary_key=True),
    _workspace(),
    Column("name", Text),
    Column("tags", Json, nullable=False, default=list),
    Column("idempotency_key", Text),
    Column("retry_of", Id),
    Column("parent_id", Id),
    Column("model_id", Id, nullable=False),  # of a model or of an artifact, so no foreign key
    Column("dataset_id", Id),
    Column("spec", Json, nullable=False),
    Column("device", String(8), nullable=False, default="auto"),  # what the job asks for
    Column("state", String(16), nullable=False, default="queued"),
    Column("max_attempts", Integer, nullable=False),
    *_lease(),
    Column("cancel_requested", Boolean, nullable=False, default=False, server_default=false()),
    Column("progress", Json),
    Column("error", Json),  # {"kind", "message", "where"}
    Column("report", Json),
    Column("sandbox", Text),
    Column("device_used", Text),
    Column("times", Json, nullable=False, default=dict),  # seconds by name: waiting, fetching, measuring, publishing …
    _created(),
    Column("started_at", UtcDateTime),  # of the first attempt
    Column("finished_at", UtcDateTime),
    Column("version", BigInteger, nullable=False, default=1),  # grows with every write
    CheckConstraint("state IN ('queued', 'running', 'succeeded', 'failed', 'canceled')", name="state"),
    CheckConstraint("device IN ('auto', 'cpu', 'gpu')", name="device"),
    UniqueConstraint("workspace_id", "idempotency_key"),
    Index(None, "workspace_id", "id"),
    Index(None, "workspace_id", "state", "id"),
    Index(None, "model_id"),
    Index(None, "dataset_id"),
    Index(None, "parent_id"),
    _open_rows("ix_job_queued", "rung_at", "state = 'queued'"),
    _open_rows("ix_job_running", "lease_until", "state = 'running'"),
)

# Models and artifacts that a job's steps name beside its own model: teachers, a student.
job_model = Table(
    "job_model",
    metadata,
    Column("job_id", Id, ForeignKey("job.id", ondelete="CASCADE"), primary_key=True),
    Column("model_id", Id, primary_key=True),
    _workspace(),
    Index(None, "model_id"),
)

step = Table(
    "step",
    metadata,
    Column("job_id", Id, ForeignKey("job.id", ondelete="CASCADE"), primary_key=True),
    Column("index", Integer, primary_key=True, autoincrement=False),
    _workspace(),
    Column("method", Text, nullable=False),
    Column("config", Json, nullable=False),
    Column("state", String(16), nullable=False, default="pending"),
    Column("seconds", Float),
    Column("record", Json),
    CheckConstraint("state IN ('pending', 'running', 'finished', 'stopped')", name="state"),
)

event = Table(
    "event",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("job_id", Id, ForeignKey("job.id", ondelete="CASCADE"), nullable=False),
    _workspace(),
    Column("attempt", Integer, nullable=False),
    Column("at", UtcDateTime, nullable=False, default=now()),
    Column("kind", Text, nullable=False),
    Column("data", Json, nullable=False, default=dict),
    Index(None, "job_id", "id"),
    sqlite_autoincrement=True,  # an id is never used twice: clients resume after the last one they saw
)

artifact = Table(
    "artifact",
    metadata,
    Column("id", Id, primary_key=True),
    _workspace(),
    Column("job_id", Id, ForeignKey("job.id", ondelete="CASCADE"), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("media_type", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("key", Text, nullable=False),
    Column("inspection", Json),
    Column("source_model_id", Id, nullable=False),  # the model or artifact that it was made from
    _created(),
    UniqueConstraint("job_id", "name"),
    Index(None, "workspace_id", "id"),
)

worker = Table(
    "worker",
    metadata,
    Column("name", Text, primary_key=True),
    _workspace(),
    Column("queues", Json, nullable=False),
    Column("device", Text, nullable=False),
    Column("sandbox", Text, nullable=False),
    _created(),
    Column("seen_at", UtcDateTime, nullable=False, default=now()),
)
