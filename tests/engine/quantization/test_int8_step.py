"""The step in a job: what it delivers, what it refuses, what it tells, and that it resumes."""

from __future__ import annotations

import io
import json

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from compression.errors import SpecError
from compression.events import Reporter
from compression.intake.weights import save_network
from compression.measure.runtime import predict
from compression.network import Input, Network, Signature
from compression.pipeline import Job, compress, load, run
from compression.quantization.int8.budget import Disturbance, fewest_floats
from compression.quantization.int8.fake import RoundedWeight, faked, histograms, rounded_values
from compression.quantization.int8.ranges import affine, range_of
from compression.registry import methods
from compression.spec import parse_job
from tests.engine.nets import Residual, network_of

STATIC = {"method": "quantize.int8", "mode": "static"}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A small residual network that has learned four patterns, and their data."""
    folder = tmp_path_factory.mktemp("int8")
    random = np.random.default_rng(0)
    patterns = random.normal(size=(4, 1, 6, 6))
    y = np.arange(400) % 4
    x = (patterns[y] + 0.4 * random.normal(size=(400, 1, 6, 6))).astype(np.float32)
    arrays = {"x_train": x[:240], "y_train": y[:240], "x_validation": x[240:320], "y_validation": y[240:320]}
    np.savez(folder / "d.npz", x_test=x[320:], y_test=y[320:], **arrays)
    network = network_of(Residual(), 1, 6, 6)
    module = network.module.train()
    optimizer = torch.optim.Adam(module.parameters(), 0.02)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(torch.from_numpy(x[:240])), torch.from_numpy(y[:240])).backward()
        optimizer.step()
    module.eval()
    save_network(network, folder / "m.safetensors")
    return folder


@pytest.fixture
def job(files, tmp_path):
    def make(*steps, data=True, **more) -> Job:
        spec = parse_job({"steps": list(steps), **more})
        given = files / "d.npz" if data else None
        return Job(spec, files / "m.safetensors", given, tmp_path / "out", latency_seconds=0.1)

    return make


def quiet() -> Reporter:
    return Reporter(io.StringIO())


def compressed(made: Job):
    return compress(made, load(made, quiet()), quiet())


def test_the_delivered_file_is_the_checked_one(job):
    made = job(STATIC)
    outcome = run(made, quiet())
    delivered = made.out / "artifacts" / "model.onnx"
    assert delivered.read_bytes() == outcome.network.file
    assert {path.name for path in delivered.parent.iterdir()} == {"model.onnx", "report.json", "report.md"}
    report = json.loads((delivered.parent / "report.json").read_text())
    (file,) = report["artifacts"]
    assert file["compared_with"] == "the float network, on the validation samples"
    assert 0 < file["max_relative_error"] < 0.05
    assert report["compressed"]["macs"] == report["original"]["macs"]
    before, after = (report["delivered"]["quality"][side]["top1"]["value"] for side in ("original", "compressed"))
    assert after > before - 0.05 > 0.5
    step = report["steps"][0]
    assert step["facts"]["reason"] == "static was asked for"
    assert step["facts"]["float_layers"] == []
    assert abs(step["after"]["validation_accuracy"] - step["before"]["validation_accuracy"]) < 0.03
    assert "against the float network" in (delivered.parent / "report.md").read_text()
    kinds = {node.op_type for node in onnx.load(delivered).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds


def test_the_same_job_gives_the_same_bytes_and_resumes(job):
    made = job(STATIC)
    first = compressed(made)
    log = io.StringIO()
    again = compress(made, load(made, quiet()), Reporter(log, as_json=True))
    assert again.network == first.network
    assert "calibrating" not in log.getvalue()
    for path in (made.out / "checkpoints").iterdir():
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    assert compressed(made).network.file == first.network.file


def test_auto_tells_what_it_measured(job):
    facts = compressed(job({"method": "quantize.int8"})).steps[0]["facts"]
    assert [entry["mode"] for entry in facts["files"]] == ["static", "dynamic"]
    assert all(entry["interval"][0] <= entry["times_as_fast"] <= entry["interval"][1] for entry in facts["files"])
    assert facts["mode"] in facts["reason"]
    fastest = max(facts["files"], key=lambda entry: entry["times_as_fast"])
    assert facts["mode"] == fastest["mode"]
    assert ("not slower" in facts["reason"]) == (fastest["interval"][0] < 1.03)


def test_without_data_ranges_are_taken_in_every_run(job):
    outcome = compressed(job({"method": "quantize.int8"}, data=False))
    facts = outcome.steps[0]["facts"]
    assert facts["mode"] == "dynamic"
    assert "no data for static ranges" in facts["reason"]
    assert facts["float_layers"] == ["stem", "inner", "outer"]
    assert "lost" not in facts["files"][0]


def test_a_budget_keeps_the_worst_layers_float(job):
    outcome = compressed(job({**STATIC, "accuracy_budget": 0, "reduce_range": True, "samples": 2}))
    facts = outcome.steps[0]["facts"]
    kept = [entry["layer"] for entry in facts.get("sensitivity", [])][: len(facts["float_layers"])]
    assert sorted(kept) == sorted(facts["float_layers"])
    assert facts["files"][0]["lost"] <= 0
    assert facts["lost_with_every_layer"] >= facts["files"][0]["lost"]


def test_the_fewest_floats_are_found():
    """Each layer in integers loses a point: a budget of three leaves three in integers, and the worst ones float."""
    layers = [Disturbance(f"layer{index}", float(index)) for index in range(8)]
    stay, file = fewest_floats(layers, lambda some: ",".join(sorted(some)).encode(), lambda part: part.count(b"l"), 3)
    assert stay == [f"layer{index}" for index in range(5)]
    assert file == b"layer5,layer6,layer7"


def test_a_selector_leaves_layers_float(job):
    facts = compressed(job({**STATIC, "layers": {"exclude": ["inner"]}})).steps[0]["facts"]
    assert facts["float_layers"] == ["inner"]
    made = job({**STATIC, "layers": {"include": ["nothing"]}})
    with pytest.raises(SpecError) as caught:
        compressed(made)
    assert caught.value.where == "/steps/0/layers/include/0"


def test_a_folded_norm_does_not_hide_a_layer(job):
    facts = compressed(job({**STATIC, "layers": {"exclude": ["stem", "head"]}})).steps[0]["facts"]
    assert facts["float_layers"] == ["stem", "head"]


def test_training_sees_what_the_file_computes(job):
    step = {**STATIC, "qat": {"epochs": 1, "learning_rate": 0.001}}
    outcome = compressed(job(step))
    facts = outcome.steps[0]["facts"]
    history = facts["training"]["history"]
    kept = next(entry for entry in history if entry["epoch"] == facts["training"]["best_epoch"])
    assert abs(outcome.steps[0]["after"]["validation_accuracy"] - kept["accuracy"]) <= 0.025
    assert outcome.steps[0]["after"]["validation_accuracy"] > 0.5


def test_training_keeps_a_masks_zeros(job):
    prune = {"method": "prune.weights", "sparsity": 0.6, "rounds": 1, "finetune": None, "scope": "layer"}
    step = {**STATIC, "qat": {"epochs": 0.5, "learning_rate": 0.001}}
    outcome = compressed(job(prune, step))
    stored = onnx.load_from_string(outcome.network.file).graph.initializer
    weights = [onnx.numpy_helper.to_array(entry) for entry in stored if entry.data_type == onnx.TensorProto.INT8]
    matrices = [value for value in weights if value.ndim > 1]
    assert len(matrices) == 4
    assert all((value == 0).mean() >= 0.55 for value in matrices)


def test_the_rounding_in_the_graph_is_torchs_own():
    """The faked graph against torch.fake_quantize, forward and backward."""
    network = network_of(nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)), 6)
    (first, second) = rounded_values(network.module, ["0", "2"])
    samples = {"x": network.example(50, seed=2)[0]}
    seen = histograms(network, [first, second], samples)
    ranges = {name: affine(*range_of(entry, "percentile", 90)) for name, entry in seen.items()}
    copy = faked(network, ranges)
    x = network.example(30, seed=3)[0].requires_grad_()

    def theirs(value: torch.Tensor, name: str) -> torch.Tensor:
        levels = ranges[name]
        return torch.fake_quantize_per_tensor_affine(value, levels.scale, levels.zero_point, 0, 255)

    one, two = (network.module.get_submodule(name) for name in ("0", "2"))
    wanted = two(theirs(torch.relu(one(theirs(x, first.name))), second.name))
    found = copy.module(x)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    gradients = [torch.autograd.grad(value.square().sum(), x)[0] for value in (found, wanted)]
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-4)
    assert bool((gradients[0] == 0).any())  # clipped values have none


def test_sums_of_indices_are_not_rounded():
    class Places(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(9, 4), nn.Linear(4, 2)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.head(torch.mean(self.table((ids + ids) + ids), 1))

    module = torch.fx.symbolic_trace(Places().eval())
    network = Network(module, Signature((Input("ids", (5,), "int64"),), ("y",)))
    seen = histograms(network, rounded_values(module, ["head"]), {"ids": torch.arange(10).reshape(2, 5) % 3})
    (name,) = seen
    assert faked(network, {name: affine(-4.0, 4.0)}).module(torch.zeros(3, 5, dtype=torch.int64)).shape == (3, 2)


def test_rounded_weights_are_the_files_own():
    weight = nn.Parameter(torch.randn(5, 3, 2, 2, generator=torch.Generator().manual_seed(0)))
    encoding = RoundedWeight(127, None)
    step = weight.detach().abs().flatten(1).amax(1) / 127
    wanted = torch.fake_quantize_per_channel_affine(
        weight.detach(), step, torch.zeros(5, dtype=torch.int32), 0, -127, 127
    )
    value = encoding.value(encoding.free(weight))
    torch.testing.assert_close(value, wanted)
    again = encoding.value(value)
    torch.testing.assert_close(again, value)  # rounding once more moves nothing
    free = weight.detach().clone().requires_grad_()
    encoding.value(free).sum().backward()
    torch.testing.assert_close(free.grad, torch.ones_like(free))


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"exports": ["onnx", "pt2"]}, "/exports/1"),
        ({"exports": ["nwk"]}, "/exports/0"),
        ({"steps": [STATIC, {"method": "encode"}]}, "/steps/1/method"),
        ({"steps": [{"method": "encode"}, STATIC]}, "/steps/1/method"),
        ({"steps": [STATIC, STATIC]}, "/steps/1/method"),
        ({"steps": [{**STATIC, "percentile": 99}]}, "/steps/0"),
        ({"steps": [{**STATIC, "samples": 0}]}, "/steps/0/samples"),
        ({"steps": [{**STATIC, "mode": "fast"}]}, "/steps/0/mode"),
    ],
)
def test_what_does_not_go_together_is_refused_at_submission(change, where):
    with pytest.raises(SpecError) as caught:
        parse_job({"steps": [STATIC], **change})
    assert caught.value.where == where


def test_exports_that_nobody_asked_for_are_what_integers_have():
    assert parse_job({"steps": [STATIC]}).exports == ["onnx"]
    assert parse_job({"steps": [{"method": "finetune"}]}).exports == ["onnx", "pt2", "safetensors"]


@pytest.mark.parametrize("step", [STATIC, {"method": "quantize.int8", "accuracy_budget": 1}])
def test_what_needs_data_says_so(step, job):
    with pytest.raises(SpecError, match="give a dataset") as caught:
        load(job(step, data=False), quiet())
    assert caught.value.where == "/steps/0"


def test_a_network_without_products_is_not_for_it():
    class Bare(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(x)

    network: Network = network_of(Bare(), 4)
    verdict = methods()["quantize.int8"].check(network)
    assert not verdict.applicable
    assert "neither" in verdict.reason


def test_convolutions_alone_need_data(tmp_path):
    class Single(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x)

    network = network_of(Single(), 1, 6, 6)
    save_network(network, tmp_path / "m.safetensors")
    for step, part in (({"mode": "auto"}, "dataset"), ({"mode": "dynamic"}, "matrix product")):
        spec = parse_job({"steps": [{"method": "quantize.int8", **step}]})
        made = Job(spec, tmp_path / "m.safetensors", None, tmp_path / "out")
        with pytest.raises(Exception, match=part):
            compressed(made)


def test_outputs_of_the_file_do_not_depend_on_the_batch(job):
    outcome = compressed(job(STATIC))
    x = np.random.default_rng(1).normal(size=(7, 1, 6, 6)).astype(np.float32)
    whole = predict(outcome.network.file, {"x": x})[0]
    parts = np.concatenate([predict(outcome.network.file, {"x": x[i : i + 1]})[0] for i in range(7)])
    np.testing.assert_allclose(whole, parts, atol=1e-6)
