"""How much it costs to have one layer in few bits: measured, each layer and each number of bits by itself.

Mixed-precision methods rank layers by such figures: HAWQ (Dong et al. 2019) estimates them from the Hessian, Sony's
Model Compression Toolkit measures how far outputs move. Here it is the rise of the loss itself, or of the outputs'
distance to the original's, on training samples: the validation split has no part in it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

import torch
from torch import Tensor, fx

from compression.context import Context
from compression.data import Split
from compression.encodings import Grid
from compression.errors import SpecError
from compression.network import Network
from compression.quantization.step import step_for
from compression.training.evaluate import outputs_of
from compression.training.losses import label_loss, match_for, teacher_loss

Against = Literal["original", "labels"]
Table = dict[str, dict[int, float]]


class Judge:
    """The loss of a module on fixed training samples, drawn from the seed: mean over outputs, in float64. Against the
    labels; or against the original's outputs: KL divergence in nats for classes, mean squared error without a task."""

    def __init__(self, samples: int, against: Against, context: Context) -> None:
        data = context.require_data("the sensitivity of layers")
        if against == "labels" and data.task is None:
            raise SpecError("the data has no labels: measure against the original", "/against")
        generator = torch.Generator().manual_seed(context.seed)
        chosen = torch.randperm(len(data.train), generator=generator)[:samples]
        self.split: Split = data.train.take(chosen).to(context.device)
        self.task, self.device = data.task, context.device
        self.reference: tuple[Tensor, ...] | None = None
        if against == "original":
            original = context.original.module.to(context.device)
            self.reference = outputs_of(original, self.split, context.device)
            original.to("cpu")

    def loss(self, module: fx.GraphModule) -> float:
        losses = []
        for index, output in enumerate(outputs_of(module, self.split, self.device)):
            if self.reference is not None:
                wanted = self.reference[index].double()
                losses.append(teacher_loss(output.double(), wanted, match_for(self.task), 1.0))
            else:
                assert self.task is not None  # noqa: S101 - refused above
                assert self.split.labels is not None  # noqa: S101 - a task has labels
                losses.append(label_loss(output.double(), self.split.labels, self.task))
        return float(torch.stack(losses).mean())


def sensitivities(
    network: Network, names: Collection[str], bits: Sequence[int], judge: Judge, context: Context
) -> Table:
    """By parameter and number of bits: how much the judge's loss rises when that parameter alone is on a grid."""
    module = network.copy().module.to(context.device)
    before = judge.loss(module)
    table: Table = {}
    for index, name in enumerate(names):
        value = module.get_parameter(name)
        given, table[name] = value.detach().clone(), {}
        for width in bits:
            with torch.no_grad():
                value.copy_(grid_for(given, width).value(given))
            table[name][width] = judge.loss(module) - before
        with torch.no_grad():
            value.copy_(given)
        context.progress((index + 1) / len(names), f"sensitivity of {name}")
    return table


def grid_for(value: Tensor, bits: int) -> Grid:
    """Levels of `bits` bits, symmetric (of 2 bits: −1, 0, 1), each slice of the first axis with the step of the least
    squared error."""
    high = 2 ** (bits - 1) - 1
    return Grid(step_for(value, high, per_channel=True).cpu(), -high, high)
