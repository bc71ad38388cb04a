"""Networks made of the vocabulary alone, so that every format can hold them."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from compression.network import Input, Network, Signature, Variant
from tests.engine.nets import network_of


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm1 = nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.inner, self.norm2 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.relu, self.pool, self.head = nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm1(self.stem(x)))
        x = self.relu(x + self.norm2(self.inner(x)))
        return self.head(torch.flatten(self.pool(x), 1))


class TwoExits(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.early, self.late = nn.Linear(4, 4), nn.Linear(4, 2), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.first(x)
        return self.early(x), self.late(x)


def residual(seed: int = 0) -> Network:
    """Input x: 1 × 8 × 8; ten logits. `seed` draws the norms' statistics, and the weights with them."""
    torch.manual_seed(seed)
    return network_of(Residual(), 1, 8, 8, seed=seed)


def two_exits() -> Network:
    variants = {"full": Variant((0, 1)), "early": Variant((0,))}
    signature = Signature((Input("x", (4,)),), ("early", "late"))
    return Network(fx.symbolic_trace(TwoExits().eval()), signature, variants=variants)
