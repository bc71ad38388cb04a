"""The step as a whole: it teaches, resumes to the same bytes, keeps encodings, and says what came of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from pydantic import ValidationError
from torch import Tensor, fx, nn

from compression.data import Dataset, Split
from compression.distillation.lesson import Distilling, Lesson
from compression.distillation.student import narrower
from compression.distillation.teachers import Runner, Teacher, combine
from compression.encodings import Mask
from compression.errors import SpecError
from compression.intake.model import read_model
from compression.methods.distill import Distill, apply
from compression.network import Input, Network, Signature
from compression.opaque import OpaqueOnnx
from compression.training.loop import train
from compression.training.spec import Training
from tests.engine.distillation.lessons import CLASSES, FEATURES, context, distil, network, taught
from tests.engine.training.test_loop import Killed, KillingReporter

SMALL = {"kind": "auto", "macs_ratio": 0.1}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return taught(tmp_path_factory.mktemp("teacher"))


def state(trained: Network) -> dict[str, Tensor]:
    return dict(trained.module.state_dict())


def test_a_student_learns_without_labels_and_agrees_with_its_teacher(tmp_path: Path, teacher: Network) -> None:
    training = {"epochs": 8, "learning_rate": 0.05}
    result = distil(tmp_path, teacher, teacher, labelled=False, student=SMALL, loss="softmax", training=training)
    facts = result.facts
    assert facts["student"]["agreement"] > 0.8
    assert facts["teacher"]["agreement"] == 1
    assert facts["training"]["loss"] == "teacher"
    # The epoch is chosen by agreement and divergence, as an accuracy would be.
    history = facts["training"]["history"]
    kept = next(entry for entry in history if entry["epoch"] == facts["training"]["best_epoch"])
    assert kept["score"] == kept["agreement"] == facts["student"]["agreement"]
    assert kept["loss"] < history[0]["loss"]
    assert facts["transfer_samples"] == 300
    assert "calibration_error" not in facts["student"]  # there is nothing to be right about
    assert len(facts["learned"]["teacher_at_t"]) == CLASSES


def test_the_control_and_the_gap_are_those_of_the_same_student(tmp_path: Path, teacher: Network) -> None:
    facts = distil(tmp_path, teacher, teacher, student=SMALL, control=True).facts
    scores = [facts[name]["accuracy"] for name in ("student", "control", "teacher")]
    gap = scores[2] - scores[1]
    assert facts["gap_closed"] == (pytest.approx((scores[0] - scores[1]) / gap) if gap > 0 else None)
    assert facts["student"] != facts["control"]
    alone = distil(tmp_path / "alone", teacher, teacher, student=SMALL)
    assert alone.facts["student"] == facts["student"]  # the control changes nothing for the student


@pytest.mark.parametrize("saves", [2, 7])
@pytest.mark.parametrize(
    "fields",
    [{"hints": 0.5}, {"hard_labels": False, "mixup": 0.4, "noise": 0.1}, {"temperature": "auto"}],
    ids=["hints", "altered", "auto"],
)
def test_a_killed_step_resumes_to_the_same_bytes(
    tmp_path: Path, teacher: Network, fields: dict[str, Any], saves: int
) -> None:
    undisturbed = distil(tmp_path / "a", teacher, teacher, student=SMALL, **fields)
    with pytest.raises(Killed):
        distil(tmp_path / "b", teacher, teacher, student=SMALL, reporter=KillingReporter(saves), **fields)
    resumed = distil(tmp_path / "b", teacher, teacher, student=SMALL, **fields)
    assert resumed.facts == undisturbed.facts
    assert all(torch.equal(value, state(resumed.network)[name]) for name, value in state(undisturbed.network).items())


def test_cached_outputs_teach_as_computed_ones_do(tmp_path: Path, teacher: Network) -> None:
    data = context(tmp_path, teacher).require_data("test")
    small = narrower(teacher, 0.1, seed=0)
    teachers = (Teacher("t", teacher, 1.0),)
    kept = 4 * CLASSES * len(data.train)  # bytes

    def trained(bound: int) -> dict[str, Tensor]:
        where = context(tmp_path / f"{bound}", teacher)
        lesson = Lesson(teachers, tmp_path, max_bytes=bound)
        given = lesson.answers(data.train, where.device)
        assert (given is not None) == (bound >= kept)
        heard = lesson.heard(data.validation, where.device)
        spec = Training(epochs=2, learning_rate=0.02)
        made = lambda *run: Distilling(*run, lesson, given, heard)  # noqa: E731
        return state(train(small, spec, where, stage="s", objective=made)[0])

    cached, computed = trained(kept), trained(kept - 1)
    for name, value in cached.items():
        torch.testing.assert_close(computed[name], value, rtol=1e-4, atol=1e-5)
        assert not name.endswith("weight") or not torch.equal(value, state(small)[name])


def test_masks_are_kept(tmp_path: Path, teacher: Network) -> None:
    keep = torch.rand(300, FEATURES, generator=torch.Generator().manual_seed(0)) > 0.7
    masked = teacher.copy().replaced(encodings={"f1.weight": Mask(keep)})
    masked.project()
    result = distil(tmp_path, masked, teacher, hints=0.2)
    weight = dict(result.network.module.named_parameters())["f1.weight"]
    assert bool((weight[~keep] == 0).all())
    assert not torch.equal(weight, dict(masked.module.named_parameters())["f1.weight"])


def test_several_teachers_with_weights(tmp_path: Path, teacher: Network) -> None:
    other = taught(tmp_path, seed=1)
    both = [{"model": "other", "weight": 3}, {"weight": 1}]
    result = distil(tmp_path / "a", teacher, teacher, {"other": other}, student=SMALL, teachers=both)
    with torch.no_grad():
        x = teacher.example(5)[0]
        runners = [Runner(Teacher(n, m, w), ["x"], x.device) for n, m, w in (("a", other, 0.75), ("b", teacher, 0.25))]
        expected = 0.75 * torch.softmax(other.module(x), 1) + 0.25 * torch.softmax(teacher.module(x), 1)
        given = combine([runner([x])[0] for runner in runners], [0.75, 0.25], "probabilities", "softmax", 1.0)
    torch.testing.assert_close(torch.softmax(given, 1), expected)
    assert result.network.provenance[-1]["teachers"] == ["other", "the uploaded model"]
    told = result.facts["teachers"]
    assert [(entry["model"], entry["weight"]) for entry in told] == [("other", 0.75), ("the uploaded model", 0.25)]
    assert told[0]["accuracy"] != told[1]["accuracy"]
    logits = distil(tmp_path / "b", teacher, teacher, {"other": other}, student=SMALL, teachers=both, combine="logits")
    assert not torch.equal(state(result.network)["f3.bias"], state(logits.network)["f3.bias"])


def opaque(path: Path, batch: int | str) -> OpaqueOnnx:
    """An `.onnx` file whose TopK can't be lifted, with as many outputs as there are classes."""
    random = np.random.default_rng(0)
    weight = numpy_helper.from_array(random.normal(size=(FEATURES, 8)).astype(np.float32), "w")
    k = numpy_helper.from_array(np.array([CLASSES]), "k")
    nodes = [
        helper.make_node("MatMul", ["features", "w"], ["h"]),
        helper.make_node("TopK", ["h", "k"], ["z", "i"], "best"),
    ]
    inputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, [batch, FEATURES])]
    outputs = [helper.make_tensor_value_info("z", TensorProto.FLOAT, [batch, CLASSES])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [weight, k])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    found = read_model(path)
    assert isinstance(found, OpaqueOnnx)
    return found


@pytest.mark.parametrize("batch", ["n", 1, 32])
def test_a_model_that_only_runs_teaches_too(tmp_path: Path, teacher: Network, batch: int | str) -> None:
    """Its input has another name, and its batch may be fixed: 300 samples are no multiple of 32."""
    given = opaque(tmp_path / "t.onnx", batch)
    runner = Runner(Teacher("t", given, 1.0), ["x"], torch.device("cpu"))
    x = torch.randn(70, FEATURES, generator=torch.Generator().manual_seed(1))
    one_by_one = np.concatenate([given.run({"features": row[None].numpy()})["z"] for row in x]) if batch != 32 else None
    if one_by_one is not None:
        np.testing.assert_allclose(runner([x])[0].numpy(), one_by_one, rtol=1e-5)
    assert runner([x])[0].shape == (70, CLASSES)
    models = {"t": given}
    facts = distil(tmp_path, teacher, teacher, models, teachers=[{"model": "t"}], loss="mse", hard_labels=False).facts
    assert facts["match"] == "mse"
    with pytest.raises(SpecError, match="opaque"):
        distil(tmp_path / "h", teacher, teacher, models, teachers=[{"model": "t"}], hints=1.0)


def accuracy(network: Network, folder: Path) -> float:
    split = context(folder, network).require_data("test").validation
    assert split.labels is not None
    with torch.no_grad():
        return float((network.module(split.inputs["x"]).argmax(1) == split.labels).double().mean())


def test_a_class_never_seen_is_known_after_its_bias(tmp_path: Path, teacher: Network) -> None:
    fields: dict[str, Any] = {
        "student": SMALL,
        "exclude_classes": [3],
        "training": {"epochs": 10, "learning_rate": 0.05},
    }
    result = distil(tmp_path / "a", teacher, teacher, **fields)
    row = result.facts["never_seen"][0]
    assert result.facts["transfer_samples"] == 240
    assert row["recall_before"] < 0.3
    assert row["recall_after"] > row["recall_before"] + 0.3
    assert row["added"] > 0
    assert abs(row["recall_held_out"] - row["recall_after"]) < 0.2
    assert "five folds" in result.facts["recall_held_out"]
    assert result.facts["bias_corrected_by"] == "labelled validation samples"
    unlabelled = distil(tmp_path / "b", teacher, teacher, labelled=False, loss="softmax", **fields).facts
    assert unlabelled["bias_corrected_by"].startswith("the teacher")
    assert unlabelled["recall_of"] == "the teacher's top-1"
    assert unlabelled["never_seen"][0]["recall_after"] > 0.3
    left = distil(tmp_path / "c", teacher, teacher, bias_correction="none", **fields).facts["never_seen"][0]
    assert left["added"] == 0
    assert left["recall_after"] == left["recall_held_out"] == left["recall_before"] == row["recall_before"]
    # What is delivered is what the figures are of, and the control is put right in the same way.
    assert result.facts["student"]["accuracy"] == pytest.approx(accuracy(result.network, tmp_path), abs=1e-6)
    control = distil(tmp_path / "d", teacher, teacher, control=True, **fields).facts
    wrong = distil(tmp_path / "e", teacher, teacher, control=True, bias_correction="none", **fields).facts
    assert control["control"]["accuracy"] > wrong["control"]["accuracy"]


def test_temperature_and_alpha_are_chosen_on_validation(tmp_path: Path, teacher: Network) -> None:
    facts = distil(tmp_path, teacher, teacher, student=SMALL, temperature="auto").facts
    assert {(trial["temperature"], trial["alpha"]) for trial in facts["tuning"]} == {
        (t, a) for t in (2.0, 4.0, 8.0) for a in (0.5, 0.9)
    }
    best = max(facts["tuning"], key=lambda trial: (trial["accuracy"], -trial["loss"]))
    assert (facts["temperature"], facts["alpha"]) == (best["temperature"], best["alpha"])
    fields = {"student": SMALL, "temperature": "auto", "loss": "softmax"}
    unlabelled = distil(tmp_path / "u", teacher, teacher, labelled=False, **fields).facts
    best = max(unlabelled["tuning"], key=lambda trial: (trial["agreement"], -trial["loss"]))
    assert unlabelled["temperature"] == best["temperature"]


def test_an_architecture_or_another_model_learns(tmp_path: Path, teacher: Network) -> None:
    named = {
        "kind": "architecture",
        "architecture": "lenet300",
        "arguments": {"features": FEATURES, "classes": CLASSES},
    }
    drawn = distil(tmp_path / "a", teacher, teacher, student=named)
    assert drawn.network.provenance[0]["architecture"] == "lenet300"
    given = network(seed=5)
    kept = distil(tmp_path / "b", teacher, teacher, {"m": given}, student={"kind": "model", "model": "m"})
    assert kept.network.provenance[0]["seed"] == 5


@pytest.mark.parametrize(
    ("task", "loss", "match"), [("multilabel", "auto", "sigmoid"), ("regression", "cosine", "cosine")]
)
def test_other_tasks_than_classes(tmp_path: Path, teacher: Network, task: str, loss: str, match: str) -> None:
    where = context(tmp_path, teacher)
    data = where.require_data("test")

    def labelled(split: Split) -> Split:
        assert split.labels is not None
        yes = torch.nn.functional.one_hot(split.labels, CLASSES) > 0
        return replace(split, labels=yes if task == "multilabel" else yes.float())

    parts = {name: labelled(getattr(data, name)) for name in ("train", "validation", "test")}
    spec = Distill.model_validate({"student": SMALL, "loss": loss, "control": True})
    facts = apply(teacher, spec, replace(where, data=replace(data, task=task, **parts))).facts
    assert (facts["match"], facts["training"]["loss"]) == (match, "both")
    assert "learned" not in facts
    history = facts["training"]["history"]
    assert (
        history[-1]["loss" if task == "multilabel" else "mse"] < history[0]["loss" if task == "multilabel" else "mse"]
    )


@pytest.mark.parametrize(
    ("fields", "where", "message"),
    [
        ({"teachers": [{}, {"model": "wide"}]}, "/teachers/1", "wide can't teach here: it has outputs of"),
        ({"student": {"kind": "model", "model": "wide"}}, "/teachers/0", "the student's are"),
        ({"exclude_classes": [9]}, "/exclude_classes/0", "no class 9"),
        ({"exclude_classes": [0, 1, 2, 3]}, "/exclude_classes", "two classes must be left"),
        ({"loss": "mse", "temperature": "auto"}, "/temperature", "no temperature"),
        ({"student": {"kind": "auto", "macs_ratio": 1e-5}}, "/student", "of every width one"),
    ],
)
def test_what_cannot_be_is_refused_at_its_field(
    tmp_path: Path, teacher: Network, fields: dict[str, Any], where: str, message: str
) -> None:
    from compression.zoo.catalog import zoo_network

    wide = zoo_network("lenet300", {"features": FEATURES, "classes": 7}, seed=0)
    with pytest.raises(SpecError, match=message) as caught:
        distil(tmp_path, teacher, teacher, {"wide": wide}, **fields)
    assert caught.value.where == where


def test_a_teacher_that_gives_nan_is_named(tmp_path: Path, teacher: Network) -> None:
    broken = teacher.copy()
    dict(broken.module.named_parameters())["f3.bias"].data[0] = torch.inf
    with pytest.raises(SpecError, match="m can't teach here: it gives NaN") as caught:
        distil(tmp_path, teacher, teacher, {"m": broken}, teachers=[{}, {"model": "m"}])
    assert caught.value.where == "/teachers/1"


class Words(nn.Module):
    """Logits (N × C) of word indices; C is 1 at its narrowest, and then the axis is left out."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.words, self.head, self.classes = nn.Embedding(10, 4), nn.Linear(4, classes), classes

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(torch.mean(self.words(x), 1))
        return x if self.classes > 1 else torch.flatten(x, 0)


@pytest.mark.parametrize(
    ("classes", "fields", "where"),
    [
        (3, {"noise": 0.1}, "/noise"),
        (3, {"mixup": 0.1, "hard_labels": False}, "/mixup"),
        (1, {"exclude_classes": [0], "loss": "softmax"}, "/exclude_classes"),
    ],
)
def test_what_this_network_cannot_do_is_told_at_its_field(
    tmp_path: Path, classes: int, fields: dict[str, Any], where: str
) -> None:
    signature = Signature((Input("x", (6,), "int64"),))
    words = Network(fx.symbolic_trace(Words(classes).eval()), signature)
    split = Split({"x": torch.arange(60).reshape(10, 6) % 10}, None)
    given = replace(context(tmp_path, words), data=Dataset(split, split, split, None))
    with pytest.raises(SpecError) as caught:
        apply(words, Distill.model_validate(fields), given)
    assert caught.value.where == where


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"control": True}, "/control"),
        ({"exclude_classes": [1], "bias_correction": "labels", "loss": "softmax"}, "/bias_correction"),
    ],
)
def test_labels_that_are_not_there_are_told(
    tmp_path: Path, teacher: Network, fields: dict[str, Any], where: str
) -> None:
    with pytest.raises(SpecError, match="labels") as caught:
        distil(tmp_path, teacher, teacher, labelled=False, **fields)
    assert caught.value.where == where


@pytest.mark.parametrize(
    "fields",
    [
        {"student": {"kind": "auto"}},
        {"student": {"kind": "current", "model": "m"}},
        {"student": {"kind": "architecture", "architecture": "none"}},
        {"student": {"kind": "architecture", "architecture": "lenet300", "arguments": {"classes": 0}}},
        {"mixup": 0.3},
        {"temperature": 0},
        {"temperature": "hot"},
        {"teachers": []},
        {"teachers": [{"weight": 1e-300}]},
    ],
)
def test_specs_that_contradict_themselves(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Distill.model_validate(fields)
