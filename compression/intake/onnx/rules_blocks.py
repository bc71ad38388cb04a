"""Products with a packed matrix become linear layers whose weight has blocks of four bits."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from compression.encodings.blocks import CODES, MIDDLE, Blocks
from compression.errors import IntakeError
from compression.intake.onnx.call import Call, Rule
from compression.intake.onnx.naming import module_path
from compression.intake.onnx.packed_product import DOMAIN, OPERATOR
from compression.intake.onnx.value import Value

MOST_UNPACKED = 2**29
"""Entries that all packed matrices of a file may come to: 2 GiB of floats."""


def _packed_product(call: Call) -> Value:
    value, codes, steps = call.value(0), call.constant(1, "codes"), call.constant(2, "steps")
    zeros = None if call.given(3) is None else call.constant(3, "zeros")
    rows, columns, size = call.attributes["N"], call.attributes["K"], call.attributes["block_size"]
    call.trace.bound(rows, columns)
    call.trace.unpacked += rows * columns
    if call.trace.unpacked > MOST_UNPACKED:
        raise IntakeError(f"packed matrices of more than {MOST_UNPACKED} entries", kind="model-unsafe")
    step = steps.reshape(rows, -1)
    zero = None if zeros is None else _halves(zeros.reshape(rows, -1))[:, : step.shape[1]].contiguous()
    blocks = Blocks(step, size, zero)
    levels = _halves(codes).reshape(rows, -1)[:, :columns].float()
    weight = (levels - _along(zero, step, size, columns)) * _along(step, step, size, columns)
    leaf = nn.Linear(columns, rows, bias=False, device="meta")
    leaf.weight = call.trace.parameter(weight)
    # A step that is no number, or zero, is none of an encoding; the floats are what counts.
    if bool((torch.isfinite(step) & (step != 0)).all()) and torch.equal(blocks.value(weight), weight):
        call.trace.encoded[id(leaf.weight)] = blocks
    path = module_path(call.value(1).name.removesuffix("/codes"), call.node.name, "MatMul")
    return call.trace.module(leaf, value, path, (id(codes), id(steps), id(zeros)))


def _halves(packed: Tensor) -> Tensor:
    """Two codes of each byte, the lower half first."""
    return torch.stack([packed % CODES, packed // CODES], -1).flatten(-2)


def _along(by_block: Tensor | None, like: Tensor, size: int, columns: int) -> Tensor:
    by_block = torch.full_like(like, MIDDLE) if by_block is None else by_block.float()
    return by_block.repeat_interleave(size, 1)[:, :columns]


RULES: Mapping[str, Rule] = {f"{DOMAIN}.{OPERATOR}": _packed_product}
