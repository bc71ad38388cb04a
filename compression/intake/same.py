"""Whether a lifted network computes what the ATen program does."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from compression.errors import IntakeError
from compression.intake.program import Program
from compression.intake.shapes import run, shapes
from compression.network import Network

RELATIVE = 1e-4
"""Between different batch sizes kernels sum in another order; relative to the largest value of an output."""


def check_same(program: Program, network: Network) -> None:
    """Bit for bit at batches of 1 and 3; where the batch was static, at that batch, and at one more sample against the
    program run twice. IntakeError (model-inexact, `where` = the output) says how far off."""
    static = program.static_batch
    for batch in (1, 3) if static is None else (static, static + 1):
        try:
            shapes(network.module, network.signature.inputs, batch)
        except IntakeError as error:
            hint = f": the batch of {static} is burnt in; export the model with a dynamic batch" if static else ""
            raise IntakeError(f"does not run at a batch of {batch}{hint}", error.where, "model-inexact") from error
    reference = copy.deepcopy(program.module)  # a program that works in place might write to its parameters
    for batch in (1, 3) if static is None else (static,):
        inputs = network.example(batch)
        _compare(run(reference, inputs), run(network.module, inputs), 0.0)
    if static is not None:
        inputs = network.example(static + 1, seed=1)
        first = run(reference, tuple(value[:static] for value in inputs))
        second = run(reference, tuple(value[1:] for value in inputs))
        both = tuple(_joined(a, b, static) for a, b in zip(first, second, strict=True))
        _compare(both, run(network.module, inputs), RELATIVE)


def _joined(first: Tensor, second: Tensor, batch: int) -> Tensor:
    if first.dim() == 0 or first.shape[0] != batch:
        raise IntakeError("an output has no batch axis; export with a dynamic batch", kind="model-inexact")
    return torch.cat([first, second[-1:]])


def _compare(wanted: tuple[Tensor, ...], got: tuple[Tensor, ...], relative: float) -> None:
    for index, (a, b) in enumerate(zip(wanted, got, strict=True)):
        where = f"output {index}"
        hint = "; export the model with a dynamic batch" if relative else ""
        if a.shape != b.shape or a.dtype != b.dtype:
            raise IntakeError(f"lifting gives {list(b.shape)} instead of {list(a.shape)}{hint}", where, "model-inexact")
        tolerance = relative * float(a.abs().max()) if relative and a.is_floating_point() and a.numel() else 0.0
        if not torch.allclose(a, b, rtol=0.0, atol=tolerance, equal_nan=True):
            difference = float((a.double() - b.double()).abs().max())
            raise IntakeError(f"lifting changes the output by up to {difference:.3g}{hint}", where, "model-inexact")
