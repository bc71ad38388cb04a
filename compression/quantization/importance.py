"""What moving a single weight costs: the diagonal of the Fisher information.

For classes: the mean of squared gradients of −ln p(y), where y is drawn from the network's own probabilities (it is no
label: Kunstner et al. 2019). For any other output: of ξ · output, ξ normal, which is the diagonal of the Gauss-Newton
matrix of ½‖output − target‖². A move of Δ raises the loss by about ½ F Δ².
"""

from __future__ import annotations

from collections.abc import Collection

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation uses
from torch import Tensor

from compression.context import Context
from compression.network import Network, as_tuple


def fisher(network: Network, names: Collection[str], samples: int, context: Context) -> dict[str, Tensor]:
    """F of each of these parameters, in their shapes, on the CPU: of the last output, over training samples drawn from
    the seed, one at a time."""
    data = context.require_data("the importance of weights")
    generator = torch.Generator().manual_seed(context.seed)
    chosen = torch.randperm(len(data.train), generator=generator)[:samples]
    module = network.copy().module.to(context.device).eval()
    parameters = [module.get_parameter(name) for name in names]
    sums = [torch.zeros_like(value) for value in parameters]
    for index in chosen:
        batch = data.train.take(index.reshape(1)).to(context.device)
        output = as_tuple(module(*batch.inputs.values()))[-1]
        gradients = torch.autograd.grad(_drawn(output, data.task, generator), parameters, allow_unused=True)
        for total, gradient in zip(sums, gradients, strict=True):
            if gradient is not None:
                total += gradient.square()
    return {name: (total / len(chosen)).cpu() for name, total in zip(names, sums, strict=True)}


def _drawn(output: Tensor, task: str | None, generator: torch.Generator) -> Tensor:
    if task == "classification":
        label = torch.multinomial(output.detach().softmax(-1).cpu(), 1, generator=generator).flatten()
        return F.cross_entropy(output, label.to(output.device))
    return (output * torch.randn(output.shape, generator=generator).to(output.device)).sum()
