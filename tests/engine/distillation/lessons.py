"""A small teacher that has learned, data that a small student can learn from, and a context to do it in."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from compression.checkpoint import Checkpoints
from compression.context import Context
from compression.data import Dataset, Split
from compression.events import Reporter
from compression.methods.distill import Distill, apply
from compression.network import Network
from compression.registry import StepResult
from compression.training.loop import train
from compression.training.spec import Training
from compression.zoo.catalog import zoo_network

FEATURES, CLASSES = 20, 5
CPU = torch.device("cpu")


def samples(count: int, seed: int, labelled: bool = True) -> Split:
    """Five classes of 20 features, each around a centre of its own, close enough to be mistaken."""
    centres = torch.randn(CLASSES, FEATURES, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % CLASSES
    x = 0.7 * centres[labels] + torch.randn(count, FEATURES, generator=generator)
    return Split({"x": x}, labels if labelled else None)


def network(seed: int = 0) -> Network:
    return zoo_network("lenet300", {"features": FEATURES, "classes": CLASSES}, seed)


def context(folder: Path, original: Network, labelled: bool = True, reporter: Reporter | None = None) -> Context:
    reporter = reporter or Reporter(io.StringIO())
    splits = [samples(count, seed, labelled) for count, seed in ((300, 1), (200, 2), (100, 3))]
    return Context(
        data=Dataset(*splits, "classification" if labelled else None),
        original=original,
        device=CPU,
        seed=7,
        reporter=reporter,
        checkpoints=Checkpoints(folder, "0-test", reporter),
        save_seconds=0.0,
    )


def taught(folder: Path, seed: int = 0) -> Network:
    """A network that has learned the classes from labels."""
    given = network(seed)
    training = Training(epochs=8, learning_rate=0.02, loss="labels")
    return train(given, training, context(folder / f"teacher-{seed}", given), stage="t")[0]


def distil(
    folder: Path,
    network: Network,
    original: Network,
    models: Mapping[str, Any] | None = None,
    labelled: bool = True,
    reporter: Reporter | None = None,
    **fields: Any,
) -> StepResult:
    """One step of two epochs by default."""
    given = {"training": {"epochs": 2, "learning_rate": 0.02}, **fields}
    where = replace(context(folder, original, labelled, reporter), models=models or {})
    return apply(network, Distill.model_validate(given), where)
