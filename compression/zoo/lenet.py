"""The two LeNets on which compression papers report (LeCun et al. 1998; the second in Caffe's form)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LeNet300(nn.Module):
    """LeNet-300-100: N x features -> N x classes."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.f1 = nn.Linear(features, 300)
        self.relu1 = nn.ReLU()
        self.f2 = nn.Linear(300, 100)
        self.relu2 = nn.ReLU()
        self.f3 = nn.Linear(100, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.f1(x))
        x = self.relu2(self.f2(x))
        y: Tensor = self.f3(x)
        return y


class LeNet5(nn.Module):
    """LeNet-5 as Caffe has it: N x channels x 28 x 28 -> N x classes; ReLU after c1, c2 and f1, no padding."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(in_channels, 20, 5)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.c2 = nn.Conv2d(20, 50, 5)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)
        self.f1 = nn.Linear(800, 500)
        self.relu3 = nn.ReLU()
        self.f2 = nn.Linear(500, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool1(self.relu1(self.c1(x)))
        x = self.pool2(self.relu2(self.c2(x)))
        x = self.relu3(self.f1(torch.flatten(x, 1)))
        y: Tensor = self.f2(x)
        return y
