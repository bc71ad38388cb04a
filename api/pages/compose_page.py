"""A job that is being put together, as its page: the form, what stands in its way, what it would come to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.responses import Response

from api.jobs.prediction import predict
from api.jobs.submission import Order, check, inapplicable, model_inspection, upload_inspection
from api.pages.compose_choices import Choices, byte_hints, candidates, choices, layer_picks, state_after, title
from api.pages.compose_edits import JOB, SCHEMA
from api.pages.form_field import SELECTOR, Field
from api.pages.json_text import printed
from api.pages.presets import PRESETS
from api.pages.schema_form import Offered, field_of
from api.pages.schema_node import trimmed
from api.pages.site import page
from api.problems import Fault, Problem, fault
from api.service import Service
from compression.errors import SpecError
from compression.registry import methods, validate_chain

Json = dict[str, Any]
Found = TypeVar("Found")


@dataclass(frozen=True)
class Draft:
    """`document` with all defaults; `faults` and `off` of reading it; `key`: one job comes of this form, however often
    it is sent; `asked`: faults are told also of what hasn't been filled in yet; `written`: JSON that isn't used yet,
    with what is wrong with it; `focus`: the id of where to go on; `notice` and `like`: what the page starts with."""

    document: Json
    key: str
    faults: list[Fault] = field(default_factory=list)
    off: Json = field(default_factory=dict)
    asked: bool = False
    written: str | None = None
    written_fault: str = ""
    focus: str = ""
    notice: str = ""
    like: str = ""


@dataclass(frozen=True)
class Judgement:
    """`order` is there when nothing stands in the way; the inspections where model and data are ready."""

    faults: list[Fault]
    order: Order | None
    model: Json | None
    data: Json | None


def judged(service: Service, draft: Draft) -> Judgement:
    """Everything that is wrong with a draft; what is wrong with one part doesn't hide what is with another."""
    document, faults = draft.document, list(draft.faults)
    unread = {entry["pointer"] for entry in draft.faults}
    chosen, given, names = document.get("model"), document.get("dataset"), method_names(document)
    model = data = order = None
    if isinstance(chosen, str):
        model = _tried(faults, "/model", lambda: model_inspection(service.database, chosen))
    elif chosen is None and draft.asked:
        faults.append(fault("/model", "choose a model"))
    if isinstance(given, str):
        data = _tried(faults, "/dataset", lambda: upload_inspection(service.database, "dataset", given))
    if model is not None:
        faults += inapplicable(names, model)
    try:
        validate_chain(names)
    except SpecError as error:
        faults.append(fault(error.where, error.message))
    if document.get("steps") == []:
        if draft.asked:
            faults.append(fault("/steps", "add at least one step"))
    else:
        found: list[Fault] = []
        order = _tried(found, "", lambda: check(service.database, document))
        # Told above, in other words: a model that isn't chosen, and fields that couldn't be read.
        faults += [entry for entry in found if entry["pointer"] not in unread | ({"/model"} if not chosen else set())]
    return Judgement(list(_once(faults)), order, model, data)


def _tried(faults: list[Fault], at: str, look: Callable[[], Found]) -> Found | None:
    """What is found; a problem's faults are added, one that names no field at `at`."""
    try:
        return look()
    except Problem as problem:
        faults += problem.errors or [fault(at, problem.detail)]
    return None


def _once(faults: Iterable[Fault]) -> Iterable[Fault]:
    """Each once, without what pydantic says of every fault."""
    told: set[str] = set()
    for entry in faults:
        detail = entry["detail"].removeprefix("Value error, ").removeprefix("Input ")
        if entry["pointer"] + detail not in told and not (detail in told and not entry["pointer"]):
            told |= {entry["pointer"] + detail, detail}
            yield {**entry, "detail": detail}


def method_names(document: Json) -> list[str]:
    """Of the steps up to the first that isn't one."""
    names: list[str] = []
    steps = document.get("steps")
    for step in steps if isinstance(steps, list) else ():
        name = step.get("method") if isinstance(step, dict) else None
        if not isinstance(name, str) or name not in methods():
            break
        names.append(name)
    return names


def compose_page(service: Service, draft: Draft, found: Judgement, *, status: int = 200) -> Response:
    choice = choices(service.database)
    if not choice.every_model and draft.document.get("model") is None:
        return page("compose_empty.html", here="/jobs/new", inspecting=choice.inspecting)
    form = _form(draft, found, choice)
    made = printed(trimmed(JOB, draft.document))
    text = made if draft.written is None else draft.written
    names = method_names(draft.document)
    return page(
        "compose.html",
        status=status,
        here="/jobs/new",
        draft=draft,
        form=form,
        parts_of={child.key: child for child in form.children},
        choices=choice,
        model=found.model,
        data=found.data,
        hints=byte_hints(draft.document, found.model, found.data) if found.model and found.data else {},
        candidates=candidates(state_after(names), found.model),
        title=title,
        summaries={name: method.summary for name, method in methods().items()},
        left_alone={name: verdict["details"] for name, verdict in (found.model or {}).get("methods", {}).items()},
        presets=PRESETS,
        faults=list(form.summary()),
        estimate=_estimate(found),
        json_text=text,
        json_made=json_digest(made),
    )


def json_digest(text: str) -> str:
    """Tells whether a text area still holds what was put there."""
    return hashlib.sha256(text.replace("\r\n", "\n").strip().encode()).hexdigest()


def _form(draft: Draft, found: Judgement, choice: Choices) -> Field:
    inputs = [entry["name"] for entry in found.model["inputs"]] if found.model else []
    offered = Offered(
        keys={"/data/preprocess": inputs},
        picks={SELECTOR: layer_picks(found.model)} if found.model and found.model["layers"] else {},
        formats={"model": choice.every_model},
        off=draft.off,
    )
    return field_of(SCHEMA, draft.document, faults=found.faults, offered=offered)


def _estimate(found: Judgement) -> list[Json] | None:
    """The network now and after each step, with shares of what it is now. None: there is no estimate."""
    if found.faults or found.order is None:
        return None
    prediction = predict(found.order)
    original = prediction["original"]
    if original is None:
        return []
    rows = [{"title": "Now", "figures": original}]
    rows += [
        {"title": f"{step['index'] + 1}. {title(step['method'])}", "figures": step["predicted"]}
        for step in prediction["steps"]
    ]
    for row in rows:
        row["shares"] = {
            name: value / original[name] if original[name] else 0 for name, value in row["figures"].items()
        }
    return rows
