"""Writes `keras-3.15.1.tar.xz`: small networks as Keras 3.15.1 on TensorFlow 2.21.0 and tf2onnx 1.17.0 export them
(with onnx 1.23.2 and numpy 2.4.6), by the ways of `benchmarks.keras_exports`.

From the project's root, in an environment with these: `python -m tests.engine.intake.onnx.golden.make_keras`.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from pathlib import Path

import keras

from benchmarks.keras_exports import NETWORKS, autoencoder, export, resblock, text_conv, tokens, unusual

FOLDER = Path(__file__).parent
SMALLER = {
    "autoencoder": lambda: autoencoder(4),
    "resblock": lambda: resblock(4),
    "text_conv": lambda: text_conv(8),
    "tokens": lambda: tokens(16),
}
FILES = (
    "mlp-saved-17", "several-saved-15", "normalization-keras-17", "normalization-saved-15", "resblock-fixed-13",
    "resblock-from-18", "separable-keras-17", "same_pool-keras-17", "squeeze-keras-17", "autoencoder-keras-17",
    "up_nearest-keras-17", "up_bilinear-keras-17", "resizing-keras-17", "temporal-keras-17", "text_conv-keras-17",
    "tokens-keras-17",
)  # fmt: skip


def main():
    with tarfile.open(FOLDER / "keras-3.15.1.tar.xz", "w:xz") as archive, tempfile.TemporaryDirectory() as folder:
        for file in FILES:
            name, way, opset = file.rsplit("-", 2)
            keras.utils.clear_session()
            keras.utils.set_random_seed(0)
            path = Path(folder) / f"{file}.onnx"
            export(unusual({**NETWORKS, **SMALLER}[name]()), way, int(opset), path)
            content = path.read_bytes()
            entry = tarfile.TarInfo(path.name)  # of no owner and no time
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


if __name__ == "__main__":
    main()
