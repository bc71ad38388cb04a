"""Real exports of Keras networks by three ways, and what becomes of each; the networks are in `keras_exports.py`."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

FOLDER = Path("out/benchmarks/keras")
REQUIREMENTS = ("tensorflow-cpu==2.21.0", "keras==3.15.1", "tf2onnx==1.17.0")
EXPORTS = (
    "mlp-keras-17", "mlp-saved-17", "lenet-keras-17", "bncnn-keras-17", "resblock-keras-17", "resblock-fixed-17",
    "tokens-keras-17", "text_conv-keras-17", "autoencoder-keras-17", "up_nearest-keras-17", "up_bilinear-keras-17",
    "same_pool-keras-17", "squeeze-keras-17", "separable-keras-17", "grouped-keras-17", "resizing-keras-17",
    "groupnorm-keras-17", "free_size-keras-17", "several-keras-17", "dot-keras-17", "temporal-keras-17",
    "encoder-keras-17", "conv3d-keras-17", "normalization-keras-17", "normalization-saved-15", "text_lstm-keras-17",
    "text_bidirectional-keras-17", "unrolled_lstm-keras-17", "gru-keras-17", "masked_lstm-keras-17",
    "resblock-from-13", "resblock-saved-18", "tokens-saved-15", "autoencoder-saved-15", "several-saved-15",
    "mobilenetv2-keras-17", "efficientnet-keras-17", "efficientnet-saved-15", "mobilenetv3-keras-17",
    "mobilenet-keras-17", "convnext-keras-17", "densenet-keras-17",
)  # fmt: skip


def files() -> dict[str, Path]:
    """Every export by name, made where it isn't there yet, in an environment with Keras: TensorFlow and the project
    want other versions of the same packages."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    missing = [name for name in EXPORTS if not (FOLDER / f"{name}.onnx").exists()]
    if missing:
        python = _environment()
        quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        script = Path(__file__).with_name("keras_exports.py")
        subprocess.run([str(python), str(script), str(FOLDER), *missing], check=True, env=quiet)
    return {name: FOLDER / f"{name}.onnx" for name in EXPORTS}


def _environment() -> Path:
    """The interpreter of an environment with REQUIREMENTS, made once."""
    folder = FOLDER / "environment"
    python, made = folder / "bin/python", folder / "complete"
    if not made.exists():
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True, stdout=sys.stderr)
        made.touch()
    return python
