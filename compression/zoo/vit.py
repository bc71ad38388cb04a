"""A small vision transformer (Dosovitskiy et al. 2021; the tiny size of Touvron et al. 2021, DeiT): patches, a class
token, learned positions, pre-norm blocks. State-dict names and the order of queries, keys and values are those of timm.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation uses
from torch import Tensor, fx, nn

from compression.vocabulary import size

fx.wrap("size")
EPS = 1e-6


class PatchEmbed(nn.Module):
    """N x in_channels x H x W -> N x patches x width."""

    def __init__(self, in_channels: int, patch: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, width, patch, patch)

    def forward(self, x: Tensor) -> Tensor:
        return torch.transpose(torch.flatten(self.proj(x), 2), 1, 2)


class Attention(nn.Module):
    """Self-attention of `heads` heads over N x tokens x width."""

    def __init__(self, tokens: int, width: int, heads: int) -> None:
        super().__init__()
        self.tokens, self.heads, self.places = tokens, heads, width // heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        parts = torch.reshape(self.qkv(x), (-1, self.tokens, 3, self.heads, self.places))
        q, k, v = torch.unbind(torch.permute(parts, (2, 0, 3, 1, 4)), 0)
        y = torch.transpose(F.scaled_dot_product_attention(q, k, v), 1, 2)
        z: Tensor = self.proj(torch.flatten(y, 2))
        return z


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc2(self.act(self.fc1(x)))
        return y


class Block(nn.Module):
    def __init__(self, tokens: int, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, EPS)
        self.attn = Attention(tokens, width, heads)
        self.norm2 = nn.LayerNorm(width, EPS)
        self.mlp = Mlp(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        y: Tensor = x + self.mlp(self.norm2(x))
        return y


class VisionTransformer(nn.Module):
    """N x in_channels x height x width of the image -> N x classes; `patches` of `patch` x `patch` pixels."""

    def __init__(
        self, in_channels: int, patch: int, patches: int, width: int, depth: int, heads: int, hidden: int, classes: int
    ) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, patches + 1, width))
        nn.init.normal_(self.cls_token, std=0.02)
        nn.init.normal_(self.pos_embed, std=0.02)
        self.patch_embed = PatchEmbed(in_channels, patch, width)
        self.blocks = nn.Sequential(*(Block(patches + 1, width, heads, hidden) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, EPS)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = torch.ops.aten.expand.default(self.cls_token, [size(x, 0), -1, -1])
        x = torch.cat([tokens, self.patch_embed(x)], 1) + self.pos_embed
        x = torch.ops.aten.select.int(self.norm(self.blocks(x)), 1, 0)
        y: Tensor = self.head(x)
        return y
