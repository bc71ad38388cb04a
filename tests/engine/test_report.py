import contextlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from compression.data.prepare import prepare
from compression.export.writers import ExportedFile, export_network
from compression.markdown import render_markdown
from compression.measure.cost import cost_of
from compression.measure.delivered import measure_delivered
from compression.measure.machine import device_profile, versions
from compression.measure.runtime import predict
from compression.network import Input, Signature
from compression.report import TEMPORARY, Report, build_report
from compression.spec import Preprocess
from compression.usage import usage
from tests.engine.export.vocabulary_nets import residual

SPEC = {"seed": 3, "steps": [{"method": "finetune"}], "exports": ["onnx", "pt2", "safetensors"]}
STEP = {
    "index": 0,
    "method": "finetune",
    "config": {"method": "finetune", "epochs": 2},
    "seconds": 1.25,
    "before": {"parameters": 10, "validation_accuracy": 0.5},
    "after": {"parameters": 10, "validation_accuracy": 0.75},
    "facts": {"best_epoch": 0, "history": [{"epoch": 0.0}, {"epoch": 2.0}]},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def report(folder: Path) -> Report:
    original, compressed = residual(), residual()
    with torch.no_grad():
        head = compressed.module.get_submodule("head")
        head.weight[:5] = 0
        head.bias[original.module(*original.example(1)).argmax()] -= 100
    before = export_network(original, ["onnx", "pt2", "safetensors"], folder, "original")
    after = export_network(compressed, ["onnx", "pt2", "safetensors"], folder)
    inputs = {"x": original.example(100, seed=1)[0].numpy()}
    labels = predict(folder / "original.onnx", inputs)[-1].argmax(1)
    delivered = measure_delivered(folder / "original.onnx", folder / "model.onnx", inputs, labels, seconds=0.1)
    return build_report(
        spec=SPEC,
        inputs={"model": "ab12"},
        versions=versions(),
        device=device_profile(),
        signature=original.signature,
        original=cost_of(original),
        compressed=cost_of(compressed),
        original_files=before,
        files=after,
        delivered=delivered,
        steps=[STEP],
    )


def test_json_holds_everything(report: Report):
    parsed = json.loads(report.to_json())
    assert parsed["spec"] == SPEC
    assert parsed["steps"] == [STEP]
    assert parsed["compressed"]["nonzero"] == parsed["original"]["nonzero"] - 40
    assert {"torch", "onnxruntime", "niwaki"} <= set(parsed["versions"])
    assert [file["format"] for file in parsed["artifacts"]] == ["onnx", "pt2", "safetensors"]
    assert Report.model_validate(parsed) == report


def test_claims_follow_the_figures(report: Report):
    verdicts = [claim.verdict for claim in report.claims]
    assert verdicts[:2] == ["broken", "accuracy lost"]  # whatever the step is called
    assert "training" in {claim.subject for claim in report.claims}
    assert "smaller" not in verdicts  # zeros take as much room as other numbers
    assert report.headline.startswith("The compressed network is not usable: right on 0.00%")


def test_markdown(report: Report):
    text = render_markdown(report)
    for expected in (
        "| parameters | 778 | 778 |",
        "| non-zero parameters |",
        "latency at batch 64, ms",
        "| top-1 | 100.00% (96.30%–100.00%) |",
        "### 1. finetune (1.2 s)",
        "| validation_accuracy | 0.5 | 0.75 |",
        "| stem | Conv2d |",
        report.artifacts[0].sha256,
        "onnxruntime.InferenceSession",
        "- seed: 3",
    ):
        assert expected in text
    assert text.startswith(f"# {report.headline}")


@pytest.mark.parametrize("kind", ["onnx", "pt2", "safetensors"])
def test_the_code_in_the_report_runs(report: Report, folder: Path, kind: str):
    names: dict = {}
    with contextlib.chdir(folder):
        exec(report.usage[kind], names)  # noqa: S102
    output = names["outputs"][0] if kind == "onnx" else names["output"]
    assert tuple(output.shape) == (1, 10)


@pytest.mark.parametrize(
    ("shape", "declared", "stored"),
    [
        ((3, 5, 4), {"layout": "NHWC", "scale": 1 / 255, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.1]}, (5, 4, 3)),
        ((5, 4, 3), {"layout": "NCHW", "mean": [0.5, 0.4, 0.3], "std": [2.0]}, (3, 5, 4)),
        ((6,), {"mean": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]}, (6,)),
        ((2, 3), {}, (2, 3)),
    ],
)
def test_the_code_prepares_samples_as_the_job_did(shape: tuple, declared: dict, stored: tuple):
    """Byte for byte as the engine reads a data file; the name of the input is one that the code uses itself."""
    entry, preprocess = Input("session", shape), Preprocess.model_validate(declared)
    samples = np.random.default_rng(0).integers(0, 256, (2, *stored)).astype(np.uint8)
    file = ExportedFile("model.onnx", "onnx", "full", 1, "", 0.0)
    lines = usage(file, Signature((entry,)), {"session": preprocess}).splitlines()
    zeros = next(line for line in lines if "np.zeros" in line)
    assert f"np.zeros({(1, *stored)}" in zeros
    code = "\n".join("session_input = samples" if line == zeros else line for line in lines[3:-2])
    names: dict = {"np": np, "samples": samples}
    exec(code, names)  # noqa: S102
    wanted = prepare(samples, entry, preprocess).numpy()
    assert names["session_input"].dtype == np.float32
    np.testing.assert_array_equal(names["session_input"], wanted)
    assert lines[-1] == 'outputs = session.run(None, {"session": session_input})'


def test_says_so_where_no_onnx_was_asked_for(report: Report):
    rest = [file for file in report.artifacts if file.format != "onnx"]
    changed = build_report(
        spec=SPEC,
        inputs={},
        versions={},
        device={},
        signature=residual().signature,
        original=report.original,
        compressed=report.compressed,
        original_files=report.original_files,
        files=rest,
        delivered=report.delivered,
        steps=[],
    )
    assert changed.measured_on == TEMPORARY
    assert TEMPORARY in render_markdown(changed)
    assert report.measured_on.startswith("model.onnx")


def test_no_path_of_this_machine(report: Report, folder: Path):
    for text in (report.to_json(), render_markdown(report)):
        assert str(folder) not in text
        assert str(Path(os.path.abspath(__file__)).parents[2]) not in text  # noqa: PTH100
