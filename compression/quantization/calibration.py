"""What reaches a linear layer: the second moments of its inputs over calibration samples."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from compression.data import Split
from compression.network import as_tuple

BATCH = 64


def input_gram(module: fx.GraphModule, weight: str, split: Split, device: torch.device) -> Tensor:
    """Σ x xᵀ over all rows x that reach the linear layers whose weight is the parameter named `weight`, columns ×
    columns, float64 on the CPU. The module lies on `device` and is in eval mode."""
    parameter = module.get_parameter(weight)
    layers = [part for part in module.modules() if isinstance(part, nn.Linear) and part.weight is parameter]
    total = torch.zeros(parameter.shape[1], parameter.shape[1], dtype=torch.float64)

    def add(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        rows = inputs[0].detach().reshape(-1, parameter.shape[1])
        total.add_((rows.t() @ rows).double().cpu())

    hooks = [layer.register_forward_pre_hook(add) for layer in layers]
    try:
        with torch.no_grad():
            for start in range(0, len(split), BATCH):
                as_tuple(module(*(value.to(device) for value in split.tensors(start, start + BATCH))))
    finally:
        for hook in hooks:
            hook.remove()
    return total
