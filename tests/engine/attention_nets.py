"""Small networks with attention, as people write it: what lifting must keep exact and pruning must cut in step."""

from __future__ import annotations

import math
import tempfile
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from compression.intake.model import read_model
from compression.network import Network

TOKENS, WORDS, WIDTH, HEADS, CLASSES = 6, 13, 12, 3, 5
PLACES = WIDTH // HEADS


class Block(nn.Module):
    """Pre-norm attention and FFN; `attend` is what the variants differ in."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)

    def attend(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.norm1(x))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Joint(Block):
    """One layer for queries, keys and values: reshape to 3 × heads × places, permute, unbind."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)

    def attend(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, HEADS, PLACES).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.proj(y.transpose(1, 2).reshape(b, n, WIDTH))


class Chunked(Joint):
    """chunk(3), a view for each, and attention spelt out with a softmax."""

    def attend(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = (t.view(b, n, HEADS, PLACES).transpose(1, 2) for t in self.qkv(x).chunk(3, dim=-1))
        weights = (q @ k.transpose(-2, -1) / math.sqrt(PLACES)).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).contiguous().view(b, n, WIDTH))


class Split(Joint):
    """split by sizes, a scale of its own, heads taken apart by indexing."""

    def attend(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).split([WIDTH, WIDTH, WIDTH], 2)
        q, k, v = (t.unflatten(-1, (HEADS, PLACES)).permute(0, 2, 1, 3) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q * 0.7, k, v, scale=0.3)
        return self.proj(y.permute(0, 2, 1, 3).flatten(2))


class Separate(Block):
    """Three layers, Einstein's notation."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def attend(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = (layer(x).view(b, n, HEADS, PLACES) for layer in (self.q, self.k, self.v))
        weights = (torch.einsum("bihd,bjhd->bhij", q, k) * PLACES**-0.5).softmax(-1)
        return self.proj(torch.einsum("bhij,bjhd->bihd", weights, v).reshape(b, n, WIDTH))


class Merged(Block):
    """Heads joined with the batch, as batched matrix products want it; a bias on the scores for each head."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.bias = nn.Parameter(torch.randn(HEADS, TOKENS, TOKENS))

    def attend(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, HEADS, PLACES).permute(2, 0, 3, 1, 4)
        q, k, v = (t.reshape(b * HEADS, n, PLACES) for t in (q, k, v))
        scores = torch.bmm(q, k.transpose(1, 2)) * 0.5
        scores = scores.view(b, HEADS, n, n) + self.bias
        y = torch.bmm(scores.softmax(-1).view(b * HEADS, n, n), v)
        return self.proj(y.view(b, HEADS, n, PLACES).transpose(1, 2).reshape(b, n, WIDTH))


class Module(Block):
    """nn.MultiheadAttention with its default arguments: it also computes the mean of the weights."""

    def __init__(self, *, batch_first: bool = True) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=batch_first)

    def attend(self, x: Tensor) -> Tensor:
        if self.batch_first:
            return self.proj(self.attention(x, x, x)[0])
        y = x.transpose(0, 1)
        return self.proj(self.attention(y, y, y, need_weights=False)[0].transpose(0, 1))


class Vision(nn.Module):
    """Patches by a convolution, a class token, learned positions, blocks, a head on the token."""

    def __init__(self, block: type[Block], **options: bool) -> None:
        super().__init__()
        self.patches = nn.Conv2d(2, WIDTH, 2, 2)
        self.token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.position = nn.Parameter(torch.randn(1, TOKENS, WIDTH))
        self.blocks = nn.Sequential(block(**options), block(**options))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        return self.head(self.norm(self.blocks(x))[:, 0])


class Windows(nn.Module):
    """Attention within shifted windows of 2 × 2, with relative positions from a table for each head (as in Swin)."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm = nn.Conv2d(2, WIDTH, 1), nn.LayerNorm(WIDTH)
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.table = nn.Parameter(torch.randn(9, HEADS))
        places = torch.stack(torch.meshgrid(torch.arange(2), torch.arange(2), indexing="ij")).flatten(1)
        relative = places[:, :, None] - places[:, None, :] + 1
        self.register_buffer("relative", relative[0] * 3 + relative[1])
        self.up, self.down, self.head = nn.Linear(WIDTH, 20), nn.Linear(20, WIDTH), nn.Linear(WIDTH, CLASSES)

    def attend(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, HEADS, PLACES).permute(2, 0, 3, 1, 4)
        bias = self.table[self.relative.view(-1)].view(n, n, -1).permute(2, 0, 1).contiguous()
        scores = q * PLACES**-0.5 @ k.transpose(-2, -1) + bias.unsqueeze(0)
        return self.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(b, n, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).permute(0, 2, 3, 1)
        b, h, w, _ = x.shape
        y = torch.roll(self.norm(x), (-1, -1), (1, 2))
        y = y.view(b, h // 2, 2, w // 2, 2, WIDTH).permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, 4, WIDTH)
        y = self.attend(y).view(b, h // 2, w // 2, 2, 2, -1).permute(0, 1, 3, 2, 4, 5).contiguous().view(b, h, w, -1)
        x = x + torch.roll(y, (1, 1), (1, 2))
        x = x + self.down(F.gelu(self.up(x)))
        return self.head(x.mean((1, 2)))


class Mixed(nn.Module):
    """Convolutions with batch norm before, attention after: channels, neurons and heads in one network."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.vision = Vision(Joint)
        self.vision.patches = nn.Conv2d(16, WIDTH, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.vision(self.stem(x))


def encoder(**options: object) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 2 * WIDTH, batch_first=True, **options)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


class Texts(nn.Module):
    """Token ids and a mask; the mean over what isn't padding."""

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH, padding_idx=0)
        self.position = nn.Parameter(torch.randn(1, TOKENS, WIDTH))
        self.encoder, self.head = encoder(**options), nn.Linear(WIDTH, CLASSES)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        x = self.encoder(self.words(tokens) + self.position, src_key_padding_mask=mask == 0)
        weights = mask.unsqueeze(-1).to(torch.float32)
        return self.head((x * weights).sum(1) / weights.sum(1))


class Padded(Texts):
    """The mask is a bool, true where there is nothing."""

    def forward(self, tokens: Tensor, padding: Tensor) -> Tensor:
        x = self.encoder(self.words(tokens) + self.position, src_key_padding_mask=padding)
        return self.head(x.mean(1))


class Causal(Texts):
    """Positions from an embedding, a causal mask, the last token's answer."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self.position = None
        self.order = nn.Embedding(TOKENS, WIDTH)
        self.register_buffer("places", torch.arange(TOKENS))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.words(tokens) * WIDTH**0.5 + self.order(self.places)
        ahead = nn.Transformer.generate_square_subsequent_mask(TOKENS)
        return self.head(self.encoder(x, mask=ahead, is_causal=True)[:, -1])


class Scores(nn.Module):
    """Masks on scaled_dot_product_attention itself: floats, bools (true: may be looked at), and a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.head = nn.Linear(WIDTH, CLASSES)
        self.register_buffer("band", torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril(1))

    def forward(self, tokens: Tensor, mask: Tensor, bias: Tensor) -> Tensor:
        x = self.words(tokens)
        q, k, v = (layer(x).view(-1, TOKENS, HEADS, PLACES).transpose(1, 2) for layer in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
        y = y + F.scaled_dot_product_attention(q, k, v, attn_mask=bias[:, None])
        y = y + F.scaled_dot_product_attention(k, q, v, attn_mask=self.band)
        return self.head(y.transpose(1, 2).flatten(2).mean(1))


def images(batch: int) -> tuple[Tensor, ...]:
    return (torch.randn(batch, 2, 2, 10),)


def tokens(batch: int) -> tuple[Tensor, ...]:
    return (torch.randint(0, WORDS, (batch, TOKENS)),)


def masked(batch: int) -> tuple[Tensor, ...]:
    lengths = torch.randint(1, TOKENS + 1, (batch, 1))
    return (*tokens(batch), (torch.arange(TOKENS) < lengths).to(torch.int64))


def padded(batch: int) -> tuple[Tensor, ...]:
    ids, mask = masked(batch)
    return ids, mask == 0


def scored(batch: int) -> tuple[Tensor, ...]:
    ids, mask = masked(batch)
    return ids, mask == 1, torch.randn(batch, TOKENS, TOKENS)


NETS = {
    "joint": (lambda: Vision(Joint), images),
    "chunked": (lambda: Vision(Chunked), images),
    "split": (lambda: Vision(Split), images),
    "separate": (lambda: Vision(Separate), images),
    "merged": (lambda: Vision(Merged), images),
    "module": (lambda: Vision(Module), images),
    "sequence-first": (lambda: Vision(Module, batch_first=False), images),
    "windows": (Windows, images),
    "mixed": (Mixed, images),
    "post-norm": (lambda: Texts(activation="relu"), masked),
    "pre-norm": (lambda: Texts(activation="gelu", norm_first=True), masked),
    "padded": (lambda: Padded(), padded),
    "causal": (lambda: Causal(norm_first=True), tokens),
    "scores": (Scores, scored),
}


def make(name: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The seeded network in eval mode, with norms that aren't trivial, and its inputs at a batch of two."""
    factory, inputs = NETS[name]
    torch.manual_seed(0)
    module = factory().eval()
    for path, value in module.named_parameters():
        if "layers.1." in path and value.dim() > 1:
            nn.init.normal_(value, std=0.2)  # nn.TransformerEncoder makes its layers as copies of one
        if value.dim() == 1:
            nn.init.uniform_(value, *((0.5, 1.5) if path.endswith("weight") else (-0.5, 0.5)))
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.5, 0.5)
    return module, inputs(2)


def save(module: nn.Module, inputs: tuple[Tensor, ...], path: Path, *, dynamic: bool = True) -> Path:
    shapes = tuple({0: torch.export.Dim("batch", min=1, max=1024)} for _ in inputs) if dynamic else None
    torch.export.save(torch.export.export(module, inputs, dynamic_shapes=shapes), path)
    return path


@cache
def lifted(name: str) -> Network:
    """The network of `name` as it comes out of its `.pt2`."""
    with tempfile.TemporaryDirectory() as folder:
        return read_model(save(*make(name), Path(folder) / "net.pt2"))
