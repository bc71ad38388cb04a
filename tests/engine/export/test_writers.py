import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from compression.errors import VerificationError
from compression.export.writers import compare_file, export_network
from compression.intake.model import read_model
from compression.verify import TOLERANCE
from tests.engine import nets
from tests.engine.export.vocabulary_nets import residual, two_exits

FORMATS = ("onnx", "pt2", "safetensors")
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    export_network(residual(), FORMATS, folder)
    return folder


def test_files_and_their_hashes(tmp_path: Path):
    files = export_network(residual(), FORMATS, tmp_path, "small")
    assert [file.name for file in files] == ["small.onnx", "small.pt2", "small.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(file.name for file in files)
    for file in files:
        data = (tmp_path / file.name).read_bytes()
        assert (file.bytes, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert 0 <= file.max_relative_error <= TOLERANCE


@pytest.mark.parametrize("batch", [1, 2, 7, 64])
def test_onnx_runs_at_any_batch(folder: Path, batch: int):
    network = residual()
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    assert [entry.shape for entry in session.get_inputs()] == [["batch", 1, 8, 8]]
    (x,) = network.example(batch)
    (found,) = session.run(["output"], {"x": x.numpy()})
    np.testing.assert_allclose(found, network.module(x).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 2, 7, 64])
def test_pt2_opens_in_torch(folder: Path, batch: int):
    network = residual()
    (x,) = network.example(batch)
    module = torch.export.load(folder / "model.pt2").module()
    torch.testing.assert_close(module(x), network.module(x))


def test_safetensors_is_a_state_dict(folder: Path):
    state = residual().module.state_dict()
    torch.testing.assert_close(load_file(folder / "model.safetensors"), state, check_device=False)


def test_onnx_is_one_clean_file(folder: Path):
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    assert not any(entry.external_data for entry in model.graph.initializer)
    assert {entry.domain for entry in model.opset_import} == {""}
    noted = [model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output]
    assert not any(part.metadata_props or part.doc_string for part in noted)


def test_batch_norm_is_folded_and_layers_keep_their_names(folder: Path):
    model = onnx.load(folder / "model.onnx")
    operators = [node.op_type for node in model.graph.node]
    assert operators.count("Conv") == 2
    assert "BatchNormalization" not in operators
    assert {"stem", "stem/Relu", "inner", "head"} <= {node.name for node in model.graph.node}


class Normed(nn.Module):
    """A norm after a linear layer, and one after an activation."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.folded = nn.Linear(6, 8), nn.BatchNorm1d(8)
        self.kept, self.head = nn.BatchNorm1d(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.kept(torch.relu(self.folded(self.linear(x)))))


def test_a_batch_norm_that_follows_an_activation_is_kept(tmp_path: Path):
    export_network(nets.network_of(Normed(), 6), ["onnx"], tmp_path)
    operators = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    assert operators.count("BatchNormalization") == 1


def test_no_path_of_this_machine_in_any_file(folder: Path):
    forbidden = [str(ROOT), sys.prefix, os.path.dirname(torch.__file__), str(folder), ".py"]  # noqa: PTH120
    for path in folder.iterdir():
        data = path.read_bytes()
        assert not [text for text in forbidden if text.encode() in data], path.name


def test_two_processes_write_the_same_bytes(folder: Path, tmp_path: Path):
    code = (
        "import sys; from pathlib import Path\n"
        "from compression.export.writers import export_network\n"
        "from tests.engine.export.vocabulary_nets import residual\n"
        "export_network(residual(), sys.argv[2:], Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path), *FORMATS]
    done = subprocess.run(
        command, check=True, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": "7"}
    )
    assert done.stdout == ""
    assert done.stderr == ""
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


@pytest.mark.parametrize("kind", FORMATS)
def test_a_wrong_weight_is_found(folder: Path, kind: str):
    other = residual()
    with torch.no_grad():
        other.module.get_submodule("head").weight[0, 0] += 1e-2
    with pytest.raises(VerificationError, match="relative error") as caught:
        compare_file(other, "full", folder / f"model.{kind}")
    assert caught.value.where == "output"


def test_nan_is_found(folder: Path):
    other = residual()
    with torch.no_grad():
        other.module.get_submodule("head").bias[0] = float("nan")
    with pytest.raises(VerificationError):
        compare_file(other, "full", folder / "model.onnx")


def test_a_failed_comparison_leaves_no_file(tmp_path: Path):
    network = residual()
    with torch.no_grad():
        network.module.get_submodule("head").bias[0] = float("inf")
    with pytest.raises(VerificationError):
        export_network(network, ["onnx"], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_comparison_keeps_the_file_that_was_there(tmp_path: Path):
    export_network(residual(), ["onnx"], tmp_path)
    before = (tmp_path / "model.onnx").read_bytes()
    network = residual()
    with torch.no_grad():
        network.module.get_submodule("head").bias[0] = float("inf")
    with pytest.raises(VerificationError):
        export_network(network, ["onnx"], tmp_path)
    assert (tmp_path / "model.onnx").read_bytes() == before


def test_a_file_for_each_variant(tmp_path: Path):
    files = export_network(two_exits(), FORMATS, tmp_path)
    assert [(file.name, file.variant) for file in files] == [
        ("model.onnx", "full"),
        ("model.early.onnx", "early"),
        ("model.pt2", "full"),
        ("model.early.pt2", "early"),
        ("model.safetensors", "full"),
    ]
    session = onnxruntime.InferenceSession(tmp_path / "model.early.onnx")
    assert [entry.name for entry in session.get_outputs()] == ["early"]
    assert set(read_model(tmp_path / "model.safetensors", None).variants) == {"full", "early"}


@pytest.mark.parametrize("build", [nets.Chain, nets.Concat, nets.Depthwise])
def test_other_networks(build: type[nn.Module], tmp_path: Path):
    export_network(nets.network_of(build(), 1, 8, 8), ["onnx", "pt2"], tmp_path)
