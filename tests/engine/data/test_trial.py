"""A dataset is tried on the network before a job spends anything."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from compression.data import Dataset, Split
from compression.data.trial import tried
from compression.errors import DataError
from tests.engine.nets import network_of


class Ends(nn.Module):
    def __init__(self, end: nn.Module) -> None:
        super().__init__()
        self.head, self.end = nn.Linear(6, 4), end

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.head(x))


def dataset(labels: Tensor | None, task: str | None, scale: float = 1.0) -> Dataset:
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)) * scale
    part = Split({"x": x}, labels)
    return Dataset(part, part, part, task)  # type: ignore[arg-type]


CLASSES, MANY = torch.arange(40) % 4, torch.arange(160).reshape(40, 4) % 3 == 0


def test_logits_are_fine() -> None:
    network = network_of(Ends(nn.Identity()), 6)
    assert tried(dataset(CLASSES, "classification"), network).concerns == ()
    assert tried(dataset(MANY, "multilabel"), network).concerns == ()


def test_probabilities_are_told() -> None:
    for labels, task in ((CLASSES, "classification"), (None, None)):
        (concern,) = tried(dataset(labels, task), network_of(Ends(nn.Softmax(1)), 6)).concerns
        assert (concern.kind, concern.where) == ("probabilities", "output")
    with pytest.raises(DataError, match="sigmoid"):
        tried(dataset(MANY, "multilabel"), network_of(Ends(nn.Sigmoid()), 6))


def test_outputs_and_labels_that_do_not_go_together() -> None:
    network = network_of(Ends(nn.Identity()), 6)
    with pytest.raises(DataError, match="label 7 is out of range"):
        tried(dataset(CLASSES + 4, "classification"), network)
    with pytest.raises(DataError, match="N × 3"):
        tried(dataset(MANY[:, :3], "multilabel"), network)
    with pytest.raises(DataError, match="NaN or infinite"):
        tried(dataset(CLASSES, "classification", scale=1e38), network_of(Ends(nn.Linear(4, 4)), 6))


def test_sorted_data_is_tried_from_end_to_end() -> None:
    """Of a good network with one label and small logits, the first hundred samples all have the label."""
    x = torch.cat([torch.full((100, 6), 0.1), torch.full((100, 6), -0.1)])
    network = network_of(nn.Linear(6, 1), 6)
    with torch.no_grad():
        for value, number in zip(network.module.parameters(), (1.0, 0.0), strict=True):
            value.fill_(number)
    part = Split({"x": x}, x[:, :1] > 0)
    assert tried(Dataset(part, part, part, "multilabel"), network).concerns == ()
