"""Integers as a coder gets them: LeNets trained for few bytes, in a small loop of its own (straight-through rounding
with a learned step, and log₂(1 + 4·|w / step|) as the rate). Coders are compared: accuracy isn't looked at."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.images import mnist_5k
from compression.zoo.catalog import zoo_network


class _Round(torch.autograd.Function):
    """To the nearest level, zero up to 0.6; the gradient goes straight through (Bengio 2013)."""

    @staticmethod
    def forward(_: object, x: Tensor) -> Tensor:
        return torch.where(x.abs() < 0.6, torch.zeros_like(x), x.round())

    @staticmethod
    def backward(_: object, gradient: Tensor) -> Tensor:
        return gradient


def _levels(weight: Tensor, step: Tensor) -> Tensor:
    levels: Tensor = _Round.apply(weight / step.exp())  # type: ignore[no-untyped-call]
    return levels


def trained_for_bytes(architecture: str, rate: float, epochs: int) -> dict[str, NDArray[np.int32]]:
    """The levels of every weight of two or more dimensions, by name; the first third of the epochs has no rate."""
    torch.manual_seed(0)
    split = mnist_5k().train
    network, labels = zoo_network(architecture, {}, seed=0), split.labels
    assert labels is not None
    x = split.inputs["x"].reshape(-1, *network.signature.inputs[0].shape)
    module = network.module
    weights = {name: value for name, value in module.named_parameters() if value.ndim > 1}
    steps = {name: nn.Parameter((value.detach().std() * 1.5).log()) for name, value in weights.items()}
    optimizer = torch.optim.Adam([*module.parameters(), *steps.values()], lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs, 1e-5)
    size = sum(value.numel() for value in weights.values())
    for epoch in range(epochs):
        for batch in torch.randperm(len(labels)).split(64):  # type: ignore[no-untyped-call]
            grids = {name: _levels(weights[name], step) * step.exp() for name, step in steps.items()}
            if epoch < epochs // 3:
                grids = {}
            output = torch.func.functional_call(module, grids, (x[batch],))
            bits = sum(torch.log2(1 + 4 * (weights[name] / steps[name].exp()).abs()).sum() for name in grids)
            loss = functional.cross_entropy(output, labels[batch]) + rate * bits / size
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
    with torch.no_grad():
        levels = {name: _levels(weights[name], step) for name, step in steps.items()}
    return {name: value.numpy().astype(np.int32) for name, value in levels.items()}
