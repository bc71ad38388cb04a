"""VGG for small images (Simonyan and Zisserman 2015): 3 x 3 convolutions with batch norm, and one linear layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

STAGES = ((1, 1), (2, 2), (4, 4, 4))
"""Convolutions between poolings, each a multiple of the width."""


class SmallVGG(nn.Module):
    """N x in_channels x H x W -> N x classes; H and W are halved after every stage."""

    def __init__(self, in_channels: int, classes: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        previous = in_channels
        for stage in STAGES:
            for multiple in stage:
                channels = multiple * width
                layers += [nn.Conv2d(previous, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
                previous = channels
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(previous, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.features(x))
        y: Tensor = self.classifier(torch.flatten(x, 1))
        return y
