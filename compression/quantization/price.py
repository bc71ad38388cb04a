"""What a bit costs in the loss, as training goes on: it rises to a weight that was asked for, or makes the file meet a
number of bytes. It learns of the bits of every tensor once in each step, and moves after the last of them.

What it has come to is in buffers: a run saves them with its place (`Objective.extra`) and goes on from there unchanged.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

RAMP = 0.6
"""The share of the steps in which the price, or the shrinking, reaches what is asked for: the rest of them, with the
falling learning rate, regain what was lost."""
FIRST_WEIGHT = 0.05
"""Of the rate, in bits per parameter, where bytes are the aim. Too small is mended in a few steps; what weighs too much
at first costs accuracy that doesn't come back."""
SLOW, FAST = 120.0, 1.0
"""While the bits are e times what they should be: by how much the logarithm of the weight rises over a whole run, for
good; and by how much it is higher for the moment, without which bits and weight swing about what is aimed at."""
MARGIN = 0.985
"""Of the bytes asked for, what is aimed at: the file has to come out below them."""
LARGEST = 10.0
"""Of the logarithm of the weight's lasting part."""


class Price(nn.Module, ABC):
    """`tensors`: how many tell of their bits in each step; `steps`: of the whole run; `weights`: all parameters of the
    network, which the rate is per."""

    step: Tensor
    weight: Tensor
    bits: Tensor

    def __init__(self, tensors: int, steps: int, weights: int) -> None:
        super().__init__()
        self.tensors, self.steps, self.weights = tensors, steps, weights
        self.free: dict[str, Tensor] = {}
        self.register_buffer("step", torch.zeros((), dtype=torch.float64))
        self.register_buffer("weight", torch.zeros((), dtype=torch.float64))
        self.register_buffer("bits", torch.zeros((), dtype=torch.float64))

    def of_a_bit(self) -> float:
        """In the loss, which is nats: the weight is of bits per parameter."""
        return float(self.weight) / self.weights

    def hear(self, name: str, bits: Tensor, free: Tensor) -> None:
        """That the levels of this tensor take so many bits, and what its free values are."""
        self.free[name] = free.detach()
        self.bits += bits.detach()
        if len(self.free) == self.tensors:
            self.move()
            self.step += 1
            self.bits.zero_()
            self.free.clear()

    @abstractmethod
    def move(self) -> None:
        """Sets the weight of the next step."""


class Rising(Price):
    """To `weight`, evenly."""

    def __init__(self, tensors: int, steps: int, weights: int, weight: float) -> None:
        super().__init__(tensors, steps, weights)
        self.most = weight

    def move(self) -> None:
        self.weight.fill_(self.most * min(1.0, (float(self.step) + 1) / (RAMP * self.steps)))


class Aiming(Price):
    """At a file of `limit` bytes. The bytes expected fall from what they are at first, by equal shares in equal
    times, and stay: the weight rises while there are more, and falls while there are fewer.
    `file_bytes`, of free values by name, is what a file of this moment takes: it is asked for `often` steps apart."""

    lasting: Tensor
    first: Tensor
    beside: Tensor

    def __init__(
        self,
        tensors: int,
        steps: int,
        weights: int,
        limit: int,
        file_bytes: Callable[[Mapping[str, Tensor]], int],
        often: int,
    ) -> None:
        super().__init__(tensors, steps, weights)
        self.goal, self.file_bytes, self.often = MARGIN * limit, file_bytes, often
        self.weight.fill_(FIRST_WEIGHT)
        self.register_buffer("lasting", torch.zeros((), dtype=torch.float64))
        self.register_buffer("first", torch.zeros((), dtype=torch.float64))  # bytes of the file to begin with
        self.register_buffer("beside", torch.zeros((), dtype=torch.float64))  # bytes that the bits don't tell of

    def move(self) -> None:
        if int(self.step) % self.often == 0:
            found = self.file_bytes(self.free)
            self.beside.copy_(found - self.bits / 8)
            if not self.step:
                self.first.fill_(found)
        share = min(1.0, (float(self.step) + 1) / (RAMP * self.steps))
        wanted = (1 - share) * math.log(float(self.first)) + share * math.log(self.goal)
        expected = math.log(max(1.0, float(self.beside + self.bits / 8)))
        over = max(-1.0, min(1.0, expected - wanted))
        self.lasting += SLOW / self.steps * over
        self.lasting.clamp_(-LARGEST, LARGEST)
        self.weight.fill_(FIRST_WEIGHT * math.exp(float(self.lasting) + FAST * over))
