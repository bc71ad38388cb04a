import json
from pathlib import Path

import numpy as np
import pytest
import torch

from compression.errors import VerificationError
from compression.export.writers import export_network
from compression.measure.accuracy import (
    Classification,
    MultiLabel,
    PairedAccuracy,
    PairedError,
    PairedF1,
    Regression,
)
from compression.measure.delivered import measure_delivered
from compression.measure.runtime import predict
from tests.engine.export.vocabulary_nets import residual


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("files")
    broken = residual()
    with torch.no_grad():
        head = broken.module.get_submodule("head")
        head.weight.neg_()
        head.bias.neg_()
    export_network(residual(), ["onnx"], folder, "original")
    export_network(broken, ["onnx"], folder, "compressed")
    return folder / "original.onnx", folder / "compressed.onnx"


def samples(count: int = 200) -> dict[str, np.ndarray]:
    return {"x": 3 * np.random.default_rng(0).standard_normal((count, 1, 8, 8)).astype(np.float32)}


def test_classification(files: tuple[Path, Path]):
    labels = predict(files[0], samples())[-1].argmax(1)
    found = measure_delivered(*files, samples(), labels, seconds=0.2)
    assert found.quality is not None
    assert isinstance(found.quality.original, Classification)
    assert isinstance(found.quality.compressed, Classification)
    assert isinstance(found.quality.paired, PairedAccuracy)
    assert found.quality.original.top1.value == 1.0
    assert found.quality.paired.lost > 0
    assert found.quality.paired.lost == 200 - found.quality.compressed.top1.count
    assert found.quality.fidelity.agreement is not None
    assert found.quality.fidelity.agreement.count == found.quality.compressed.top1.count
    assert [entry.batch for entry in found.latency] == [1, 64]
    assert {claim.subject for claim in found.claims()} == {"accuracy", "latency", "memory"}
    json.dumps(found.as_dict(), allow_nan=False)


def test_regression(files: tuple[Path, Path]):
    targets = predict(files[0], samples())[-1]
    found = measure_delivered(*files, samples(), targets, seconds=0.1)
    assert found.quality is not None
    assert isinstance(found.quality.original, Regression)
    assert isinstance(found.quality.paired, PairedError)
    assert found.quality.original.mse == 0
    assert found.quality.paired.difference > 0
    assert [claim.verdict for claim in found.claims()[:2]] == ["broken", "accuracy lost"]


def test_multi_label(files: tuple[Path, Path]):
    labels = predict(files[0], samples())[-1] > 0
    found = measure_delivered(*files, samples(), labels, seconds=0.1)
    assert found.quality is not None
    assert isinstance(found.quality.original, MultiLabel)
    assert isinstance(found.quality.paired, PairedF1)
    assert (found.quality.original.f1, found.quality.original.average_precision) == (1.0, 1.0)
    assert found.quality.paired.high < 0
    assert [claim.verdict for claim in found.claims()[:2]] == ["broken", "accuracy lost"]
    json.dumps(found.as_dict(), allow_nan=False)


def test_without_labels(files: tuple[Path, Path]):
    found = measure_delivered(*files, samples(20), None, seconds=0.1)
    assert found.quality is not None
    assert found.quality.original is found.quality.paired is None
    assert [claim.verdict for claim in found.claims()[:2]] == ["at chance", "broken"]  # one answer; and turned round
    assert found.quality.fidelity.commonest == 1.0


def test_without_data(files: tuple[Path, Path]):
    found = measure_delivered(*files, None, None, seconds=0.1)
    assert found.quality is None
    assert {claim.subject for claim in found.claims()} == {"accuracy", "latency", "memory"}
    assert found.claims()[0].verdict == "not measured"


def test_infinite_outputs(files: tuple[Path, Path]):
    inputs = {"x": np.full((3, 1, 8, 8), 3e38, np.float32)}
    with pytest.raises(VerificationError, match="infinite"):
        measure_delivered(*files, inputs, None, seconds=0.1)
