"""Small networks of every block kind that lifting must keep exact."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.a = nn.Conv2d(8, 8, 3, padding=1)
        self.b = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.3)
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        x = self.stem(x)
        y = self.b(self.a(x))
        y += x
        x = F.relu_(y)
        x = F.adaptive_avg_pool2d(x, 1)
        return self.fc(self.drop(x.view(x.size(0), -1)))


class Depthwise(nn.Module):
    def __init__(self):
        super().__init__()
        self.f = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1),
            nn.ReLU6(),
            nn.Conv2d(8, 8, 3, 1, 1, groups=8),
            nn.Hardswish(),
            nn.Conv2d(8, 16, 3, 1, 1, groups=4),
            nn.LeakyReLU(0.2),
        )
        self.fc = nn.Linear(16, 5)

    def forward(self, x):
        return self.fc(self.f(x).mean([2, 3]))


class Concat(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 6, 3, padding=1)
        self.b = nn.Conv2d(3, 10, 1)
        self.c = nn.Conv2d(16, 4, 3)
        self.pool = nn.MaxPool2d(2)
        self.up = nn.Upsample(scale_factor=2)

    def forward(self, x):
        y = torch.cat([F.silu(self.a(x)), torch.tanh(self.b(x))], 1)
        left, right = self.up(self.pool(self.c(y))).chunk(2, 1)
        return left * 2.0 - right, right.flatten(1)


class SqueezeExcite(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.down = nn.Linear(8, 4)
        self.up = nn.Linear(4, 8)

    def forward(self, x):
        x = self.conv(x)
        batch, channels = x.shape[:2]
        scale = F.adaptive_avg_pool2d(x, 1).view(batch, channels)
        scale = torch.sigmoid(self.up(F.relu(self.down(scale)))).view(batch, channels, 1, 1)
        return (x * scale).flatten(1)


class Attention(nn.Module):
    """A patch embedding with a class token, one attention block and layer scale."""

    def __init__(self, width=16, heads=2):
        super().__init__()
        self.heads = heads
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.position = nn.Parameter(torch.randn(1, 5, width))
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.scale = nn.Parameter(torch.full((width,), 0.5))
        self.head = nn.Linear(width, 5)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        b, n, d = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d)
        x = x + self.scale * F.gelu(self.proj(y))
        return self.head(x[:, 0])


class TiedTokens(nn.Module):
    """Integer input, an embedding whose weight is also the output layer's, and one layer that is called twice."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.mix = nn.Linear(6, 6)
        self.out = nn.Linear(6, 11, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, tokens):
        x = self.mix(torch.relu(self.mix(self.embed(tokens))))
        return self.out(x.mean(1))


class OddNames(nn.Module):
    """Names that would hide attributes of a GraphModule, or that are keywords."""

    def __init__(self):
        super().__init__()
        self.graph = nn.Linear(4, 4)
        self.code = nn.Sequential(nn.Linear(4, 4), nn.PReLU(4))
        self.add_module("class", nn.Linear(4, 4))
        self.register_buffer("meta", torch.arange(4.0))

    def forward(self, input):  # noqa: A002 - the name is what is tried
        return getattr(self, "class")(self.code(self.graph(input))) + self.meta


IMAGE = (3, 8, 8)
NETS = {
    "residual": (Residual, IMAGE),
    "depthwise": (Depthwise, IMAGE),
    "concat": (Concat, IMAGE),
    "squeeze-excite": (SqueezeExcite, IMAGE),
    "attention": (Attention, IMAGE),
    "tied": (TiedTokens, (7,)),
    "odd-names": (OddNames, (4,)),
}


def make(name):
    """The seeded network in eval mode, with batch-norm statistics that are not trivial, and an input of batch 2."""
    cls, shape = NETS[name]
    torch.manual_seed(0)
    module = cls()
    if name == "tied":
        return module.eval(), torch.randint(0, 11, (2, *shape))
    with torch.no_grad():
        module(torch.randn(8, *shape) * 1.5 + 0.3)
    return module.eval(), torch.randn(2, *shape)


def export(module, example, path, *, dynamic=True):
    if dynamic:
        shapes = ({0: torch.export.Dim("batch", min=1, max=1024)},)
        program = torch.export.export(module, (example,), dynamic_shapes=shapes)
    else:
        program = torch.export.export(module, (example,))
    torch.export.save(program, path)
    return path
