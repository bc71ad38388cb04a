"""The fields beside a file on the upload page: what they hold, what is wrong with them, and the facts that they say."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from pydantic import ValidationError

from api.pages.form_field import Field
from api.pages.schema_form import field_of
from api.pages.schema_read import read
from api.problems import Fault, Problem, RequestInvalid, UploadEmpty, fault, pointer
from api.uploads.facts import DatasetFacts, ModelFacts, with_fields
from compression.json_schema import schema_of
from compression.zoo.catalog import ARCHITECTURES
from store.leases import UploadKind

Posted = Mapping[str, Sequence[str]]
ARGUMENTS = "/arguments"
TAG = "up to 50 letters, digits, dots, colons, hyphens or underscores"
FACTS: Mapping[UploadKind, type[DatasetFacts]] = {"model": ModelFacts, "dataset": DatasetFacts}


@dataclass(frozen=True)
class Filled:
    """One of the page's two forms, filled in. `faults`: what is wrong by field; those of `arguments`, the fields of the
    chosen architecture, are in it. `query`: all that was said, as `/v1` takes it; None while it wasn't looked at."""

    kind: UploadKind
    name: str = ""
    tags: str = ""
    architecture: str = ""
    shapes: str = ""
    arguments: Field | None = None
    faults: Mapping[str, str] = field(default_factory=dict)
    query: str | None = None

    @property
    def summary(self) -> list[tuple[str, str]]:
        """(id of a field, what is wrong with it), for the page's top."""
        own = [(f"{self.kind}-{name}", detail) for name, detail in self.faults.items()]
        return own + ([] if self.arguments is None else list(self.arguments.summary()))


def facts_of(facts: DatasetFacts, posted: Posted) -> DatasetFacts:
    """`facts` with what the page's fields say over them. RequestInvalid: each fault at its field's name."""
    said = {name: [value] for name in ("name", "filename") if (value := _last(posted, name))}
    if tags := [part.strip() for part in _last(posted, "tags").split(",") if part.strip()]:
        said["tag"] = tags
    faults: list[Fault] = []
    if isinstance(facts, ModelFacts) and (chosen := _last(posted, "architecture")):
        arguments, faults = _arguments(chosen, posted)
        if not faults:
            said["architecture"] = [json.dumps({"architecture": chosen, "arguments": arguments})]
    elif isinstance(facts, ModelFacts) and (text := _last(posted, "shapes")):
        said["architecture"] = [json.dumps({"inputs": _shapes(text)})]
    try:
        facts = with_fields(facts, said)
    except RequestInvalid as problem:
        faults += [_of_page(entry, tags) for entry in problem.errors]
    if faults:
        raise RequestInvalid("; ".join(entry["detail"] for entry in faults), faults)
    return facts


def filled(kind: UploadKind, posted: Posted, problem: Problem | None = None) -> Filled:
    """The form as it was filled in, with the faults that `problem` tells; without one, as it says itself."""
    query = None
    if problem is None:
        try:
            query = _query(facts_of(FACTS[kind](), posted))
        except RequestInvalid as wrong:
            problem = wrong
    faults = [] if problem is None else problem.errors or [fault("/file", _about_file(problem), "form")]
    inside = [entry for entry in faults if entry["pointer"].startswith(ARGUMENTS)]
    own = {entry["pointer"][1:].replace("filename", "file"): entry["detail"] for entry in faults if entry not in inside}
    architecture, arguments = _last(posted, "architecture"), None
    if architecture in ARCHITECTURES:
        schema = schema_of(ARCHITECTURES[architecture].arguments)
        arguments = field_of(schema, read(schema, posted, ARGUMENTS).document, ARGUMENTS, faults=inside)
    typed = {name: _last(posted, name) for name in ("name", "tags", "shapes")}
    return Filled(kind, **typed, architecture=architecture, arguments=arguments, faults=own, query=query)


def _last(posted: Posted, name: str) -> str:
    return (posted.get(name) or [""])[-1]


def _arguments(chosen: str, posted: Posted) -> tuple[dict[str, Any], list[Fault]]:
    if chosen not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        return {}, [fault("/architecture", f"no architecture is called {chosen[:50]}; known: {known}", "form")]
    model = ARCHITECTURES[chosen].arguments
    reading = read(schema_of(model), posted, ARGUMENTS)
    if reading.faults:
        return {}, reading.faults
    try:
        return model.model_validate(reading.document).model_dump(), []
    except ValidationError as error:
        return {}, [
            fault(ARGUMENTS + pointer(*entry["loc"]), entry["msg"].removeprefix("Value error, "), "form")
            for entry in error.errors(include_url=False, include_context=False, include_input=False)
        ]


def _shapes(text: str) -> dict[str, list[int]]:
    """ "image: 3 × 48 × 192; mask: 7" → each input's lengths by its name."""
    found = {}
    for entry in filter(str.strip, text.split(";")):
        name, _, lengths = entry.rpartition(":")
        if not name.strip() or not re.fullmatch(r"\s*[0-9]{1,10}(?:[\sx×*,]+[0-9]{1,10})*\s*", lengths):
            wrong = f"“{entry.strip()[:50]}” is no input with its lengths: write image: 3 × 48 × 192"
            raise RequestInvalid(wrong, [fault("/shapes", wrong, "form")])
        found[name.strip()] = [int(part) for part in re.findall(r"[0-9]+", lengths)]
    return found


def _of_page(entry: Fault, tags: Sequence[str]) -> Fault:
    """A fault of the API's fields, as one of the page's: all tags are in one, lengths have a field of their own."""
    name, *place = entry["pointer"].split("/")[1:]
    if name == "architecture":
        return fault("/shapes", entry["detail"].removeprefix("Value error, "), "form")
    if name != "tag":
        return entry
    if not place:
        return fault("/tags", entry["detail"], "form")
    return fault("/tags", f"“{tags[int(place[0])]}” is no tag: it takes {TAG}", "form")


def _about_file(problem: Problem) -> str:
    return "No file was chosen, or it is empty." if isinstance(problem, UploadEmpty) else problem.detail


def _query(facts: DatasetFacts) -> str:
    return urlencode(facts.model_dump(exclude_none=True, exclude={"filename"}), doseq=True)
