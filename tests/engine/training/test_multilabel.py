"""Multi-label training: its losses by their formulas, and the one loop on labels of several classes at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from compression.checkpoint import Checkpoints
from compression.context import Context
from compression.data import Dataset, Split
from compression.events import Reporter
from compression.network import Network
from compression.training.loop import train
from compression.training.losses import label_loss, soft_label_loss, soft_sigmoid_loss, training_loss
from compression.training.spec import Training
from tests.engine.nets import network_of


def values(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2


def test_the_label_loss_is_the_mean_of_binary_cross_entropies() -> None:
    logits, labels = values(0, 6, 4), values(1, 6, 4) > 0
    p = torch.sigmoid(logits)
    expected = -torch.where(labels, p, 1 - p).log().mean()
    assert float(label_loss(logits, labels, "multilabel")) == pytest.approx(float(expected), rel=1e-9)


def test_the_teachers_loss_is_the_divergence_of_each_labels_two_classes() -> None:
    student, teacher, temperature = values(0, 6, 4), values(1, 6, 4), 3.0
    pairs = [torch.stack([logits, torch.zeros_like(logits)], -1).reshape(-1, 2) for logits in (student, teacher)]
    expected = soft_label_loss(*pairs, temperature)
    assert float(soft_sigmoid_loss(student, teacher, temperature)) == pytest.approx(float(expected), rel=1e-9)
    assert float(soft_sigmoid_loss(teacher, teacher, temperature)) == pytest.approx(0.0, abs=1e-12)
    far = torch.tensor([[300.0, -300.0]])
    assert torch.isfinite(soft_sigmoid_loss(far, -far, 1.0))


def test_both_losses_are_mixed_by_alpha() -> None:
    student, teacher, labels = values(0, 6, 4), values(1, 6, 4), values(2, 6, 4) > 0
    found = training_loss([student], [teacher], labels, "multilabel", Training(alpha=0.3, temperature=2))
    expected = 0.7 * label_loss(student, labels, "multilabel") + 0.3 * soft_sigmoid_loss(student, teacher, 2)
    assert float(found) == pytest.approx(float(expected), rel=1e-9)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.relu, self.head = nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.relu(self.hidden(x)))


def split(count: int, seed: int) -> Split:
    """Each of four labels has a direction of its own."""
    directions = torch.randn(12, 4, generator=torch.Generator().manual_seed(9))
    x = torch.randn(count, 12, generator=torch.Generator().manual_seed(seed))
    return Split({"x": x}, x @ directions > 1)


@pytest.mark.parametrize("loss", ["labels", "both", "teacher"])
def test_the_loop_learns_several_labels_and_chooses_by_average_precision(tmp_path: Path, loss: str) -> None:
    network = network_of(Small(), 12)
    reporter = Reporter((tmp_path / "log").open("w"))
    teacher = network
    for kind in ["labels"] if loss == "labels" else ["labels", loss]:
        data = Dataset(split(400, 1), split(200, 2), split(200, 3), "multilabel")
        context = Context(data, teacher, torch.device("cpu"), 1, reporter, Checkpoints(tmp_path, f"0-{kind}", reporter))
        spec = Training(epochs=10, learning_rate=0.3, loss=kind)  # type: ignore[arg-type]
        trained, facts = train(network, spec, context, stage=kind)
        teacher = trained
    history = {entry["epoch"]: entry for entry in facts["history"]}
    assert history[0]["average_precision"] < 0.6
    assert history[facts["best_epoch"]]["average_precision"] == max(e["average_precision"] for e in history.values())
    assert history[facts["best_epoch"]]["average_precision"] > 0.95
    assert isinstance(trained, Network)
    reporter.stream.close()
