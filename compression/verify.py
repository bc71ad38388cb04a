"""A network is verified after every intake and transform: a forward pass at two batch sizes, and numerically."""

from __future__ import annotations

import torch
from torch import Tensor

from compression.errors import VerificationError
from compression.network import Network, as_tuple

TOLERANCE = 1e-5
BATCHES = (2, 5)


def relative_error(value: Tensor, reference: Tensor) -> float:
    """‖value − reference‖ / ‖reference‖ in the Euclidean norm, in float64."""
    difference = torch.linalg.vector_norm((value - reference).double())
    return float(difference / torch.linalg.vector_norm(reference.double()).clamp_min(1e-12))


def check_equal(network: Network, reference: Network, *, what: str, tolerance: float = TOLERANCE) -> float:
    """The largest relative error between two networks' outputs; above `tolerance` a VerificationError names it."""
    worst = 0.0
    for batch in BATCHES:
        with torch.no_grad():
            outputs = as_tuple(network.module(*network.example(batch, seed=batch)))
            wanted = as_tuple(reference.module(*network.example(batch, seed=batch)))
        for name, value, target in zip(network.signature.outputs, outputs, wanted, strict=True):
            if value.shape != target.shape:
                raise VerificationError(f"{what}: shape {tuple(value.shape)} is not {tuple(target.shape)}", name)
            error = relative_error(value, target)
            if not error <= tolerance:
                raise VerificationError(f"{what}: relative error {error:.2e} at batch {batch}", name)
            worst = max(worst, error)
    return worst


def check_runs(network: Network, like: Network) -> None:
    """`network` runs at two batch sizes and gives finite outputs of the same names and shapes as `like`."""
    if network.signature.inputs != like.signature.inputs:
        raise VerificationError("the step changed the network's inputs", "inputs")
    for batch in BATCHES:
        with torch.no_grad():
            outputs = as_tuple(network.module(*network.example(batch)))
            before = as_tuple(like.module(*like.example(batch)))
        for name, value in zip(network.signature.outputs, outputs, strict=True):
            if not bool(torch.isfinite(value).all()):
                raise VerificationError("the output holds NaN or infinite values", name)
        for name, value, old in zip(like.signature.outputs, outputs, before, strict=False):
            if value.shape != old.shape:
                raise VerificationError(f"shape {tuple(value.shape)} was {tuple(old.shape)}", name)
