"""MobileNet v1 (Howard et al. 2017) and v2 (Sandler et al. 2018) with a width multiplier.

`small_images` keeps the first strides at 1, for 32 x 32 inputs. State-dict names of v2 are those of torchvision.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

V1 = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
"""Channels and stride of the separable blocks."""
V2 = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, repeats and first stride of the inverted residual stages."""


def scaled(channels: int, multiplier: float) -> int:
    """The nearest multiple of 8, at least 8, and never below nine tenths (as the authors' code rounds)."""
    wanted = channels * multiplier
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def convolution(
    in_channels: int, channels: int, kernel: int, stride: int, activation: type[nn.Module], groups: int = 1
) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), activation())


class MobileNetV1(nn.Module):
    """N x in_channels x H x W -> N x classes."""

    def __init__(self, in_channels: int, classes: int, multiplier: float, *, small_images: bool) -> None:
        super().__init__()
        previous = scaled(32, multiplier)
        layers = [convolution(in_channels, previous, 3, 1 if small_images else 2, nn.ReLU)]
        for index, (base, stride) in enumerate(V1):
            channels = scaled(base, multiplier)
            stride_here = 1 if small_images and index < 2 else stride
            layers.append(convolution(previous, previous, 3, stride_here, nn.ReLU, groups=previous))
            layers.append(convolution(previous, channels, 1, 1, nn.ReLU))
            previous = channels
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(previous, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.features(x))
        y: Tensor = self.classifier(torch.flatten(x, 1))
        return y


class InvertedResidual(nn.Module):
    """1 x 1 up, 3 x 3 depthwise, 1 x 1 down without activation; the input is added where the shapes agree."""

    def __init__(self, in_channels: int, channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(convolution(in_channels, hidden, 1, 1, nn.ReLU6))
        layers.append(convolution(hidden, hidden, 3, stride, nn.ReLU6, groups=hidden))
        layers += [nn.Conv2d(hidden, channels, 1, bias=False), nn.BatchNorm2d(channels)]
        self.conv = nn.Sequential(*layers)
        self.adds = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return x + y if self.adds else y


class MobileNetV2(nn.Module):
    """N x in_channels x H x W -> N x classes."""

    def __init__(self, in_channels: int, classes: int, multiplier: float, *, small_images: bool) -> None:
        super().__init__()
        previous = scaled(32, multiplier)
        layers: list[nn.Module] = [convolution(in_channels, previous, 3, 1 if small_images else 2, nn.ReLU6)]
        for stage, (expansion, base, repeats, first_stride) in enumerate(V2):
            channels = scaled(base, multiplier)
            for index in range(repeats):
                stride = first_stride if index == 0 and not (small_images and stage == 1) else 1
                layers.append(InvertedResidual(previous, channels, stride, expansion))
                previous = channels
        last = scaled(1280, max(1.0, multiplier))
        layers.append(convolution(previous, last, 1, 1, nn.ReLU6))
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, classes))

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.features(x))
        y: Tensor = self.classifier(torch.flatten(x, 1))
        return y
