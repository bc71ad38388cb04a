"""Uploads as they are shown."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import RowMapping

Json = dict[str, Any]
State = Literal["inspecting", "ready", "rejected"]


class Reason(BaseModel):
    """Why the engine refused or failed: a stable `kind`, a message, and the layer, field or file at fault."""

    kind: str
    message: str
    where: str


class Upload(BaseModel):
    model_config = ConfigDict(extra="forbid")
    id: str
    name: str
    tags: list[str]
    filename: str
    size: int = Field(description="bytes")
    sha256: str
    state: State
    problem: Reason | None = Field(description="why it was refused, once rejected")
    created_at: datetime
    updated_at: datetime


class Dataset(Upload):
    inspection: Json | None = Field(
        description="once ready: `arrays` by name with shape, type and range, or `images` with their sizes and "
        "channels; samples by split (`splits`); `labels` with task, classes and counts; up to eight `samples` as PNG "
        "in base64; `warnings` {kind, message, where}: what looks wrong and is no fault"
    )


class Model(Upload):
    architecture: Json | None = Field(description="as it was given: what weights belong to, or shapes")
    inspection: Json | None = Field(
        description="once ready: inputs, outputs, cost, layers, and for every method whether it can run (`methods`)"
    )


class ListedUpload(Upload):
    architecture: Json | None = None


class UploadPage(BaseModel):
    model_config = ConfigDict(extra="forbid")
    items: list[ListedUpload]
    next: str | None = Field(description="cursor of the next page")


def shown(row: RowMapping) -> Json:
    """A row without what is the service's own business."""
    columns = ("id", "name", "tags", "filename", "size", "sha256", "state", "problem", "architecture", "inspection")
    seen = {name: row[name] for name in columns if name in row}
    if row["id"].startswith("dst_"):
        del seen["architecture"]
    return {**seen, **{name: row[name].isoformat() for name in ("created_at", "updated_at")}}
