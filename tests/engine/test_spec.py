"""The job spec: what it takes, and that a fault names its field."""

from __future__ import annotations

from typing import Any

import pytest

from compression.errors import SpecError
from compression.registry import Cost, methods, validate_chain
from compression.selector import LayerSelector
from compression.spec import JobSpec, parse_job, require_data
from tests.engine.nets import Chain, network_of

PRUNE = {"method": "prune.structured", "macs_ratio": 0.5}


def test_a_spec_survives_the_round_trip() -> None:
    spec = parse_job({"steps": [PRUNE, {"method": "finetune", "training": {"epochs": 0.5}}], "seed": 3})
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"steps": []}, "/steps"),
        ({"steps": [{"method": "prune.magic"}]}, "/steps/0"),
        ({"steps": [PRUNE, {**PRUNE, "macs_ratio": 2}]}, "/steps/1/macs_ratio"),
        ({"steps": [{**PRUNE, "parameters_ratio": 0.5}]}, "/steps/0"),
        ({"steps": [{**PRUNE, "finetune": {"epochs": 0}}]}, "/steps/0/finetune/epochs"),
        ({"steps": [{**PRUNE, "layers": {"only": ["fc"]}}]}, "/steps/0/layers/only"),
        ({"seed": -1}, "/seed"),
        ({"exports": ["onnx", "onnx"]}, "/exports"),
        ({"exports": ["tflite"]}, "/exports/0"),
        ({"colour": "green"}, "/colour"),
        ({"a/b~c": 1}, "/a~1b~0c"),
        ({"tags": ["two words"]}, "/tags/0"),
    ],
)
def test_a_fault_names_its_field(change: dict[str, Any], pointer: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_job({"steps": [PRUNE], **change})
    assert caught.value.where == pointer


def test_a_chain_that_cannot_be_is_refused() -> None:
    assert validate_chain(["prune.structured", "finetune"]) == "float"
    with pytest.raises(SpecError) as caught:
        validate_chain(["finetune"], state="coded")
    assert caught.value.where == "/steps/0/method"


def test_steps_that_need_data_say_so() -> None:
    require_data(parse_job({"steps": [{**PRUNE, "finetune": None, "importance": "magnitude"}]}))
    with pytest.raises(SpecError, match="needs data") as caught:
        require_data(parse_job({"steps": [PRUNE]}))
    assert caught.value.where == "/steps/0"


def test_every_field_is_described() -> None:
    for method in methods().values():
        for name, field in method.spec.model_fields.items():
            if name != "method" and field.annotation is not None and not hasattr(field.annotation, "model_fields"):
                assert field.description, f"{method.name}.{name}"


def test_predictions_follow_the_target() -> None:
    spec = parse_job({"steps": [PRUNE]}).steps[0]
    assert methods()["prune.structured"].predict(Cost(1000, 5000, 4000), spec) == Cost(500, 2500, 2000)


def test_the_selector_takes_names_globs_and_types() -> None:
    layers = {name: type(module).__name__ for name, module in network_of(Chain(), 1, 8, 8).layers().items()}
    assert LayerSelector(include=["conv*", "head"]).select(layers) == {"conv1", "conv2", "head"}
    assert LayerSelector(exclude=["type:Conv2d", "type:BatchNorm2d"]).select(layers) == {"hidden", "head"}
    with pytest.raises(SpecError, match="no layer matches") as caught:
        LayerSelector(include=["fc"]).select(layers)
    assert caught.value.where == "/layers/include/0"
