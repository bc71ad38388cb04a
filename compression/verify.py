"""A network is verified after every intake and transform: a forward pass at two batch sizes, and numerically."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, fx, nn

from compression.errors import VerificationError
from compression.integer import IntegerOnnx, Model
from compression.measure.runtime import open_session, random_inputs, static_batch
from compression.network import Network, as_tuple
from compression.opaque import OpaqueOnnx

TOLERANCE = 1e-5
BATCHES = (2, 5)


SIGMOID_SCALE = 0.05
"""The least size that the numbers of a sigmoid count for. Runtimes round a sigmoid to a few units in the last place of
one, 5e-7, however small it is: relative to this size that is 1e-5."""


def relative_error(value: Tensor, reference: Tensor, least: float = 0.0) -> float:
    """‖value − reference‖ / ‖reference‖ in the Euclidean norm, in float64; ‖reference‖ counts for no less than if each
    number were `least`."""
    difference = torch.linalg.vector_norm((value - reference).double())
    floor = max(1e-12, least * math.sqrt(reference.numel()))
    return float(difference / torch.linalg.vector_norm(reference.double()).clamp_min(floor))


def least_scales(module: fx.GraphModule) -> list[float]:
    """`least` for each output: SIGMOID_SCALE where a sigmoid is the last thing that is done."""
    returned = next(node for node in module.graph.nodes if node.op == "output").args[0]
    return [SIGMOID_SCALE if _is_sigmoid(module, node) else 0.0 for node in as_tuple(returned)]


def _is_sigmoid(module: fx.GraphModule, node: Any) -> bool:
    if node.op == "call_module":
        return isinstance(module.get_submodule(str(node.target)), nn.Sigmoid)
    return node.target is torch.ops.aten.sigmoid.default


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


def check_runs_in_integers(model: IntegerOnnx, like: Model) -> None:
    """The file runs in ONNX Runtime at two batch sizes (or at its own) with outputs as `like` has them, all finite."""
    session = open_session(model.file)
    static = static_batch(session)
    shapes = {entry.name: entry.shape for entry in model.signature.inputs}
    for batch in BATCHES if static is None else (static,):
        found = session.run(list(model.signature.outputs), random_inputs(session, batch, shapes=shapes))
        before = _output_shapes(like, random_inputs(session, batch, shapes=shapes))
        for name, value, old in zip(model.signature.outputs, found, before, strict=True):
            if not bool(torch.isfinite(torch.from_numpy(value)).all()):
                raise VerificationError("the output holds NaN or infinite values", name)
            if value.shape != old:
                raise VerificationError(f"shape {value.shape} was {old}", name)


def _output_shapes(model: Model, inputs: dict[str, Any]) -> list[tuple[int, ...]]:
    """The shapes of the outputs on these inputs."""
    if isinstance(model, Network):
        with torch.no_grad():
            values = as_tuple(model.module(*(torch.from_numpy(value) for value in inputs.values())))
        return [tuple(value.shape) for value in values]
    session = open_session(model.path if isinstance(model, OpaqueOnnx) else model.file)
    return [value.shape for value in session.run(None, inputs)]
