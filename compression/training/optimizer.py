"""How far and which way each step goes: the optimizer, its rate by step, and seeds that no draw shares."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from compression.training.spec import Training

WARM_UP = 0.05


def optimizer_for(parameters: Sequence[Tensor], spec: Training) -> torch.optim.Optimizer:
    """Weights decay; biases and norm parameters (one axis or none) don't, nor do shared values."""
    decayed = [value for value in parameters if value.dim() > 1]
    others = [value for value in parameters if value.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": spec.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if spec.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=spec.learning_rate, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=spec.learning_rate)


def rate_share(spec: Training, step: int, total: int) -> float:
    """Linear warm-up over 5 % of the steps, then constant or a half cosine down to zero."""
    warm_up = max(1, round(WARM_UP * total))
    if step < warm_up:
        return (step + 1) / warm_up
    if spec.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, total - warm_up)))


def draw_seed(seed: int, stage: str, number: int) -> int:
    """A seed of its own for each draw, so that none depends on how many were made before."""
    mixed = seed
    for part in (*stage.encode(), number & 0xFFFFFFFF):
        mixed = (mixed * 6364136223846793005 + part + 1442695040888963407) % 2**64  # Knuth's MMIX generator
    return mixed >> 1
