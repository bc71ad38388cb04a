"""Jobs as they are shown."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.uploads.schema import Reason

Json = dict[str, Any]
State = Literal["queued", "running", "succeeded", "failed", "canceled"]


class Step(BaseModel):
    index: int
    method: str
    state: Literal["pending", "running", "finished"]
    seconds: float | None


class ListedJob(BaseModel):
    model_config = ConfigDict(extra="forbid")
    id: str
    name: str | None
    tags: list[str]
    state: State
    model: str = Field(description="id of a model or of an artifact")
    dataset: str | None
    device: Literal["auto", "cpu", "gpu"] = Field(description="what the job asks for")
    attempt: int
    cancel_requested: bool
    retry_of: str | None
    progress: Json | None = Field(description="of the step that runs: index, fraction, message, metrics")
    times: dict[str, float] = Field(description="seconds by phase: waiting, fetching, measuring, publishing …")
    error: Reason | None
    sandbox: str | None = Field(description="rung of the sandbox ladder that it ran on")
    device_used: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class Job(ListedJob):
    steps: list[Step]


class JobPage(BaseModel):
    model_config = ConfigDict(extra="forbid")
    items: list[ListedJob]
    next: str | None = Field(description="cursor of the next page")
