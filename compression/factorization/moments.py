"""What a layer's inputs and outputs are like on data: all that a low rank needs to know to lose least.

A convolution is a matrix W (O × I·k²) times the patches x of its input; so is a linear layer with its input's rows.
What replacing W by W′ does to the outputs is then, over the data, (W − W′) G (W − W′)ᵀ with G the patches' second
moment about their mean.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, fx, nn

from compression.context import Context
from compression.data import Split
from compression.network import Network, as_tuple

BATCH = 64
ROWS = 4096
"""Of patches that a batch gives a layer's moments, drawn from the seed."""
MOST_INPUTS = 4608
"""Entries of a patch up to which its second moment is kept (170 MB): 512 channels of 3 × 3."""


@dataclass(frozen=True)
class Moments:
    """Of one layer, float64. `mean` (d) and `second` (d × d, about the mean; None: too large to keep) of its patches;
    `outputs` (O × O): the second moment of its outputs about their mean; `harm`: half the sum over an output's
    positions of the mean squared gradient of the loss, so that harm · ‖error of one position‖² estimates what the loss
    of a sample rises by (the Fisher information of the outputs, as if each were by itself)."""

    mean: Tensor
    second: Tensor | None
    outputs: Tensor
    harm: float


def moments_of(network: Network, names: Collection[str], samples: int, context: Context) -> dict[str, Moments]:
    """The moments of these layers (Conv2d, Linear) on as many training samples, drawn from the seed.

    The gradient is that of the network's own uncertainty: classes are drawn from its probabilities, other outputs from
    a normal distribution about them (Fisher information; no label is read)."""
    data = context.require_data("a low rank that looks at the data")
    generator = torch.Generator().manual_seed(context.seed)
    chosen = data.train.take(torch.randperm(len(data.train), generator=generator)[:samples])
    module = network.copy().module.to(context.device).requires_grad_(True)
    sums = {name: _Sums(module.get_submodule(name)) for name in names}
    for batch in _batches(chosen):
        outputs = _Tap(module, sums, generator).run(*batch.to(context.device).inputs.values())
        real = [value for value in as_tuple(outputs) if value.requires_grad]
        directions = [_direction(value.detach(), data.task == "classification", generator) for value in real]
        seen = [(name, value) for name, entry in sums.items() for value in entry.values]
        gradients = torch.autograd.grad(real, [value for _, value in seen], directions, allow_unused=True)
        for (name, _), gradient in zip(seen, gradients, strict=True):
            sums[name].add_gradient(gradient)
        for entry in sums.values():
            entry.values.clear()
        context.progress(0.0, "looking at what the layers see")
    return {name: entry.moments(len(chosen)) for name, entry in sums.items()}


def patches_of(leaf: nn.Module, value: Tensor) -> Tensor:
    """What the rows of `leaf.weight`, flattened, are multiplied with: N·positions × d. `value` is the leaf's input."""
    if isinstance(leaf, nn.Linear):
        return value.reshape(-1, value.shape[-1])
    assert isinstance(leaf, nn.Conv2d)  # noqa: S101 - `check` lets no other in
    (top, bottom), (left, right) = padding_of(leaf)
    unfolded = F.unfold(
        F.pad(value, (left, right, top, bottom)), leaf.kernel_size, dilation=leaf.dilation, stride=leaf.stride
    )
    return unfolded.transpose(1, 2).reshape(-1, unfolded.shape[1])


def padding_of(leaf: nn.Conv2d) -> list[tuple[int, int]]:
    """Zeros before and after each axis in space."""
    if leaf.padding == "same":
        reach = [dilation * (size - 1) for dilation, size in zip(leaf.dilation, leaf.kernel_size, strict=True)]
        return [(total // 2, total - total // 2) for total in reach]
    sizes = (0, 0) if isinstance(leaf.padding, str) else leaf.padding
    return [(int(size), int(size)) for size in sizes]


class _Sums:
    def __init__(self, leaf: nn.Module) -> None:
        self.leaf = leaf
        weight: Any = leaf.weight
        self.weight = weight.detach().flatten(1).double().cpu()
        self.keeps_second = self.weight.shape[1] <= MOST_INPUTS
        self.rows = 0
        self.first = torch.zeros(self.weight.shape[1], dtype=torch.float64)
        self.second = torch.zeros(2 * self.weight.shape[1:] if self.keeps_second else (0, 0), dtype=torch.float64)
        self.output_first = torch.zeros(len(self.weight), dtype=torch.float64)
        self.output_second = torch.zeros(2 * self.weight.shape[:1], dtype=torch.float64)
        self.squares = 0.0
        self.values: list[Tensor] = []

    def add_input(self, value: Tensor, generator: torch.Generator) -> None:
        # Patches of one sample after the other: those of a whole batch take k² times its memory.
        parts = torch.split(value.detach(), 1) if isinstance(self.leaf, nn.Conv2d) else (value.detach(),)
        with torch.no_grad():
            rows = torch.cat([self._drawn(part, ROWS // len(parts), generator) for part in parts]).double()
            outputs = rows @ self.weight.T
        self.rows += len(rows)
        self.first += rows.sum(0)
        self.output_first += outputs.sum(0)
        self.output_second += outputs.T @ outputs
        if self.keeps_second:
            self.second += rows.T @ rows

    def _drawn(self, value: Tensor, most: int, generator: torch.Generator) -> Tensor:
        rows = patches_of(self.leaf, value)
        return rows[torch.randperm(len(rows), generator=generator)[:most].to(rows.device)].cpu()

    def add_gradient(self, gradient: Tensor | None) -> None:
        """Of the sum over a batch: the mean square over an output's channels, summed over its positions."""
        if gradient is not None:
            self.squares += float(gradient.double().square().sum()) / len(self.weight)

    def moments(self, samples: int) -> Moments:
        mean, output_mean = self.first / self.rows, self.output_first / self.rows
        second = self.second / self.rows - torch.outer(mean, mean) if self.keeps_second else None
        outputs = self.output_second / self.rows - torch.outer(output_mean, output_mean)
        return Moments(mean, second, outputs, self.squares / samples / 2)


class _Tap(fx.Interpreter):
    """Runs the graph and notes what goes into and comes out of the layers."""

    def __init__(self, module: fx.GraphModule, sums: dict[str, _Sums], generator: torch.Generator) -> None:
        super().__init__(module)
        self.sums, self.generator = sums, generator

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.op == "call_module" and str(n.target) in self.sums:
            entry = self.sums[str(n.target)]
            entry.add_input(self.env[n.args[0]], self.generator)  # type: ignore[index]
            entry.values.append(result)
        return result


def _batches(split: Split) -> Iterator[Split]:
    for start in range(0, len(split), BATCH):
        yield split.take(torch.arange(start, min(start + BATCH, len(split))))


def _direction(output: Tensor, classes: bool, generator: torch.Generator) -> Tensor:
    """The gradient by `output` of the negative log likelihood of what is drawn from it."""
    if not classes or output.dim() < 2:
        return torch.randn(output.shape, generator=generator).to(output.device)
    shares = torch.softmax(output, 1)
    rows = shares.movedim(1, -1).reshape(-1, shares.shape[1])
    drawn = torch.multinomial(rows.cpu(), 1, generator=generator).to(output.device)
    picked = torch.zeros_like(rows).scatter_(1, drawn, 1.0)
    return shares - picked.reshape(*shares.movedim(1, -1).shape).movedim(-1, 1)
