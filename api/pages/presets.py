"""Pipelines to start from: what each does is said, not what it will come to. A test tries each against the methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Preset:
    """`steps` need data; `without_data` are taken where none is chosen."""

    name: str
    label: str
    words: str
    steps: list[Json]
    without_data: list[Json]

    def pipeline(self, *, data: bool) -> list[Json]:
        return self.steps if data else self.without_data


def _prune(**more: Any) -> Json:
    return {"method": "prune.structured", **more}


def _unaided(**more: Any) -> Json:
    """By the weights' size alone, and nothing retrained."""
    return _prune(importance="magnitude", rounds=1, finetune=None, **more)


TRAIN: Json = {"method": "finetune", "training": {"epochs": 3}}
PRESETS = [
    Preset(
        "smaller",
        "Smaller file",
        "Cuts channels until 40 % of the parameters are left, in three rounds with training after each.",
        [_prune(parameters_ratio=0.4), TRAIN],
        [_unaided(parameters_ratio=0.6)],
    ),
    Preset(
        "faster",
        "Faster",
        "Cuts channels until half of the MACs are left, to widths in eights, which runtimes like.",
        [_prune(macs_ratio=0.5, multiple_of=8), TRAIN],
        [_unaided(macs_ratio=0.7, multiple_of=8)],
    ),
    Preset(
        "both",
        "Both",
        "Cuts channels until a third of the MACs are left, in five rounds, and trains longest.",
        [_prune(macs_ratio=0.33, rounds=5), {"method": "finetune", "training": {"epochs": 5}}],
        [_unaided(macs_ratio=0.5)],
    ),
    Preset(
        "int8",
        "Eight-bit integers",
        "Weights and activations become integers of eight bits, in one .onnx file that ONNX Runtime runs so. A quarter "
        "of the bytes; whether it is faster is measured.",
        [{"method": "quantize.int8", "accuracy_budget": 1.0}],
        [{"method": "quantize.int8", "mode": "dynamic"}],
    ),
    Preset(
        "deep-compression",
        "Deep Compression",
        "Nine tenths of the weights go, the others share a few values, and all is entropy-coded: a small file to store "
        "and send, decoded to a network as fast as before.",
        [
            {"method": "prune.weights", "sparsity": 0.9, "rounds": 3},
            {"method": "quantize.codebook"},
            {"method": "encode"},
        ],
        [{"method": "quantize.codebook", "finetune": None}, {"method": "encode"}],
    ),
    Preset(
        "smallest",
        "Smallest",
        "Trained for few bytes: weights become small whole numbers, as few as half a point of accuracy on validation "
        "allows, and all is entropy-coded. The smallest file to store and send; nothing runs faster.",
        [{"method": "quantize.entropy", "accuracy_drop": 0.5, "levels": 3}, {"method": "encode"}],
        [
            {"method": "quantize.codebook", "convolution_bits": 6, "linear_bits": 4, "finetune": None},
            {"method": "encode"},
        ],
    ),
]
