"""Rounding with compensation: what rounding one column does to the outputs, the columns to come make good.

GPTQ (Frantar et al. 2023), which is optimal brain quantisation (Frantar & Alistarh 2022, after Hassibi & Stork 1993)
with one order of columns for all rows. Minimised is ‖(W − Ŵ) X‖² = Σ over rows of δ H δᵀ, H = X Xᵀ. When column q of a
row is rounded to ŵ, the best change of the columns that are still free is −(w_q − ŵ) / [H⁻¹]_qq · H⁻¹_q: all of these
numbers stand in the upper Cholesky factor of H⁻¹. Constant factors of H don't matter.
"""

from __future__ import annotations

import torch
from torch import Tensor

from compression.encodings.blocks import CODES, Blocks
from compression.errors import MethodError

COLUMNS_AT_ONCE = 128
"""Columns whose errors reach the rest of the matrix in one product."""


def compensated(value: Tensor, blocks: Blocks, gram: Tensor, damping: float, held: Tensor | None = None) -> Tensor:
    """The matrix `value` (rows × columns) on the grid of `blocks`; float32. `gram`: X Xᵀ, columns × columns; `damping`:
    the share of its mean diagonal that is added to the diagonal. Entries where `held` (bool) is true become zero.

    Columns go by falling diagonal, those that matter most first; the steps are those of the original weights, so that
    a block needn't be one run of columns. MethodError: the matrix can't be inverted.
    """
    order = torch.argsort(gram.diagonal(), descending=True, stable=True)
    upper = _factor(gram.double()[order][:, order], damping)
    free = value.detach().double().t()[order].contiguous()  # columns × rows: the loop goes along the first axis
    steps, lowest = (part.t()[order].double() for part in (blocks.steps(value), blocks.lowest(value.detach())))
    zeroed = torch.zeros_like(free, dtype=torch.bool) if held is None else held.t()[order]
    levels = torch.empty_like(free)
    for start in range(0, len(order), COLUMNS_AT_ONCE):
        stop = min(start + COLUMNS_AT_ONCE, len(order))
        errors = torch.empty_like(free[start:stop])
        for column in range(start, stop):
            near = (free[column] / steps[column]).round()
            near = torch.minimum(torch.maximum(near, lowest[column]), lowest[column] + (CODES - 1))
            levels[column] = near.masked_fill(zeroed[column], 0.0)
            error = (free[column] - levels[column] * steps[column]) / upper[column, column]
            free[column:stop] -= upper[column, column:stop, None] * error
            errors[column - start] = error
        free[stop:] -= upper[start:stop, stop:].t() @ errors
    found = torch.empty_like(levels)
    found[order] = levels
    return found.t().float().contiguous() * blocks.steps(value)


def output_error(change: Tensor, gram: Tensor) -> float:
    """‖change · X‖², of a matrix rows × columns."""
    wide = change.detach().double()
    return float(((wide @ gram.double()) * wide).sum())


def _factor(gram: Tensor, damping: float) -> Tensor:
    """The upper Cholesky factor of the inverse."""
    mean = float(gram.diagonal().mean())
    damped = gram + torch.eye(len(gram), dtype=gram.dtype) * (damping * mean if mean > 0 else 1.0)
    try:
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
        upper: Tensor = torch.linalg.cholesky(inverse, upper=True)
    except RuntimeError as error:  # of torch.linalg: not positive definite
        raise MethodError("the layer's inputs are too much alike for the compensation: raise damping") from error
    return upper
