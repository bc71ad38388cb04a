"""What a network that was taken apart starts from."""

from __future__ import annotations

import torch

from compression.network import Network, as_tuple
from compression.verify import BATCHES, relative_error


def output_error(made: Network, network: Network) -> float:
    """The largest relative error of an output (`relative_error`), on seeded inputs that look like no data."""
    inputs = network.example(BATCHES[-1], seed=1)
    with torch.no_grad():
        outputs, wanted = as_tuple(made.module(*inputs)), as_tuple(network.module(*inputs))
    return round(max(relative_error(mine, theirs) for mine, theirs in zip(outputs, wanted, strict=True)), 6)
