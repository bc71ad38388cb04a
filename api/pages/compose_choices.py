"""What the compose page offers to choose: models and data that are ready, layers and methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from pydantic import ValidationError
from sqlalchemy import func, select

from api.jobs.submission import inapplicable
from api.pages import words
from api.pages.compose_edits import held
from api.pages.schema_form import Pick
from api.pages.schema_text import spoken
from api.problems import pointer
from compression.errors import SpecError
from compression.layout import place
from compression.registry import State, methods, validate_chain
from compression.selector import LayerSelector
from compression.spec import READABLE
from store.database import Database
from store.leases import UPLOADS
from store.states import JobState, UploadState
from store.tables import DEFAULT_WORKSPACE, artifact, job

Json = dict[str, Any]
MOST = 200  # newest of each kind; others by their id in the JSON, or from their own page
Choice = tuple[str, str]  # an id and what it is called


@dataclass(frozen=True)
class Choices:
    """What can be chosen, and how many models are being inspected."""

    models: list[Choice]
    artifacts: list[Choice]
    datasets: list[Choice]
    inspecting: int

    @property
    def every_model(self) -> list[Choice]:
        return [*self.models, *self.artifacts]


def choices(database: Database) -> Choices:
    files = (
        select(artifact.c.id, artifact.c.name, artifact.c.size, job.c.name.label("job"), job.c.id.label("job_id"))
        .join(job, job.c.id == artifact.c.job_id)
        .where(artifact.c.workspace_id == DEFAULT_WORKSPACE, job.c.state == JobState.SUCCEEDED)
        .order_by(artifact.c.id.desc())
        .limit(MOST)
    )
    model = UPLOADS["model"]
    waiting = select(func.count()).select_from(model).where(model.c.state == UploadState.INSPECTING)
    uploaded = {}
    with database.read() as connection:
        for kind, table in UPLOADS.items():
            ready = select(table.c.id, table.c.name, table.c.size, table.c.created_at).where(
                table.c.workspace_id == DEFAULT_WORKSPACE, table.c.state == UploadState.READY
            )
            rows = connection.execute(ready.order_by(table.c.id.desc()).limit(MOST))
            uploaded[kind] = [
                (row.id, f"{row.name} ({words.bytes_(row.size)}, {row.created_at:%Y-%m-%d})") for row in rows
            ]
        results = [
            (row.id, f"{row.job or row.job_id}: {row.name} ({words.bytes_(row.size)})")
            for row in connection.execute(files)
            if PurePath(row.name).suffix in READABLE
        ]
        inspecting = connection.execute(waiting).scalar_one()
    return Choices(uploaded["model"], results, uploaded["dataset"], inspecting)


def layer_picks(inspection: Json) -> Callable[[Json], Sequence[Pick]]:
    """All layers, those of each type, and each by name, with what a selector's value makes of it."""
    layers = inspection["layers"]
    types = {layer["name"]: layer["type"] for layer in layers}
    several = {kind: count for kind in types.values() if (count := list(types.values()).count(kind)) > 1}

    def picks(value: Json) -> list[Pick]:
        try:
            touched = LayerSelector.model_validate(value).select(types)
        except (ValidationError, SpecError):
            marks = dict.fromkeys(types, "")
        else:
            marks = {name: "touched" if name in touched else "left" for name in types}
        every = [("*", "All layers", f"{len(layers)}", "")]
        kinds = [(f"type:{kind}", f"Every {kind}", str(count), "") for kind, count in several.items()]
        return (
            every
            + kinds
            + [
                (
                    layer["name"],
                    layer["name"],
                    f"{layer['type']}, {words.short(layer['parameters'])} parameters",
                    marks[name],
                )
                for name, layer in zip(types, layers, strict=True)
            ]
        )

    return picks


@dataclass(frozen=True)
class Candidate:
    """A method to add. `against` says why it can't be at the end of this pipeline, on this model; empty: it can."""

    name: str
    title: str
    summary: str
    against: str = ""


def title(method: str) -> str:
    """prune.structured → "Prune: structured"."""
    return spoken(method.replace(".", ": "))


def candidates(state: State, inspection: Json | None) -> list[Candidate]:
    """Every method, in the state that the steps so far leave."""
    found = []
    for name, method in methods().items():
        against = ""
        if state not in method.accepts:
            against = f"takes a network that is {' or '.join(sorted(method.accepts))}; these steps leave it {state}"
        for wrong in inapplicable([name], inspection) if inspection is not None else ():
            against = wrong["detail"]
        found.append(Candidate(name, title(name), method.summary, against))
    return found


def state_after(names: Sequence[str]) -> State:
    """What the steps leave; after the first that can't follow, what those before it left."""
    for count in range(len(names), 0, -1):
        try:
            return validate_chain(list(names[:count]))
        except SpecError:
            continue
    return "float"


@dataclass(frozen=True)
class Hint:
    """A thing that is probably wanted, with the button that does it."""

    text: str
    do: str = field(default="")


def byte_hints(document: Json, model: Json, data: Json) -> dict[str, Hint]:
    """By input: its stored values are bytes, the network takes floats, and nothing brings the one to the other."""
    names = [entry["name"] for entry in model["inputs"] if entry["dtype"].startswith(("float", "bfloat"))]
    declared = held(document, "/data/preprocess")
    hints = {}
    for name in names:
        entry = declared.get(name, {}) if isinstance(declared, dict) else {}
        stored = _bytes_of(name, [item["name"] for item in model["inputs"]], data)
        if stored and isinstance(entry, dict) and entry.get("scale", 1) == 1:
            do = "bytes:" + pointer("data", "preprocess", name)
            hints[name] = Hint(f"{stored} hold bytes, 0 to 255; networks are mostly trained on 0 to 1.", do)
    return hints


def _bytes_of(name: str, inputs: Sequence[str], data: Json) -> str:
    """What holds bytes for an input, if anything does."""
    images: Mapping[str, Any] | None = data.get("images")
    if images is not None:
        return "The images" if images.get("max", 255) > 1 else ""
    for key, facts in data["arrays"].items():
        if place(key, inputs)[0] == name and facts["dtype"] == "uint8" and facts.get("max", 255) > 1:
            return f"The values of {key}"
    return ""
