"""Forms made from JSON schemas: what they show, what they say when posted, and that nothing is lost between."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from api.pages.form_field import Field as FormField
from api.pages.schema_form import Offered, field_of
from api.pages.schema_node import MISSING, Node, completed, node_of, same, trimmed
from api.pages.schema_read import Reading, read
from api.pages.schema_text import number
from api.pages.site import _environment
from compression.json_schema import schema_of
from compression.registry import methods
from compression.spec import JobSpec
from compression.zoo.catalog import ARCHITECTURES
from tests.api.pages.form_posts import Posted, posted


class Circle(BaseModel):
    shape: Literal["circle"] = "circle"
    radius: float = Field(1.0, gt=0)


class Square(BaseModel):
    shape: Literal["square"] = "square"
    side: int
    corners: list[Annotated[int, Field(ge=0)]] | None = Field(None, min_length=1)


class Everything(BaseModel):
    """One place of each kind."""

    flag: bool = True
    maybe: bool | None = None
    budget: int | Literal["auto"] = "auto"
    bits: dict[str, int] = {}
    note: Annotated[str, Field(max_length=80)] = ""
    words: list[Annotated[str, Field(pattern=r"^\w+$")]] = ["one"]
    mode: Literal["fast", "slow_and_good"] | None = "fast"
    limit: int | None = 3
    needed: float
    inside: Circle | None = None
    drawn: Annotated[Circle | Square, Field(discriminator="shape")] = Circle()
    goals: list[Square] = []
    by_name: dict[str, Circle] = {}
    made: Circle = Field(default_factory=lambda: Circle(radius=5))


SCHEMAS = {
    "job": schema_of(JobSpec),
    "everything": schema_of(Everything),
    **{name: schema_of(method.spec) for name, method in methods().items()},
    **{name: schema_of(known.arguments) for name, known in ARCHITECTURES.items()},
}
FORM = _environment().from_string('{% import "fields.html" as fields %}{{ fields.inside(form) }}')


def sent(schema: dict[str, Any], document: Any, offered: Offered | None = None) -> Posted:
    return posted(FORM.render(form=field_of(schema, document, "/at", offered=offered)))


LETTERS = st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"))
KEYS = st.text(LETTERS, min_size=1, max_size=8)
ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**20) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


def values(node: Node) -> st.SearchStrategy[Any]:
    """Random values of a place, within its bounds."""
    found = _values(node)
    return st.none() | found if node.nullable else found


def _values(node: Node) -> st.SearchStrategy[Any]:
    schema = node.schema
    if node.kind in {"integer", "number"}:
        return _numbers(node)
    fewest = schema.get("minItems", 0)
    match node.kind:
        case "switch":
            return st.booleans()
        case "text" | "mixed":
            words = st.text(LETTERS, min_size=1, max_size=20).map(str.strip).filter(str.isidentifier)
            return words | (st.integers() if node.kind == "mixed" else st.just("a - b"))
        case "choice":
            return st.sampled_from(node.options())
        case "choices":
            return st.lists(st.sampled_from(node.options()), unique=True, min_size=fewest)
        case "words" | "lines":
            letters = st.text("abcxyz*:_", min_size=1, max_size=8)
            return st.lists(letters, unique=True, min_size=fewest, max_size=5)
        case "numbers" | "rows":
            return st.lists(values(node.item()), min_size=fewest, max_size=4)
        case "map":
            return st.dictionaries(KEYS, values(node.item()), max_size=3)
        case "union":
            return st.sampled_from(node.tags).flatmap(lambda tag: _variant(node, tag))
        case "group":
            return _objects(node)
        case "constant":
            return st.just(node.default)
    return st.dictionaries(KEYS, ANY, max_size=2)


def _numbers(node: Node) -> st.SearchStrategy[Any]:
    schema = node.schema
    if node.kind == "integer":
        lowest = schema.get("minimum", schema.get("exclusiveMinimum", -1000) + 1)
        return st.integers(lowest, schema.get("maximum", schema.get("exclusiveMaximum", 10**6) - 1))
    lowest = schema.get("minimum", schema.get("exclusiveMinimum", -1e9))
    highest = schema.get("maximum", schema.get("exclusiveMaximum", 1e9))
    opened = {"exclude_min": "exclusiveMinimum" in schema, "exclude_max": "exclusiveMaximum" in schema}
    return st.floats(lowest, highest, **opened) | st.sampled_from([value for value in (1 / 255, 1) if value < highest])


def _objects(node: Node) -> st.SearchStrategy[Any]:
    children = node.children()
    needed = {name: values(child) for name, child in children.items() if child.default is MISSING}
    return st.fixed_dictionaries(
        needed, optional={name: values(child) for name, child in children.items() if name not in needed}
    )


def _variant(node: Node, tag: str) -> st.SearchStrategy[Any]:
    chosen = node.variant({node.tag: tag})
    assert chosen is not None
    return _values(chosen).map(lambda value: {**value, node.tag: tag})


def free(node: Node) -> set[str]:
    """Names of places that hold any JSON."""
    match node.kind:
        case "group":
            children = node.children()
            below = set().union(*(free(child) for child in children.values()))
            return below | {name for name, child in children.items() if child.kind == "json"}
        case "union":
            variants = [node.variant({node.tag: tag}) for tag in node.tags]
            return set().union(*(free(variant) for variant in variants if variant is not None))
        case "rows" | "map":
            return free(node.item())
    return set()


def expected(node: Node, document: Any) -> Any:
    """The document as it comes back: with its defaults, and without entries of maps that say no more than theirs."""
    return _tidy(node, completed(node, document))


def _tidy(node: Node, value: Any) -> Any:
    if node.kind == "union" and (chosen := node.variant(value)) is not None:
        return _tidy(chosen, value)
    if node.kind == "group" and isinstance(value, dict):
        children = node.children()
        return {name: _tidy(children[name], entry) if name in children else entry for name, entry in value.items()}
    if node.kind == "rows" and isinstance(value, list):
        return [_tidy(node.item(), entry) for entry in value]
    if node.kind == "map" and isinstance(value, dict):
        return {key: entry for key, entry in value.items() if not same(entry, node.item().default)}
    if node.kind == "choices" and isinstance(value, list):
        return sorted(value, key=str)
    return value


@pytest.mark.parametrize("name", SCHEMAS)
@given(data=st.data())
def test_a_form_posts_the_document_it_was_made_from(name: str, data: st.DataObject) -> None:
    node = node_of(SCHEMAS[name])
    document = data.draw(values(node))
    texts = sent(SCHEMAS[name], document)
    reading = read(SCHEMAS[name], texts, "/at")
    assert same(_tidy(node, reading.document), expected(node, document))
    assert reading.faults == []
    as_json = {text.rpartition("/")[2] for text in texts if text.startswith("json:")}
    assert as_json <= {"maybe", *free(node)}  # all else has a field of its own


@given(data=st.data(), wrong=ANY)
def test_what_fits_no_field_is_kept_as_it_was_written(data: st.DataObject, wrong: Any) -> None:
    """A document from elsewhere may hold anything anywhere."""
    schema = SCHEMAS[data.draw(st.sampled_from(["everything", "job"]))]
    node = node_of(schema)
    document = data.draw(values(node))
    document[data.draw(st.sampled_from(["x", *document]))] = wrong
    reading = read(schema, sent(schema, document), "/at")
    assert same(_tidy(node, reading.document), expected(node, document))


@pytest.mark.parametrize("name", SCHEMAS)
@given(data=st.data())
def test_what_is_left_out_of_a_document_is_what_its_defaults_say(name: str, data: st.DataObject) -> None:
    node = node_of(SCHEMAS[name])
    document = data.draw(values(node))
    short = trimmed(node, completed(node, document))
    assert same(completed(node, short), completed(node, document))
    assert same(trimmed(node, short), short)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_written_so_that_it_is_read_again(value: float) -> None:
    class One(BaseModel):
        value: float

    assert read(One.model_json_schema(), {"/value": [number(value)]}).document == {"value": value}


def prune(**posted_texts: str) -> tuple[FormField, Reading]:
    schema = SCHEMAS["prune.structured"]
    reading = read(schema, {f"/{name}": [text] for name, text in posted_texts.items()})
    return field_of(schema, reading.document, faults=reading.faults), reading


def test_a_text_that_is_no_number_is_kept_with_its_fault() -> None:
    form, reading = prune(rounds="many", macs_ratio="half")
    assert [entry["pointer"] for entry in reading.faults] == ["/macs_ratio", "/rounds"]
    assert form.at("rounds").value == "many"
    assert form.at("rounds").faults == ("write a whole number, not “many”",)
    assert next(iter(form.summary())) == ("f.macs_ratio", "MACs ratio: write a number, not “half”")


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.25", 0.25), (" 1/4 ", 0.25), (".5", 0.5), ("1e-3", 0.001), ("", None), ("1/0", "1/0"), ("0,5", "0,5")],
)
def test_numbers_as_people_write_them(text: str, value: float | str | None) -> None:
    assert prune(macs_ratio=text)[1].document["macs_ratio"] == value


def test_an_empty_field_means_null_or_else_the_default() -> None:
    document = prune(parameters_ratio="", rounds="", importance="")[1].document
    assert (document["parameters_ratio"], document["rounds"], document["importance"]) == (None, 3, "taylor")


def test_a_missing_value_without_a_default_is_a_fault() -> None:
    reading = read(SCHEMAS["everything"], {"/needed": [""]})
    assert reading.faults == [{"in": "body", "pointer": "/needed", "detail": "a value is needed"}]
    assert "needed" not in reading.document


def test_a_group_that_is_off_is_null_and_remembers_what_was_in_it() -> None:
    schema = SCHEMAS["prune.structured"]
    off = read(schema, {"shown": ["/finetune"], "/finetune/epochs": ["7"]})
    assert off.document["finetune"] is None
    form = field_of(schema, off.document, offered=Offered(off=off.off))
    assert not form.at("finetune").on
    assert form.at("finetune").at("epochs").value == "7"
    on = read(schema, {"shown": ["/finetune"], "/finetune": ["on"], "/finetune/epochs": ["7"]})
    assert on.document["finetune"]["epochs"] == 7


def test_words_of_a_field() -> None:
    form = field_of(SCHEMAS["prune.structured"], {"method": "prune.structured"})
    ratio, rounds, training = form.at("macs_ratio"), form.at("rounds"), form.at("finetune")
    assert (ratio.label, ratio.limits, ratio.empty) == ("MACs ratio", "above 0, below 1", "none")
    assert (rounds.label, rounds.limits, rounds.value, rounds.empty) == ("Rounds", "1 to 50", "3", "3")
    assert (training.at("epochs").value, training.at("epochs").limits) == ("1", "above 0, at most 1,000")
    assert "MACs left" in ratio.help


def test_a_default_that_a_function_makes_is_shown() -> None:
    made = field_of(SCHEMAS["everything"], {}).at("made")
    assert (made.at("radius").value, made.changed) == ("5", False)
    assert "made" not in trimmed(node_of(SCHEMAS["everything"]), {"made": Everything(needed=1).made.model_dump()})


def test_a_fault_below_all_fields_is_told_at_the_nearest() -> None:
    faults = [
        {"in": "body", "pointer": "/layers/include/3", "detail": "no layer"},
        {"in": "body", "pointer": "", "detail": "one target"},
    ]
    form = field_of(SCHEMAS["prune.structured"], {}, faults=faults)
    assert form.at("layers").at("include").faults == ("no layer",)
    assert form.faults == ("one target",)
    assert form.at("layers").faulty


def test_a_map_offers_keys_and_keeps_what_differs() -> None:
    schema = SCHEMAS["job"]
    offered = Offered(keys={"/data/preprocess": ["image", "a/b"]})
    form = field_of(schema, {"steps": []}, offered=offered)
    assert [child.label for child in form.at("data").at("preprocess").children] == ["image", "a/b"]
    document = read(schema, {"/data/preprocess/a~1b/scale": ["1/255"], "/data/preprocess/image/scale": ["1"]}).document
    assert list(document["data"]["preprocess"]) == ["a/b"]
    assert document["data"]["preprocess"]["a/b"]["scale"] == 1 / 255


@pytest.mark.parametrize("text", ["two\nlines", " edge", "nul\0", ""])
def test_a_text_that_a_field_would_change_is_shown_as_json(text: str) -> None:
    schema = SCHEMAS["job"]
    assert field_of(schema, {"name": text}).at("name").kind == "json"
    assert read(schema, sent(schema, {"name": text}), "/at").document["name"] == text


def test_texts_of_a_format_are_chosen_among_those_offered() -> None:
    class Taught(BaseModel):
        teacher: Annotated[str | None, Field(json_schema_extra={"format": "model"})] = None
        student: Annotated[str, Field(json_schema_extra={"format": "model"})]

    schema, offered = Taught.model_json_schema(), Offered(formats={"model": [("mdl_1", "LeNet")]})
    form = field_of(schema, {"student": "mdl_gone"}, offered=offered)
    assert [option.label for option in form.at("student").options if option.chosen] == ["mdl_gone"]
    assert read(schema, sent(schema, {"student": "mdl_1"}, offered), "/at").document["student"] == "mdl_1"


def test_entries_to_pick_and_others_make_one_list() -> None:
    schema = SCHEMAS["prune.structured"]
    picks = Offered(picks={"LayerSelector": lambda _: [("*", "all", "", ""), ("fc", "fc", "Linear", "touched")]})
    document = {"method": "prune.structured", "layers": {"include": ["fc", "blocks.*"], "exclude": []}}
    include = field_of(schema, document, offered=picks).at("layers").at("include")
    assert [option.chosen for option in include.options] == [False, True]
    assert include.value == "blocks.*"
    reading = read(schema, sent(schema, document, picks), "/at")
    assert reading.document["layers"]["include"] == ["fc", "blocks.*"]
