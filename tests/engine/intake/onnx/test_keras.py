"""What Keras and tf2onnx really wrote (`golden/make_keras.py`) is lifted exactly, as the layers it was made of."""

import tarfile
from pathlib import Path

import pytest
import torch
from torch import nn

from compression.intake.model import read_model
from compression.intake.onnx.compare import random_inputs
from compression.measure.cost import cost_of
from tests.engine.intake.onnx.graphs import kinds, reference
from tests.engine.intake.onnx.test_pruned import halved

GOLDEN = Path(__file__).parent / "golden" / "keras-3.15.1.tar.xz"
LIFTED = {
    "mlp-saved-17": {"Linear": 3, "BatchNorm1d": 0},
    "several-saved-15": {"Conv2d": 1, "Linear": 4},
    "normalization-saved-15": {"Linear": 2},
    "resblock-fixed-13": {"Conv2d": 6, "Linear": 1},
    "resblock-from-18": {"Conv2d": 6, "Linear": 1},
    "separable-keras-17": {"Conv2d": 5, "Linear": 1},
    "same_pool-keras-17": {"Conv2d": 3, "AvgPool2d": 2},
    "squeeze-keras-17": {"Hardswish": 1},
    "autoencoder-keras-17": {"ConvTranspose2d": 2},
    "up_nearest-keras-17": {"Conv2d": 4},
    "up_bilinear-keras-17": {"Conv2d": 4, "Upsample": 1},
    "resizing-keras-17": {"Upsample": 1},
    "temporal-keras-17": {"Conv1d": 1, "Conv2d": 2, "ConvTranspose2d": 1},  # a separable one stays over two axes
    "text_conv-keras-17": {"Embedding": 1, "Conv1d": 2},
    "tokens-keras-17": {"Embedding": 1, "LayerNorm": 2, "scaled_dot_product_attention": 1, "Linear": 7},
}
PRUNED = ("resblock-fixed-13", "autoencoder-keras-17", "up_nearest-keras-17", "text_conv-keras-17", "tokens-keras-17")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keras")
    with tarfile.open(GOLDEN) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.mark.parametrize("name", LIFTED)
def test_an_export_is_lifted_exactly(files, name):
    path = files / f"{name}.onnx"
    network = read_model(path)
    assert hasattr(network, "module"), network.stopped_by
    batch = network.provenance[0].get("static_batch", 3)
    inputs = random_inputs(network, batch)
    with torch.no_grad():
        found = network.module(*inputs)
    for value, wanted in zip(found if isinstance(found, tuple) else (found,), reference(path, inputs), strict=True):
        assert value.shape == wanted.shape
        assert float((value - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())
    counted = kinds(network)
    assert {kind: counted.count(kind) for kind in LIFTED[name]} == LIFTED[name]


@pytest.mark.parametrize("name", PRUNED)
def test_an_export_is_cut_to_half_of_its_work(files, name, tmp_path):
    network = read_model(files / f"{name}.onnx")
    assert cost_of(halved(network, tmp_path)).macs <= 0.5 * cost_of(network).macs


def test_layers_have_the_names_that_keras_gave_them(files):
    layers = read_model(files / "tokens-keras-17.onnx").layers()
    names = [name.rpartition(".")[2] for name, leaf in layers.items() if isinstance(leaf, nn.Linear)]
    assert names == ["value_1", "query_1", "key_1", "attention_output_1", "dense_1_1", "dense_2", "dense_2_2"]


def test_a_constant_that_became_an_input_is_told(files):
    """Keras' own export loses the mean of a Normalization: the file asks for it, without a batch."""
    stopped = read_model(files / "normalization-keras-17.onnx").stopped_by
    assert "--saved-model" in stopped.why
    assert "normalization" in stopped.node
