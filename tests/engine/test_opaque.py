"""Models that run and can't be lifted: what is known of them, and what they aren't taken for."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from compression.errors import DataError, IntakeError, MethodError, SpecError
from compression.events import Reporter
from compression.intake.inspect import describe, inspect_file
from compression.intake.model import read_model
from compression.opaque import signature_of, verdict_on
from compression.pipeline import Job, compress, load, run
from compression.registry import Verdict, methods
from compression.spec import parse_job
from tests.engine.intake.onnx.graphs import loaded, model, tensor, weights, write

node = helper.make_node


@pytest.fixture
def path(tmp_path):
    """A layer, and the three largest of its outputs, which isn't lifted."""
    draw = weights()
    nodes = [
        node("MatMul", ["x", "w"], ["scores"], name="layer"),
        node("TopK", ["scores", "three"], ["y", "places"], name="best"),
    ]
    return write(model(nodes, [draw("w", 4, 6), tensor("three", [3], np.int64)]), tmp_path / "model.onnx")


def test_it_runs_and_says_what_stopped_the_lift(path):
    opaque = read_model(path)
    assert (opaque.stopped_by.operator, opaque.stopped_by.node) == ("TopK", "best")
    assert (opaque.parameters, opaque.bytes) == (24, 96)
    x = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    wanted = torch.from_numpy(x @ numpy_helper.to_array(loaded(path).graph.initializer[0]))
    np.testing.assert_allclose(opaque.run({"x": x})["y"], wanted.topk(3).values, rtol=1e-5, atol=1e-5)


def test_wrong_inputs_are_refused(path):
    with pytest.raises(IntakeError) as caught:
        read_model(path).run({"z": np.zeros((1, 4), np.float32)})
    assert caught.value.kind == "model-unsupported"


def test_its_inspection_tells_what_is_known(path):
    inspection = json.loads(json.dumps(inspect_file(path)))
    assert inspection["form"] == "opaque"
    assert inspection["stopped_by"]["operator"] == "TopK"
    assert inspection["inputs"] == [{"name": "x", "shape": [4], "dtype": "float32"}]
    assert inspection["outputs"] == ["y"]
    assert inspection["cost"] == {"parameters": 24, "nonzero": 24, "macs": None, "bytes": 96}
    assert inspection["layers"] == []
    for name, verdict in inspection["methods"].items():
        assert verdict["applicable"] == (name == "quantize.int8")
        assert verdict["where"] == ("" if verdict["applicable"] else "best")
    assert "TopK best" in describe(inspection)


def test_a_lifted_network_says_so(tmp_path):
    inspection = inspect_file(write(model([node("Relu", ["x"], ["y"])]), tmp_path / "model.onnx"))
    assert (inspection["form"], inspection["stopped_by"]) == ("lifted", None)


def test_a_method_is_asked_only_about_the_forms_that_it_takes(path):
    """`check` of a method that takes lifted networks alone is never given an opaque one."""
    opaque = read_model(path)
    method = methods()["finetune"]
    assert not verdict_on(opaque, method).applicable
    both = replace(method, forms=frozenset({"opaque"}), check=lambda _: Verdict(True))
    assert verdict_on(opaque, both).applicable


def test_a_job_is_refused_before_anything_is_spent(path, tmp_path):
    spec = parse_job(
        {"steps": [{"method": "prune.structured", "macs_ratio": 0.5, "importance": "magnitude", "finetune": None}]}
    )
    job = Job(spec=spec, model=path, data=None, out=tmp_path / "out")
    with pytest.raises(MethodError) as caught:
        run(job, Reporter(io.StringIO()))
    assert caught.value.where == "best"
    assert "TopK" in caught.value.message
    assert "name it as a teacher" in caught.value.message


@pytest.mark.parametrize(
    ("nodes", "shape", "dtype", "operator"),
    [
        (
            [node("Cast", ["x"], ["f"], to=TensorProto.FLOAT), node("Relu", ["f"], ["y"])],
            ("n", 4),
            TensorProto.UINT8,
            "",
        ),
        ([node("Relu", ["x"], ["y"])], (), TensorProto.FLOAT, ""),
        ([node("Transpose", ["x"], ["y"], perm=[1, 0])], ("n", 4), TensorProto.FLOAT, ""),
        ([node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16), node("Cast", ["h"], ["y"], to=TensorProto.FLOAT)],
         ("n", 4), TensorProto.FLOAT, "Cast"),
        ([node("ReduceSum", ["x"], ["y"], keepdims=0)], ("n", 4), TensorProto.FLOAT, ""),
    ],
    ids=["an input of bytes", "no axes", "a batch that isn't first", "half precision", "an output without a batch"],
)  # fmt: skip
def test_what_a_network_can_not_hold_stays_opaque(nodes, shape, dtype, operator, tmp_path):
    opaque = read_model(write(model(nodes, shape=shape, dtype=dtype), tmp_path / "model.onnx"))
    assert opaque.stopped_by.operator == operator
    assert opaque.stopped_by.why


INT8 = {"method": "quantize.int8", "mode": "static"}


@pytest.fixture
def classifier(tmp_path):
    """Two layers, and the sum of a TopK that isn't lifted: 6 logits. Free batch, or one of the file's own."""

    def write_it(batch="n", length=4):
        draw = weights()
        nodes = [
            node("MatMul", ["x", "w"], ["hidden"], name="one"),
            node("Relu", ["hidden"], ["seen"]),
            node("MatMul", ["seen", "v"], ["scores"], name="two"),
            node("TopK", ["scores", "all"], ["best", "places"], name="sorted"),
            node("Mul", ["best", "tiny"], ["little"]),
            node("Add", ["scores", "little"], ["y"]),
        ]
        tensors = [draw("w", 4, 16), draw("v", 16, 6), tensor("all", [6], np.int64), tensor("tiny", [1e-3])]
        return write(model(nodes, tensors, shape=(batch, length)), tmp_path / "classifier.onnx")

    return write_it


@pytest.fixture
def data(tmp_path):
    x = np.random.default_rng(0).standard_normal((120, 4)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x)
    return tmp_path / "data.npz"


def job_on(model_path, data_path, out, **more):
    spec = parse_job({"steps": [INT8]})
    return Job(spec=spec, model=model_path, data=data_path, out=out, latency_seconds=0.1, **more)


@pytest.mark.parametrize("batch", ["n", 3])
def test_it_is_quantized_from_file_to_file(batch, classifier, data, tmp_path):
    """The report has what is known of both, and says of MACs that they aren't."""
    made = job_on(classifier(batch), data, tmp_path / "out")
    outcome = run(made, Reporter(io.StringIO()))
    report = json.loads((tmp_path / "out" / "artifacts" / "report.json").read_text())
    assert report["original"]["macs"] is None
    assert report["measured_on"] == "model.onnx, and the file that was uploaded"
    assert [entry["batch"] for entry in report["delivered"]["latency"]] == ([1, 64] if batch == "n" else [3])
    assert report["delivered"]["quality"]["fidelity"]["sqnr_db"] > 25
    assert report["steps"][0]["facts"]["integer_layers"] == 2
    assert report["steps"][0]["after"]["validation_sqnr_db"] > 25
    assert report["original_files"][0]["bytes"] == made.model.stat().st_size
    assert "not known" in (tmp_path / "out" / "artifacts" / "report.md").read_text()
    delivered = read_model(tmp_path / "out" / "artifacts" / "model.onnx")
    verdict = verdict_on(delivered, methods()["quantize.int8"])
    assert "in integers already" in verdict.reason
    assert outcome.network.cost.macs is None


def test_free_lengths_have_to_be_given(classifier, data, tmp_path):
    path = classifier(length="m")
    architecture = {"inputs": {"x": [4]}}
    opaque = read_model(path, architecture)
    with pytest.raises(SpecError) as caught:
        signature_of(opaque)
    assert caught.value.where == "/architecture/inputs"
    run(job_on(path, data, tmp_path / "out", architecture=architecture), Reporter(io.StringIO()))
    assert (tmp_path / "out" / "artifacts" / "model.onnx").exists()


def test_its_layers_are_chosen_by_the_files_names(classifier, data, tmp_path):
    made = job_on(classifier(), data, tmp_path / "out")
    spec = parse_job({"steps": [{**INT8, "layers": {"exclude": ["two"]}}]})
    given = load(replace(made, spec=spec), Reporter(io.StringIO()))
    outcome = compress(replace(made, spec=spec), given, Reporter(io.StringIO()))
    assert outcome.steps[0]["facts"]["float_layers"] == ["two"]


def test_training_needs_a_network(classifier, data, tmp_path):
    spec = parse_job({"steps": [{**INT8, "qat": {"epochs": 1}}]})
    with pytest.raises(SpecError) as caught:
        run(replace(job_on(classifier(), data, tmp_path / "out"), spec=spec), Reporter(io.StringIO()))
    assert caught.value.where == "/steps/0/qat"


def test_data_that_does_not_fit_is_refused(classifier, tmp_path):
    np.savez(tmp_path / "data.npz", x=np.zeros((40, 4), np.float32), y=np.arange(40) % 9)
    with pytest.raises(DataError) as caught:
        run(job_on(classifier(), tmp_path / "data.npz", tmp_path / "out"), Reporter(io.StringIO()))
    assert caught.value.where == "y"


def test_lengths_that_are_given_hold_for_integers_without_data(tmp_path):
    """The file leaves the length of its ids free."""
    draw = weights()
    nodes = [
        node("Gather", ["table", "x"], ["rows"]),
        node("MatMul", ["rows", "w"], ["each"], name="layer"),
        node("ReduceMean", ["each"], ["mean"], axes=[1], keepdims=0),
        node("TopK", ["mean", "three"], ["y", "places"], name="best"),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.INT64, ["n", "length"])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])]
    stored = [draw("table", 9, 4), draw("w", 4, 6), tensor("three", [3], np.int64)]
    graph = helper.make_graph(nodes, "g", inputs, outputs, stored)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    spec = parse_job({"steps": [{"method": "quantize.int8", "mode": "dynamic"}]})
    job = Job(spec, write(made, tmp_path / "m.onnx"), None, tmp_path / "out", architecture={"inputs": {"x": [12]}})
    outcome = compress(job, load(job, Reporter(io.StringIO())), Reporter(io.StringIO()))
    assert outcome.steps[0]["facts"]["integer_layers"] == 1
    assert outcome.signature.inputs[0].shape == outcome.network.signature.inputs[0].shape == (12,)
