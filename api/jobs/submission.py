"""Whether a job can be run, told before anything is spent on it: every fault with the JSON pointer of its field."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from pydantic import ValidationError
from sqlalchemy import RowMapping

from api import problems
from api.jobs.fit import data_faults, model_fault
from api.paging import UNPRINTABLE
from api.problems import Fault, fault, pointer
from compression.errors import SpecError
from compression.model_ids import referenced_models
from compression.registry import StepSpec
from compression.selector import LayerSelector
from compression.spec import READABLE, JobSpec, field_errors, require_data
from store import jobs, uploads
from store.database import Database
from store.leases import UploadKind

Json = dict[str, Any]
SOON = {"Retry-After": "1"}

_PROBLEMS: dict[UploadKind, tuple[type[problems.Problem], type[problems.Problem]]] = {
    "model": (problems.ModelNotReady, problems.ModelRejected),
    "dataset": (problems.DatasetNotReady, problems.DatasetRejected),
}


@dataclass(frozen=True)
class Order:
    """A job that can be run. `inspection` of its model is None for an artifact that came without one. `other_models`:
    ids that its steps name."""

    spec: JobSpec
    inspection: Json | None
    other_models: Sequence[str] = ()

    @property
    def stored_spec(self) -> Json:
        """The spec with every default spelt out: what `/spec` shows, and what runs."""
        return self.spec.model_dump(mode="json")


def check(database: Database, value: Any) -> Order:
    """Raises JobInvalid, ModelNotReady, ModelRejected, DatasetNotReady, DatasetRejected or MethodInapplicable."""
    spec = _parse(value)
    inspection = model_inspection(database, spec.model)
    data = None if spec.dataset is None else upload_inspection(database, "dataset", spec.dataset)
    if inspection is not None:
        _refuse(problems.MethodInapplicable, list(inapplicable([step.method for step in spec.steps], inspection)))
        faults = list(_unmatched(spec, inspection))
        if data is not None:
            faults += data_faults(spec, inspection, data)
        _refuse(problems.JobInvalid, faults)
    if data is None:
        _require_data(spec)
    return Order(spec, inspection, _other_models(database, spec, inspection))


def _other_models(database: Database, spec: JobSpec, inspection: Json | None) -> list[str]:
    """Ids of the models that the steps name. Raises what `model_inspection` does, at the field that names one, and
    JobInvalid for one that doesn't fit beside the job's own model."""
    named = referenced_models(spec)
    found = {place: model_inspection(database, id_, place) for place, id_ in named.items()}
    if inspection is not None:
        faults = [
            fault(place, f"{named[place]}: {reason}")
            for place, other in found.items()
            if other is not None and (reason := model_fault(inspection, other)) is not None
        ]
        _refuse(problems.JobInvalid, faults)
    return list(named.values())


def _refuse(kind: type[problems.Problem], faults: list[Fault]) -> None:
    if faults:
        raise kind("; ".join(f"{entry['pointer']}: {entry['detail']}" for entry in faults), faults)


def _invalid(pointer: str, detail: str) -> problems.JobInvalid:
    return problems.JobInvalid(f"{pointer}: {detail}", [fault(pointer, detail)])


def _parse(value: Any) -> JobSpec:
    try:
        spec = JobSpec.model_validate(value)
    except ValidationError as error:
        _refuse(problems.JobInvalid, [fault(entry["pointer"], entry["message"]) for entry in field_errors(error)])
        raise
    except SpecError as error:  # of the chain of steps
        raise _invalid(error.where, error.message) from error
    if (place := _unprintable(value)) is not None:
        raise _invalid(place, "text with control characters, or with half a character")
    return spec


def _require_data(spec: JobSpec) -> None:
    try:
        require_data(spec)
    except SpecError as error:
        raise _invalid(error.where, error.message) from error


def _unprintable(value: Any, path: tuple[str | int, ...] = ()) -> str | None:
    """Where the document has a NUL, which Postgres refuses in text, another control character, or a lone surrogate,
    which no encoding has."""
    if isinstance(value, str):
        return pointer(*path) if UNPRINTABLE.search(value) else None
    entries: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        if any(UNPRINTABLE.search(key) for key in value):
            return pointer(*path)
        entries = list(value.items())
    elif isinstance(value, list):
        entries = list(enumerate(value))
    found = (_unprintable(entry, (*path, key)) for key, entry in entries)
    return next((place for place in found if place is not None), None)


def model_inspection(database: Database, id_: str | None, at: str = "/model") -> Json | None:
    """What is known of a job's model, if anything; `at` is the field that names it. Raises JobInvalid, ModelNotReady or
    ModelRejected."""
    if id_ is None:
        raise _invalid(at, "a job needs the id of a model or of an artifact")
    if id_.startswith("art_"):
        return _artifact(database, id_, at)
    return upload_inspection(database, "model", id_, at)


def _artifact(database: Database, id_: str, at: str) -> Json | None:
    row = None if UNPRINTABLE.search(id_) else jobs.find_artifact(database, id_)
    if row is None:
        raise _invalid(at, f"no artifact has the id {id_}")
    kind = PurePath(row["name"]).suffix
    if kind not in READABLE:
        read = " or ".join(READABLE)
        raise _invalid(at, f"{row['name']} can't be a job's model: take the {read} file of the same job")
    inspection: Json | None = row["inspection"]
    return inspection


def upload_inspection(database: Database, kind: UploadKind, id_: str, at: str | None = None) -> Json:
    """What the inspection of a model or a dataset found; the problem names the field that holds its id (`at`; none: the
    job's own)."""
    at = at or f"/{kind}"
    not_ready, rejected = _PROBLEMS[kind]
    row = None if UNPRINTABLE.search(id_) else uploads.find(database, kind, id_)
    if row is None:
        raise _invalid(at, f"no {kind} has the id {id_}")
    if row["state"] == "inspecting":
        raise not_ready(f"{id_} is being inspected: try again", headers=SOON)
    if row["state"] == "rejected":
        raise rejected(_reason(row), [fault(at, _reason(row))])
    inspection: Json = row["inspection"]
    return inspection


def _reason(row: RowMapping) -> str:
    return f"{row['id']} was refused: {row['problem']['message']}"


def inapplicable(names: Sequence[str], inspection: Json) -> Iterator[Fault]:
    """Of the steps' methods, by the verdict of each one's own check on the model as it was uploaded."""
    for index, name in enumerate(names):
        verdict = inspection["methods"].get(name)  # none: the method is newer than the inspection
        if verdict is not None and not verdict["applicable"]:
            at = f" (at {verdict['where']})" if verdict["where"] else ""
            yield fault(f"/steps/{index}/method", f"{name} can't run on this model: {verdict['reason']}{at}")


def _unmatched(spec: JobSpec, inspection: Json) -> Iterator[Fault]:
    """Patterns of layer selectors that match none of the layers inspected. Of a model that couldn't be taken apart no
    layers are known: the engine tells."""
    if not inspection["layers"]:
        return
    types = {layer["name"]: layer["type"] for layer in inspection["layers"]}
    for index, step in enumerate(spec.steps):
        for name, selector in _selectors(step):
            for field, place, message in selector.unmatched(types):
                yield fault(pointer("steps", index, name, field, place), message)


def _selectors(step: StepSpec) -> Iterator[tuple[str, LayerSelector]]:
    for name in type(step).model_fields:
        value = getattr(step, name)
        if isinstance(value, LayerSelector):
            yield name, value
