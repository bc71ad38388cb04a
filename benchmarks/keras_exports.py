"""Writes real exports of Keras networks: `python benchmarks/keras_exports.py FOLDER NAME …`, in an environment of its
own with Keras, which clashes with the project's; `python -m benchmarks.intake --keras` makes it (`keras_intake.py`).

Weights are drawn by Keras; norms get statistics, scales and shifts that aren't the defaults. Each file is named as
NETWORK-WAY-OPSET.onnx; the ways: `keras` = model.export(format="onnx"), `fixed` = the same with a batch of one,
`from` = tf2onnx.convert.from_keras, `saved` = model.export(folder) and `python -m tf2onnx.convert --saved-model`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras  # type: ignore[import-not-found]
import numpy as np
from keras import layers as k
from keras import ops


def mlp() -> Any:
    hidden = [k.Dense(32, activation="relu"), k.BatchNormalization(), k.Dropout(0.2), k.Dense(24, activation="elu")]
    return keras.Sequential([keras.Input((20,)), *hidden, k.Dense(10, activation="softmax")])


def lenet() -> Any:
    return keras.Sequential([
        keras.Input((28, 28, 1)),
        k.Conv2D(6, 5, padding="same", activation="tanh"), k.AveragePooling2D(2),
        k.Conv2D(16, 5, activation="tanh"), k.AveragePooling2D(2), k.Flatten(),
        k.Dense(120, activation="tanh"), k.Dense(84, activation="tanh"), k.Dense(10),
    ])  # fmt: skip


def bncnn() -> Any:
    made = [keras.Input((32, 32, 3))]
    for width in (16, 24, 32):
        made += [k.Conv2D(width, 3, padding="same", use_bias=False), k.BatchNormalization(), k.ReLU()]
        made += [k.MaxPooling2D(2)]
    return keras.Sequential([*made, k.GlobalAveragePooling2D(), k.Dropout(0.3), k.Dense(10, activation="softmax")])


def resblock(first: int = 16) -> Any:
    image = keras.Input((32, 32, 3))
    x = k.Activation("relu")(k.BatchNormalization()(k.Conv2D(first, 3, padding="same")(image)))
    for width, stride in ((first, 1), (2 * first, 2)):
        y = k.ReLU()(k.BatchNormalization()(k.Conv2D(width, 3, strides=stride, padding="same")(x)))
        y = k.BatchNormalization()(k.Conv2D(width, 3, padding="same")(y))
        x = k.BatchNormalization()(k.Conv2D(width, 1, strides=stride)(x)) if stride > 1 else x
        x = k.ReLU()(k.Add()([x, y]))
    return keras.Model(image, k.Dense(10)(k.GlobalAveragePooling2D()(x)))


def application(name: str, **keywords: Any) -> Callable[[], Any]:
    given = {"weights": None, "input_shape": (64, 64, 3), "classes": 10, **keywords}
    return lambda: getattr(keras.applications, name)(**given)


def separable() -> Any:
    return keras.Sequential([
        keras.Input((32, 32, 3)),
        k.SeparableConv2D(16, 3, padding="same", activation="relu"),
        k.SeparableConv2D(32, 3, strides=2, padding="same", depth_multiplier=2, activation="relu"),
        k.DepthwiseConv2D(3, strides=2, padding="same"), k.LeakyReLU(), k.GlobalMaxPooling2D(), k.Dense(10),
    ])  # fmt: skip


def grouped() -> Any:
    return keras.Sequential([
        keras.Input((32, 32, 3)),
        k.Conv2D(8, 3, dilation_rate=2, padding="same", activation="relu"), k.ZeroPadding2D(((0, 1), (0, 1))),
        k.Conv2D(16, 3, strides=2, activation="relu6"),
        k.Conv2D(16, 3, groups=4, padding="same", activation="selu"),
        k.PReLU(shared_axes=[1, 2]), k.Cropping2D(2), k.GlobalAveragePooling2D(), k.Dense(10),
    ])  # fmt: skip


def squeeze() -> Any:
    image = keras.Input((32, 32, 3))
    x = k.BatchNormalization()(k.Conv2D(32, 3, strides=2, padding="same")(image))
    x = k.Activation("hard_swish")(x)
    gate = k.Reshape((1, 1, 32))(k.GlobalAveragePooling2D()(x))
    gate = k.Dense(32, activation="hard_sigmoid")(k.Dense(8, activation="relu")(gate))
    x = k.Conv2D(16, 1)(k.Multiply()([x, gate]))
    return keras.Model(image, k.Dense(10)(k.GlobalAveragePooling2D()(x)))


def same_pool() -> Any:
    image = keras.Input((33, 30, 3))
    x = k.Conv2D(8, 3, strides=2, padding="same", activation="relu")(image)
    x = k.MaxPooling2D(3, strides=2, padding="same")(x)
    x = k.Conv2D(12, 4, padding="same", activation="relu")(x)
    x = k.AveragePooling2D(3, strides=2, padding="same")(x)
    x = k.Conv2D(16, 2, padding="same", activation="relu")(x)
    x = k.AveragePooling2D(2, strides=2, padding="same")(x)
    return keras.Model(image, k.Dense(5)(k.Flatten()(x)))


def autoencoder(width: int = 16) -> Any:
    return keras.Sequential([
        keras.Input((32, 32, 3)),
        k.Conv2D(width, 3, strides=2, padding="same", activation="relu"),
        k.Conv2D(2 * width, 3, strides=2, padding="same", activation="relu"),
        k.Conv2DTranspose(width, 3, strides=2, padding="same", activation="relu"),
        k.Conv2DTranspose(width // 2, 2, strides=2, activation="relu"),
        k.Conv2D(3, 3, padding="same", activation="sigmoid"),
    ])  # fmt: skip


def unet(interpolation: str) -> Any:
    image = keras.Input((32, 32, 3))
    across = k.Conv2D(8, 3, padding="same", activation="relu")(image)
    below = k.Conv2D(16, 3, padding="same", activation="relu")(k.MaxPooling2D()(across))
    both = k.Concatenate()([across, k.UpSampling2D(2, interpolation=interpolation)(below)])
    x = k.Conv2D(8, 3, padding="same", activation="relu")(both)
    return keras.Model(image, k.Conv2D(4, 1, activation="softmax")(x))


def resizing() -> Any:
    image = keras.Input((24, 24, 3))
    x = k.Resizing(32, 40)(k.Rescaling(1 / 127.5, offset=-1)(image))
    x = k.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
    return keras.Model(image, k.Dense(5)(k.GlobalAveragePooling2D()(x)))


def groupnorm() -> Any:
    image = keras.Input((16, 16, 3))
    x = k.Activation("swish")(k.GroupNormalization(4)(k.Conv2D(16, 3, padding="same")(image)))
    x = k.LayerNormalization()(k.Conv2D(16, 3, padding="same")(x))
    x = k.UnitNormalization()(k.Activation("mish")(x))
    return keras.Model(image, k.Dense(5)(k.GlobalAveragePooling2D()(x)))


def free_size() -> Any:
    return keras.Sequential([
        keras.Input((None, None, 3)),
        k.Conv2D(8, 3, strides=2, padding="same", activation="relu"), k.MaxPooling2D(2),
        k.Conv2D(16, 3, padding="same", activation="relu"), k.GlobalAveragePooling2D(), k.Dense(4),
    ])  # fmt: skip


def conv3d() -> Any:
    return keras.Sequential([keras.Input((8, 8, 8, 1)), k.Conv3D(4, 3), k.GlobalAveragePooling3D(), k.Dense(2)])


def normalization() -> Any:
    norm = k.Normalization(mean=[1.0, 2.0, 3.0], variance=[0.5, 1.0, 2.0])
    return keras.Sequential([keras.Input((3,)), norm, k.Dense(16, activation="relu"), k.Dense(1)])


def several() -> Any:
    image, facts = keras.Input((16, 16, 3), name="image"), keras.Input((5,), name="facts")
    x = k.GlobalAveragePooling2D()(k.Conv2D(8, 3, activation="relu")(image))
    x = k.Dense(16, activation="relu")(k.Concatenate()([x, k.Dense(8, activation="relu")(facts)]))
    heads = {"kind": k.Dense(4, activation="softmax", name="kind")(x), "size": k.Dense(1, name="size")(x)}
    return keras.Model([image, facts], heads)


def dot() -> Any:
    one, other, shared = keras.Input((8,)), keras.Input((8,)), k.Dense(16, activation="relu")
    pair = [shared(one), shared(other)]
    kinds = (k.Dot(1, normalize=True), k.Subtract(), k.Multiply(), k.Maximum(), k.Average())
    return keras.Model([one, other], k.Dense(1)(k.Concatenate()([kind(pair) for kind in kinds])))


class Places(k.Layer):  # type: ignore[misc]
    """Embeddings of places, added."""

    def build(self, shape: Any) -> None:
        self.table = self.add_weight(shape=shape[1:], initializer="random_normal", name="places")

    def call(self, x: Any) -> Any:
        return x + ops.take(self.table, ops.arange(0, x.shape[1]), axis=0)


def tokens(width: int = 32) -> Any:
    ids = keras.Input((12,), dtype="int32")
    x = Places()(k.Embedding(50, width)(ids))
    x = k.LayerNormalization()(x + k.MultiHeadAttention(4, width // 4)(x, x, use_causal_mask=True))
    x = k.LayerNormalization()(x + k.Dense(width)(k.Dense(2 * width, activation="relu")(x)))
    return keras.Model(ids, k.Dense(2, activation="softmax")(k.GlobalMaxPooling1D()(x)))


def encoder() -> Any:
    rows = x = keras.Input((12, 32))
    for _ in range(2):
        y = k.LayerNormalization()(x)
        x = k.Add()([x, k.MultiHeadAttention(4, 8)(y, y)])
        x = k.Add()([x, k.Dense(32)(k.Dense(64, activation="gelu")(k.LayerNormalization()(x)))])
    return keras.Model(rows, k.Dense(5, activation="softmax")(k.GlobalAveragePooling1D()(x)))


def text_conv(width: int = 32) -> Any:
    return keras.Sequential([
        keras.Input((40,)), k.Embedding(100, width // 2),
        k.Conv1D(width, 5, activation="relu", padding="same"), k.MaxPooling1D(2),
        k.Conv1D(width, 3, activation="relu", padding="causal"), k.BatchNormalization(), k.GlobalMaxPooling1D(),
        k.Dense(16, activation="relu"), k.Dense(1, activation="sigmoid"),
    ])  # fmt: skip


def temporal() -> Any:
    return keras.Sequential([
        keras.Input((50, 6)),
        k.Conv1D(16, 3, dilation_rate=2, padding="causal", activation="relu"),
        k.SeparableConv1D(16, 3, padding="same", activation="relu"), k.UpSampling1D(2),
        k.Conv1DTranspose(8, 3, strides=2, padding="same", activation="relu"), k.AveragePooling1D(2),
        k.GlobalAveragePooling1D(), k.Dense(4),
    ])  # fmt: skip


def text(*made: Any, masked: bool = False) -> Any:
    start = [keras.Input((20,), dtype="int32"), k.Embedding(100, 16, mask_zero=masked)]
    return keras.Sequential([*start, *made, k.Dense(1, activation="sigmoid")])


NETWORKS: Mapping[str, Callable[[], Any]] = {
    "mlp": mlp,
    "lenet": lenet,
    "bncnn": bncnn,
    "resblock": resblock,
    "mobilenet": application("MobileNet", alpha=0.25),
    "mobilenetv2": application("MobileNetV2", alpha=0.35),
    "mobilenetv3": application("MobileNetV3Small"),
    "efficientnet": application("EfficientNetB0"),
    "densenet": application("DenseNet121"),
    "convnext": application("ConvNeXtTiny"),
    "separable": separable,
    "grouped": grouped,
    "squeeze": squeeze,
    "same_pool": same_pool,
    "autoencoder": autoencoder,
    "up_nearest": lambda: unet("nearest"),
    "up_bilinear": lambda: unet("bilinear"),
    "resizing": resizing,
    "groupnorm": groupnorm,
    "free_size": free_size,
    "conv3d": conv3d,
    "normalization": normalization,
    "several": several,
    "dot": dot,
    "tokens": tokens,
    "encoder": encoder,
    "text_conv": text_conv,
    "temporal": temporal,
    "text_lstm": lambda: text(k.LSTM(24)),
    "text_bidirectional": lambda: text(k.Bidirectional(k.LSTM(24))),
    "masked_lstm": lambda: text(k.LSTM(24), masked=True),
    "unrolled_lstm": lambda: keras.Sequential([keras.Input((6, 8)), k.LSTM(12, unroll=True), k.Dense(3)]),
    "gru": lambda: keras.Sequential([keras.Input((20, 8)), k.GRU(24), k.Dense(3)]),
}


def unusual(model: Any) -> Any:
    """The model with norms, shifts and slopes that aren't what new ones have."""
    random = np.random.default_rng(0)
    draws: Mapping[str, Callable[[Any], Any]] = {
        "gamma": lambda shape: random.uniform(0.6, 1.4, shape),
        "beta": lambda shape: random.normal(0, 0.2, shape),
        "bias": lambda shape: random.normal(0, 0.2, shape),
        "moving_mean": lambda shape: random.normal(0, 0.3, shape),
        "moving_variance": lambda shape: random.uniform(0.5, 1.5, shape),
        "alpha": lambda shape: random.uniform(0.1, 0.4, shape),
    }
    for variable in model.weights:
        draw = draws.get(variable.path.rpartition("/")[2])
        if draw is not None:
            variable.assign(draw(variable.shape).astype("float32"))
    return model


def export(model: Any, way: str, opset: int, path: Path) -> None:
    sizes = [[length or 32 for length in entry.shape[1:]] for entry in model.inputs]
    inputs = [np.zeros((1, *size), entry.dtype) for size, entry in zip(sizes, model.inputs, strict=True)]
    model.predict(inputs if len(inputs) > 1 else inputs[0], verbose=0)  # one that was never called isn't exported
    if way == "from":
        import tf2onnx  # type: ignore[import-not-found]

        tf2onnx.convert.from_keras(model, opset=opset, output_path=str(path))
    elif way == "saved":
        with tempfile.TemporaryDirectory() as folder:
            model.export(folder, verbose=False)
            command = [sys.executable, "-m", "tf2onnx.convert", "--saved-model", folder]
            subprocess.run([*command, "--opset", str(opset), "--output", str(path)], check=True, capture_output=True)
    else:
        fixed = [keras.InputSpec(dtype=i.dtype, shape=(1, *i.shape[1:]), name=i.name) for i in model.inputs]
        given = {"input_signature": fixed if len(fixed) == 1 else [fixed]} if way == "fixed" else {}
        model.export(str(path), format="onnx", verbose=False, opset_version=opset, **given)


def main() -> None:
    folder, *wanted = sys.argv[1:]
    for export_name in wanted:
        path = Path(folder) / f"{export_name}.onnx"
        if path.exists():
            continue
        name, way, opset = export_name.rsplit("-", 2)
        keras.utils.clear_session()
        keras.utils.set_random_seed(0)
        partial = path.with_suffix(".partial")
        export(unusual(NETWORKS[name]()), way, int(opset), partial)
        partial.rename(path)
        print(path, flush=True)


if __name__ == "__main__":
    main()
