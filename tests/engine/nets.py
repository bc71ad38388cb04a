"""Small networks, each with one structure that pruning has to respect, and a way to make a `Network` of them."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from compression.network import Input, Network, Signature


def network_of(module: nn.Module, *shape: int, seed: int = 0) -> Network:
    """Traces `module` (one float input of `shape`), its weights drawn from `seed` alone, with batch-norm statistics
    that aren't trivial."""
    torch.manual_seed(seed)
    for value in module.parameters():
        if value.dim() == 1:
            nn.init.uniform_(value, -0.5, 1.5)
        else:
            nn.init.kaiming_uniform_(value, a=5**0.5)  # as nn.Linear and nn.Conv2d draw theirs
    module.train()
    with torch.no_grad():
        for _ in range(3):
            module(torch.randn(8, *shape) * 1.5 + 0.3)
    return Network(fx.symbolic_trace(module.eval()), Signature((Input("x", shape),)))


class Chain(nn.Module):
    """conv → norm → conv → norm → pool → linear → linear."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2, self.norm2 = nn.Conv2d(8, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12)
        self.relu, self.pool = nn.ReLU(), nn.MaxPool2d(4)
        self.hidden, self.head = nn.Linear(48, 20), nn.Linear(20, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm1(self.conv1(x)))
        x = self.pool(self.relu(self.norm2(self.conv2(x))))
        return self.head(self.relu(self.hidden(torch.flatten(x, 1))))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.inner, self.outer = nn.Conv2d(8, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
        self.relu, self.head = nn.ReLU(), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.stem(x)))
        x = self.relu(x + self.outer(self.relu(self.inner(x))))
        return self.head(torch.mean(x, [2, 3]))


class Concat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(1, 4, 1)
        self.norm, self.mix = nn.BatchNorm2d(10), nn.Conv2d(10, 8, 1)
        self.head = nn.Linear(8 * 64, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(torch.cat([self.left(x), self.right(x)], 1))
        return self.head(torch.flatten(torch.relu(self.mix(x)), 1))


class Depthwise(nn.Module):
    """A depthwise convolution with multiplier 2, a grouped one, and squeeze-and-excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.depthwise, self.norm = nn.Conv2d(8, 16, 3, padding=1, groups=8), nn.BatchNorm2d(16)
        self.squeeze, self.excite = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1)
        self.grouped = nn.Conv2d(16, 12, 3, padding=1, groups=4)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.depthwise(self.stem(x))))
        gate = torch.sigmoid(self.excite(torch.relu(self.squeeze(torch.mean(x, [2, 3], keepdim=True)))))
        return self.head(torch.mean(torch.relu(self.grouped(x * gate)), [2, 3]))


class ChunkThenCat(nn.Module):
    """Torch-Pruning cuts this without an error, and its forward then crashes (measured, `docs/benchmarks.md`)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.after, self.head = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        left, right = torch.chunk(self.stem(x), 2, 1)
        return self.head(torch.mean(self.after(torch.cat([right, left], 1)), [2, 3]))


class Summed(nn.Module):
    """A running sum over channels: each depends on those before it, so all of them stay."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.after, self.head = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.ops.aten.cumsum.default(self.stem(x), 1)
        return self.head(torch.mean(self.after(x), [2, 3]))


class Grouped(nn.Module):
    """Group norms: of several channels a group, of one, and of all."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 12, 3, padding=1), nn.GroupNorm(4, 12)
        self.second, self.single = nn.Conv2d(12, 6, 3), nn.GroupNorm(6, 6)
        self.third, self.whole = nn.Conv2d(6, 8, 1), nn.GroupNorm(1, 8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = self.whole(self.third(torch.relu(self.single(self.second(x)))))
        return self.head(torch.mean(torch.relu(x), [2, 3]))


class Upsampled(nn.Module):
    """A transposed convolution, pixels made of channels, and a layer norm over channels that come last."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.up, self.norm = nn.Conv2d(1, 8, 3), nn.ConvTranspose2d(8, 6, 2, 2), nn.BatchNorm2d(6)
        self.shuffled, self.shuffle = nn.Conv2d(6, 16, 1), nn.PixelShuffle(2)
        self.last, self.layer = nn.Conv2d(4, 7, 1), nn.LayerNorm(7)
        self.head = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.up(torch.relu(self.stem(x)))))
        x = self.last(torch.relu(self.shuffle(self.shuffled(x))))
        return self.head(torch.mean(self.layer(torch.permute(x, (0, 2, 3, 1))), (1, 2)))


class Padded(nn.Module):
    """Asymmetric padding before a strided convolution, and a transposed layout in between."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.after, self.head = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 6, 3, stride=2), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.pad(torch.relu(self.stem(x)), (0, 1, 0, 1))
        x = torch.permute(torch.relu(self.after(x)), (0, 2, 3, 1))
        return self.head(torch.mean(x, (1, 2)))


class Shared(nn.Module):
    """One convolution called three times, a norm without parameters, and a PReLU for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.again = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.norm, self.act, self.head = nn.BatchNorm2d(8, affine=False), nn.PReLU(8), nn.Linear(8 * 16, 5)
        self.pool, self.drop = nn.MaxPool2d(2), nn.Dropout2d(0.1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.stem(x)))
        for _ in range(3):
            x = self.again(x)
        return self.head(torch.flatten(self.drop(self.pool(x)), 1))


class Excited(nn.Module):
    """Squeeze-and-excitation with linear layers and axes of length one put back, and a flatten of N × H × W × C."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down, self.up = nn.Conv2d(1, 8, 3, padding=1), nn.Linear(8, 4), nn.Linear(4, 8)
        self.head = nn.Linear(8 * 64, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        gate = torch.sigmoid(self.up(torch.relu(self.down(torch.mean(x, [2, 3])))))
        x = x * torch.unsqueeze(torch.unsqueeze(gate, -1), -1)
        return self.head(torch.flatten(torch.permute(x, (0, 2, 3, 1)), 1))


class Tied(nn.Module):
    """Two layers with one weight: neither may be cut alone, so both stay."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left, self.right = nn.Conv2d(1, 8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.right.weight = self.left.weight
        self.middle, self.head = nn.Linear(8, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.left(torch.flatten(self.stem(x), 1))
        return self.head(self.middle(torch.relu(self.right(torch.relu(x)))))


class Powers(nn.Module):
    """A power of one tensor by another ties what this map doesn't follow: both stay."""

    def __init__(self) -> None:
        super().__init__()
        self.base, self.exponent, self.mix = nn.Conv2d(1, 6, 1), nn.Conv2d(1, 6, 1), nn.Conv2d(6, 6, 1)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.pow(torch.sigmoid(self.base(x)), torch.sigmoid(self.exponent(x)))
        return self.head(torch.mean(self.mix(x), [2, 3]))


ALL = {
    "chain": Chain,
    "residual": Residual,
    "concat": Concat,
    "depthwise": Depthwise,
    "chunk": ChunkThenCat,
    "summed": Summed,
    "grouped": Grouped,
    "upsampled": Upsampled,
    "padded": Padded,
    "shared": Shared,
    "excited": Excited,
    "tied": Tied,
    "powers": Powers,
}
