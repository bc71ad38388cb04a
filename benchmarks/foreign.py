"""Networks as people write them, of blocks that the zoo doesn't have: what the intake is tried on."""

# mypy: disable-error-code="no-any-return"
# A module of torch returns Any when it is called; here nearly every line is such a call.

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Plain(nn.Module):
    """Convolutions, two poolings, a flatten by `view`, and a hidden layer."""

    def __init__(self, width: int = 8, side: int = 16, classes: int = 10) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 2 * width, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.hidden = nn.Linear(2 * width * (side // 4) ** 2, 4 * width)
        self.head = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(torch.relu(self.second(self.pool(torch.relu(self.first(x))))))
        return self.head(torch.relu(self.hidden(x.view(x.shape[0], -1))))


class Residual(nn.Module):
    def __init__(self, width: int = 8, classes: int = 10) -> None:
        super().__init__()
        self.stem = _conv(3, width)
        self.inner = nn.Sequential(_conv(width, 2 * width, stride=2), nn.Conv2d(2 * width, 2 * width, 3, padding=1))
        self.norm = nn.BatchNorm2d(2 * width)
        self.side = nn.Conv2d(width, 2 * width, 1, 2)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = F.relu(self.norm(self.inner(x)) + self.side(x))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


class InvertedResidual(nn.Module):
    """MobileNetV3's block: expand, depthwise, squeeze and excite, project (Howard et al. 2019)."""

    def __init__(self, width: int, expansion: int = 4) -> None:
        super().__init__()
        inner = width * expansion
        self.expand = nn.Sequential(nn.Conv2d(width, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.Hardswish())
        self.depthwise = nn.Sequential(
            nn.Conv2d(inner, inner, 5, padding=2, groups=inner, bias=False), nn.BatchNorm2d(inner), nn.Hardswish()
        )
        self.squeeze, self.excite = nn.Conv2d(inner, inner // 4, 1), nn.Conv2d(inner // 4, inner, 1)
        self.project = nn.Sequential(nn.Conv2d(inner, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(self.expand(x))
        scale = F.hardsigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(y, 1)))))
        return x + self.project(y * scale)


class Mobile(nn.Module):
    def __init__(self, width: int = 8, blocks: int = 2, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.Hardswish())
        self.blocks = nn.Sequential(*[InvertedResidual(width) for _ in range(blocks)])
        self.head = nn.Sequential(
            nn.Linear(width, 4 * width), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(4 * width, classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class SqueezeExcite(nn.Module):
    """A residual network whose gates are linear layers on the pooled, reshaped channels (Hu et al. 2018)."""

    def __init__(self, width: int = 16, classes: int = 10) -> None:
        super().__init__()
        self.stem, self.conv = _conv(3, width), _conv(width, width)
        self.gate = nn.Sequential(nn.Linear(width, width // 4), nn.ReLU(), nn.Linear(width // 4, width), nn.Sigmoid())
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.conv(x)
        batch, channels = y.shape[:2]
        x = x + y * self.gate(F.adaptive_avg_pool2d(y, 1).view(batch, channels)).view(batch, channels, 1, 1)
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


class RegNet(nn.Module):
    """Grouped bottlenecks (Radosavovic et al. 2020)."""

    def __init__(self, width: int = 16, groups: int = 4, blocks: int = 2, classes: int = 10) -> None:
        super().__init__()
        self.stem = _conv(3, width, stride=2)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                _conv(width, width, 1),
                _conv(width, width, groups=groups),
                nn.Conv2d(width, width, 1),
                nn.BatchNorm2d(width),
            )
            for _ in range(blocks)
        )
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = F.relu(x + block(x))
        return self.head(x.mean((2, 3)))


class Dense(nn.Module):
    """Norm, activation, convolution on all that came before; a transition with pooling (Huang et al. 2017)."""

    def __init__(self, width: int = 8, growth: int = 4, layers: int = 3, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        widths = [width + growth * index for index in range(layers)]
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(size), nn.ReLU(), nn.Conv2d(size, growth, 3, padding=1, bias=False))
            for size in widths
        )
        last = width + growth * layers
        self.transition = nn.Sequential(nn.BatchNorm2d(last), nn.ReLU(), nn.Conv2d(last, last // 2, 1), nn.AvgPool2d(2))
        self.norm, self.head = nn.BatchNorm2d(last // 2), nn.Linear(last // 2, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return self.head(F.adaptive_avg_pool2d(F.relu(self.norm(self.transition(x))), 1).flatten(1))


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of N × C × H × W, written out (Liu et al. 2022)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt(variance + 1e-6)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class ConvNeXtBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise, self.norm = nn.Conv2d(width, width, 7, padding=3, groups=width), nn.LayerNorm(width, eps=1e-6)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + (self.gamma * self.down(F.gelu(self.up(y)))).permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    def __init__(self, width: int = 16, blocks: int = 2, classes: int = 10) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, width, 4, 4), ChannelNorm(width)
        self.blocks = nn.Sequential(*[ConvNeXtBlock(width) for _ in range(blocks)])
        self.last, self.head = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.blocks(self.norm(self.stem(x))).mean((-2, -1))))


class MixerBlock(nn.Module):
    """Tokens are mixed, then channels (Tolstikhin et al. 2021)."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.tokens = nn.Sequential(nn.Linear(tokens, 2 * tokens), nn.GELU(), nn.Linear(2 * tokens, tokens))
        self.channels = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.tokens(self.first(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.second(x))


class Mixer(nn.Module):
    def __init__(self, width: int = 16, patch: int = 4, side: int = 16, blocks: int = 2, classes: int = 10) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.blocks = nn.Sequential(*[MixerBlock((side // patch) ** 2, width) for _ in range(blocks)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        return self.head(self.norm(self.blocks(x)).mean(1))


class SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        parts = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        y = F.scaled_dot_product_attention(query, key, value)
        return self.proj(y.transpose(1, 2).reshape(batch, tokens, width))


class TransformerBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.first, self.second, self.attention = nn.LayerNorm(width), nn.LayerNorm(width), SelfAttention(width, heads)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.first(x))
        return x + self.feed(self.second(x))


class ViT(nn.Module):
    """Patches, a class token, positions (Dosovitskiy et al. 2021)."""

    def __init__(
        self, width: int = 16, heads: int = 2, patch: int = 4, side: int = 16, blocks: int = 2, classes: int = 10
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.position = nn.Parameter(torch.randn(1, (side // patch) ** 2 + 1, width) * 0.02)
        self.blocks = nn.Sequential(*[TransformerBlock(width, heads) for _ in range(blocks)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        return self.head(self.norm(self.blocks(x))[:, 0])


class WindowAttention(nn.Module):
    """Attention inside of windows, shifted by a roll and masked, with a bias by relative position (Liu et al. 2021)."""

    mask: Tensor
    places: Tensor

    def __init__(self, width: int, heads: int, side: int, window: int, shift: int) -> None:
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.norm, self.qkv, self.proj = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.bias = nn.Parameter(torch.randn((2 * window - 1) ** 2, heads) * 0.02)
        grid = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        offsets = (grid[:, :, None] - grid[:, None, :]).permute(1, 2, 0) + window - 1
        self.register_buffer("places", offsets[..., 0] * (2 * window - 1) + offsets[..., 1])
        regions = torch.zeros(1, side, side, 1)
        cuts = (slice(0, -window), slice(-window, -shift or None), slice(-shift or side, None))
        for index, (rows, columns) in enumerate((a, b) for a in cuts for b in cuts):
            regions[:, rows, columns] = index
        parts = self._windows(regions).squeeze(-1)
        apart = (parts[:, None, :] != parts[:, :, None]).float() * -100.0
        self.register_buffer("mask", apart if shift else torch.zeros_like(apart))

    def _windows(self, x: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        size = self.window
        x = x.view(batch, height // size, size, width // size, size, channels).permute(0, 1, 3, 2, 4, 5)
        return x.reshape(-1, size * size, channels)

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        y = self.norm(x)
        if self.shift:
            y = torch.roll(y, (-self.shift, -self.shift), (1, 2))
        y = self._windows(y)
        count, tokens, _ = y.shape
        qkv = self.qkv(y).reshape(count, tokens, 3, self.heads, channels // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = qkv[0] * (channels // self.heads) ** -0.5, qkv[1], qkv[2]
        scores = query @ key.transpose(-2, -1) + self.bias[self.places.view(-1)].view(tokens, tokens, -1).permute(
            2, 0, 1
        )
        if self.shift:
            windows = self.mask.shape[0]
            scores = scores.view(-1, windows, self.heads, tokens, tokens) + self.mask[:, None]
            scores = scores.view(-1, self.heads, tokens, tokens)
        y = self.proj((scores.softmax(-1) @ value).transpose(1, 2).reshape(count, tokens, channels))
        size = self.window
        y = y.view(-1, height // size, width // size, size, size, channels).permute(0, 1, 3, 2, 4, 5)
        y = y.reshape(batch, height, width, channels)
        return x + (torch.roll(y, (self.shift, self.shift), (1, 2)) if self.shift else y)


class Swin(nn.Module):
    def __init__(self, width: int = 16, heads: int = 2, side: int = 32, window: int = 4, classes: int = 10) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.plain = WindowAttention(width, heads, side // 4, window, 0)
        self.shifted = WindowAttention(width, heads, side // 4, window, window // 2)
        self.feed = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.merge_norm, self.merge = nn.LayerNorm(4 * width), nn.Linear(4 * width, 2 * width, bias=False)
        self.norm, self.head = nn.LayerNorm(2 * width), nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.shifted(self.plain(self.patches(x).permute(0, 2, 3, 1)))
        x = x + self.feed(x)
        parts = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        x = self.merge(self.merge_norm(torch.cat(parts, -1)))
        return self.head(self.norm(x).mean((1, 2)))


class Recurrent(nn.Module):
    """Two layers of LSTM, both ways, over sequences of vectors."""

    def __init__(self, inputs: int = 8, width: int = 16, classes: int = 10) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, width, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


class Gated(nn.Module):
    """Token ids, embedded; one layer of GRU, both ways; its last states side by side."""

    def __init__(self, words: int = 50, inputs: int = 8, width: int = 16, classes: int = 10) -> None:
        super().__init__()
        self.words = nn.Embedding(words, inputs)
        self.gru = nn.GRU(inputs, width, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        last = self.gru(self.words(tokens))[1]
        return self.head(torch.cat([last[0], last[1]], 1))


class UNet(nn.Module):
    """Down and up again, with skips; one way up by a transposed convolution, one by a resize (Ronneberger 2015)."""

    def __init__(self, width: int = 8, classes: int = 3) -> None:
        super().__init__()
        self.first, self.second, self.third = _conv(3, width), _conv(width, 2 * width), _conv(2 * width, 4 * width)
        self.up = nn.ConvTranspose2d(4 * width, 2 * width, 2, 2)
        self.low, self.high = _conv(4 * width, 2 * width), _conv(3 * width, width)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        second = self.second(F.max_pool2d(first, 2))
        low = self.low(torch.cat([self.up(self.third(F.max_pool2d(second, 2))), second], 1))
        up = F.interpolate(low, scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.head(self.high(torch.cat([up, first], 1)))


class Tokens(nn.Module):
    """Token ids, embedded; nn.TransformerEncoderLayer-like blocks; the mean of all places."""

    def __init__(self, words: int = 50, width: int = 16, length: int = 12, classes: int = 10) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Parameter(torch.randn(length, width) * 0.02)
        self.block, self.head = TransformerBlock(width, 2), nn.Linear(width, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.block(self.words(tokens) + self.places).mean(1))


FOREIGN: Mapping[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "plain": (Plain, (3, 16, 16)),
    "residual": (Residual, (3, 16, 16)),
    "inverted-residual": (Mobile, (3, 16, 16)),
    "squeeze-excite": (SqueezeExcite, (3, 16, 16)),
    "grouped": (RegNet, (3, 16, 16)),
    "dense": (Dense, (3, 16, 16)),
    "convnext": (ConvNeXt, (3, 32, 32)),
    "mixer": (Mixer, (3, 16, 16)),
    "vit": (ViT, (3, 16, 16)),
    "swin": (Swin, (3, 32, 32)),
    "lstm": (Recurrent, (12, 8)),
    "gru": (Gated, (12,)),
    "unet": (UNet, (3, 16, 16)),
    "tokens": (Tokens, (12,)),
}
"""By name: the class at its small size, and the shape of one sample."""


def settled(module: nn.Module, shape: tuple[int, ...], seed: int = 0) -> tuple[nn.Module, Tensor]:
    """The module in eval mode, with weights and batch-norm statistics that all differ, and an example of two."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():  # new networks hold many equal vectors, which exporters store once
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.02)
    if len(shape) == 1:
        return module.eval(), torch.randint(0, 50, (2, *shape), generator=generator)
    with torch.no_grad():
        for entry in module.modules():
            if isinstance(entry, nn.BatchNorm2d):
                entry.running_mean = torch.randn(entry.num_features, generator=generator) * 0.2
                entry.running_var = torch.rand(entry.num_features, generator=generator) + 0.5
    return module.eval(), torch.randn((2, *shape), generator=generator)


def export(module: nn.Module, example: Tensor, path: Path, opset: int | None, *, dynamic: bool = True) -> None:
    """Writes `.onnx` with the older exporter of torch, or with the newer one where the opset is None. A batch that
    isn't dynamic is the example's."""
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    given: dict[str, Any] = {"input_names": ["x"], "output_names": ["y"]}
    if opset is None:
        given |= {"dynamo": True, "external_data": False, "verbose": False}
        given["dynamic_shapes"] = ({0: torch.export.Dim("batch", min=1)},) if dynamic else None
    else:
        given |= {"dynamo": False, "opset_version": opset}
        given["dynamic_axes"] = {"x": {0: "batch"}, "y": {0: "batch"}} if dynamic else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporters, about themselves
        torch.onnx.export(module, (example,), path, **given)
