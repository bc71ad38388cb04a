"""The network tried on samples of its data, before anything is spent: do outputs and labels go together?"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from compression.data.concerns import Concern
from compression.data.dataset import Dataset
from compression.data.load import check_labels
from compression.errors import DataError, IntakeError
from compression.intake.shapes import run
from compression.network import Network

SAMPLES = 64


def tried(dataset: Dataset, network: Network) -> Dataset:
    """The dataset, with a concern for outputs that look like probabilities. DataError: the network fails on these
    samples, its outputs aren't what the labels are for, or they are probabilities where a loss needs logits.

    The samples are spread over the training split: of one that is sorted, the first might all be of one class, and
    logits of a label that all of them have may well lie within 0 and 1. Where no sample of any class has a logit
    outside, every label is said of every sample, and the network is as good as wrong.
    """
    count = len(dataset.train)
    chosen = torch.linspace(0, count - 1, min(SAMPLES, count), dtype=torch.float64).round().long()
    try:
        values = run(network.module, tuple(dataset.train.take(chosen).inputs.values()))
    except IntakeError as error:
        raise DataError(f"the network doesn't run on these samples: {error.message}", error.where) from error
    outputs = dict(zip(network.signature.outputs, values, strict=True))
    check_labels(dataset, outputs)
    concerns = []
    for name, value in outputs.items():
        if not bool(torch.isfinite(value).all()):
            raise DataError("the network's output on samples of this data holds NaN or infinite values", name)
        if dataset.task == "multilabel" and _within_one(value):
            message = "the outputs lie within 0 and 1, as after a sigmoid: export the network without it"
            raise DataError(f"{message}; training and the threshold of ½ are for logits", name)
        if dataset.task in {"classification", None} and _within_one(value) and _sum_to_one(value):
            why = "training is for logits" if dataset.task else "training sees little in their squared error"
            message = f"the outputs are probabilities: export the network without its softmax, {why}"
            concerns.append(Concern("probabilities", message, name))
    return replace(dataset, concerns=(*dataset.concerns, *concerns))


def _within_one(value: Tensor) -> bool:
    return bool(((value >= 0) & (value <= 1)).all())


def _sum_to_one(value: Tensor) -> bool:
    return value.dim() == 2 and value.shape[1] > 1 and bool(((value.sum(1) - 1).abs() < 1e-3).all())
