"""What a button of the compose page does to the job's document: `VERB:POINTER`, as in `up:/steps/1`.

    add:/steps#METHOD  up:/steps/1  down:/steps/1  remove:/steps/1  remove:/data/preprocess/x  bytes:/data/preprocess/x
    preset:NAME

Each answers with the document and the id of the element to look at next.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from api.pages.form_field import identifier
from api.pages.presets import PRESETS
from api.pages.schema_node import MISSING, Json, Node, completed, node_of
from compression.json_schema import schema_of
from compression.registry import methods
from compression.spec import JobSpec

SCHEMA = schema_of(JobSpec)
JOB = node_of(SCHEMA)
ONE_BYTE = 1 / 255  # brings 0 … 255 to 0 … 1


def edited(document: Json, do: str) -> tuple[Json, str]:
    """A new document. A button that this document has no place for changes nothing."""
    verb, _, place = do.partition(":")
    changed = deepcopy(document)
    if verb == "preset":
        chosen = next((preset for preset in PRESETS if preset.name == place), None)
        if chosen is not None:
            steps = chosen.pipeline(data=document.get("dataset") is not None)
            return _with_exports(completed(JOB, {**changed, "steps": deepcopy(steps)})), identifier("/steps/0")
    elif verb == "add":
        grown, focus = _added(changed, *place.partition("#")[::2])
        return _with_exports(grown), focus
    elif verb in {"up", "down", "remove", "bytes"}:
        parent, _, part = place.rpartition("/")
        key = part.replace("~1", "/").replace("~0", "~")
        if verb == "bytes":
            return _scaled(changed, parent, key), identifier(f"{place}/scale")
        found = held(changed, parent)
        if isinstance(found, list) and key.isdecimal() and int(key) < len(found):
            return changed, _moved(found, verb, int(key), parent)
        if isinstance(found, dict) and verb == "remove":
            found.pop(key, None)
    return changed, ""


def _with_exports(document: Json) -> Json:
    """Where nobody has chosen exports yet, those that the last step's network can be delivered in."""
    names = [step.get("method") for step in document.get("steps", []) if isinstance(step, dict)]
    last = methods().get(str(names[-1])) if names else None
    untouched = document.get("exports") == JobSpec.model_fields["exports"].default
    if last is not None and last.leaves == "integer" and untouched:
        return {**document, "exports": ["onnx"]}
    return document


def held(document: Any, place: str) -> Any:
    """What is at a pointer, or None."""
    for part in place.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(document, dict):
            document = document.get(key)
        elif isinstance(document, list) and key.isdecimal() and int(key) < len(document):
            document = document[int(key)]
        else:
            return None
    return document


def _moved(entries: list[Any], verb: str, place: int, parent: str) -> str:
    """Moves or removes an entry. The focus stays on the button pressed, or goes where it still can do something."""
    entry = entries.pop(place)
    if verb == "remove":
        left = min(place, len(entries) - 1)
        return identifier(f"{parent}/{left}" if entries else parent)
    target = min(max(place + (1 if verb == "down" else -1), 0), len(entries))
    entries.insert(target, entry)
    ends = {"up": target == 0, "down": target == len(entries) - 1}
    other = "down" if verb == "up" else "up"
    return f"{identifier(f'{parent}/{target}')}-{other if ends[verb] else verb}"


def _added(document: Json, place: str, tag: str) -> tuple[Json, str]:
    """A new entry with its defaults at the end of a list of objects; `tag` tells of which kind."""
    rows = _node(document, place)
    if rows is None or rows.kind != "rows":
        return document, ""
    entries = held(document, place)
    if not isinstance(entries, list):
        return document, ""
    item = rows.item()
    if item.kind == "union":
        if tag not in item.tags:
            return document, ""
        entries.append(completed(item, {item.tag: tag}))
    else:
        entries.append(completed(item, {}))
    return document, identifier(f"{place}/{len(entries) - 1}")


def _node(document: Any, place: str) -> Node | None:
    """The schema's node at a pointer into this document."""
    node: Node | None = JOB
    for part in place.split("/")[1:]:
        if node is not None and node.kind == "union":
            node = node.variant(document)
        if node is None:
            return None
        if node.kind == "group":
            node = node.children().get(part)
        elif node.kind in {"rows", "map"}:
            node = node.item()
        else:
            return None
        document = held(document, f"/{part}")
    return node


def _scaled(document: Json, place: str, key: str) -> Json:
    """The entry of a map with the scale of bytes."""
    entries, node = held(document, place), _node(document, place)
    if isinstance(entries, dict) and node is not None and node.kind == "map":
        default = node.item().default
        entry = entries.get(key, {} if default is MISSING else default)
        if isinstance(entry, dict):
            entries[key] = {**entry, "scale": ONE_BYTE}
    return document
