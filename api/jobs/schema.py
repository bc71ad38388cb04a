"""Jobs as they are shown."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.uploads.schema import Reason

Json = dict[str, Any]
State = Literal["queued", "running", "succeeded", "failed", "canceled"]


EXAMPLE: Json = {
    "id": "job_01K9QZ5V0V8Y3V6D1S8M4T2N7C",
    "name": "a third of the MACs",
    "tags": ["resnet20"],
    "state": "running",
    "model": "mdl_01K9QZ4H3M0T9W2X6R5B8C1D7E",
    "dataset": "dst_01K9QZ4R6P5N3J8K2F7G1H9A0B",
    "device": "auto",
    "attempt": 1,
    "cancel_requested": False,
    "retry_of": None,
    "progress": {"index": 0, "fraction": 0.42, "message": "epoch 3 of 5", "metrics": {"accuracy": 0.912}},
    "times": {"waiting": 0.09, "fetching": 0.21},
    "error": None,
    "sandbox": "bubblewrap",
    "device_used": "cpu",
    "created_at": "2026-11-02T09:30:00.120000+00:00",
    "started_at": "2026-11-02T09:30:00.210000+00:00",
    "finished_at": None,
    "steps": [{"index": 0, "method": "prune.structured", "state": "running", "seconds": None}],
}


class Step(BaseModel):
    index: int
    method: str
    state: Literal["pending", "running", "finished", "stopped"]
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
    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})
    steps: list[Step]


class JobPage(BaseModel):
    model_config = ConfigDict(extra="forbid")
    items: list[ListedJob]
    next: str | None = Field(description="cursor of the next page")
