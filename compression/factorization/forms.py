"""One convolution or linear layer as two or three thinner ones: what each is, by the layer's own statistics.

channel: the k × k kernel to `rank` channels, then 1 × 1 to all of them: the first principal directions of the layer's
outputs, which is the rank with the least squared error on the data there is (Zhang et al. 2016, "Accelerating very deep
convolutional networks", equation 7). For a linear layer that is the truncated singular value decomposition, whitened by
its inputs.

spatial: k × 1 to `rank` channels, then 1 × k (Jaderberg et al. 2014, scheme 2): the truncated singular value
decomposition of the (I·k) × (O·k) matrix; then the second factor by least squares on the data.

tucker2: 1 × 1 to `inner` channels, k × k to `rank`, 1 × 1 to all (Kim et al. 2016): inner channels by higher-order
orthogonal iteration (De Lathauwer et al. 2000) on the kernel whitened by the input channels; then what follows them as
in `channel`, on the data.

Biases take up what the data's mean loses. Without data the patches count as white, with mean zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from compression.factorization.moments import Moments, padding_of

Form: TypeAlias = Literal["channel", "spatial", "tucker2"]
SWEEPS = 10
DAMPING = 1e-9
"""Share of the mean second moment that is added where a matrix is inverted: directions that no data has."""


@dataclass(frozen=True)
class Factors:
    """Kernels in the order in which they run, float64, each O × I × height × width (1 × 1 for a linear layer), and the
    bias of the last."""

    kernels: tuple[Tensor, ...]
    bias: Tensor | None

    def parameters(self) -> int:
        return sum(kernel.numel() for kernel in self.kernels) + (0 if self.bias is None else self.bias.numel())


def kernel_of(leaf: nn.Module) -> Tensor:
    """The weight as O × I × height × width, float64."""
    weight = leaf.weight.detach().double().cpu()  # type: ignore[operator]
    return weight if weight.dim() == 4 else weight[:, :, None, None]


def kernel_shape(leaf: nn.Module) -> tuple[int, int, int, int]:
    """Of `kernel_of`, without the copy."""
    count, channels, *space = leaf.weight.shape  # type: ignore[misc]
    height, width = space or (1, 1)
    return int(count), int(channels), int(height), int(width)


def bias_of(leaf: nn.Module) -> Tensor | None:
    return None if leaf.bias is None else leaf.bias.detach().double().cpu()  # type: ignore[operator]


def white(leaf: nn.Module) -> Moments:
    """The moments of patches that are white: the error is then that of the weights."""
    weight = kernel_of(leaf).flatten(1)
    width = weight.shape[1]
    return Moments(torch.zeros(width, dtype=weight.dtype), None, weight @ weight.T, 1.0)


def factorised(leaf: nn.Module, form: Form, rank: int, inner: int, moments: Moments) -> Factors:
    """The layer in this form. `inner` counts for tucker2 alone."""
    weight = kernel_of(leaf)
    if form == "channel":
        kernels = _channel(weight, moments.outputs, rank)
    elif form == "spatial":
        kernels = _spatial(weight, moments.second, rank)
    else:
        kernels = _tucker2(weight, moments.second, rank, inner)
    lost = (weight - composed(kernels)).flatten(1) @ moments.mean
    bias = bias_of(leaf)
    if bias is None:
        return Factors(kernels, lost if bool(moments.mean.any()) else None)
    return Factors(kernels, bias + lost)


def composed(kernels: tuple[Tensor, ...]) -> Tensor:
    """The kernel, O × I × height × width, of the convolutions one after the other."""
    result = kernels[0]
    for kernel in kernels[1:]:
        # Each axis in space has a length above one in one of the two at most, so the sizes multiply.
        joined = torch.einsum("omyx,mihw->oiyhxw", kernel, result)
        result = joined.flatten(4, 5).flatten(2, 3)
    return result


def squared_error(weight: Tensor, kernels: tuple[Tensor, ...], moments: Moments) -> float:
    """E‖(W − W′)(x − mean)‖² over the data's patches."""
    lost = (weight - composed(kernels)).flatten(1)
    if moments.second is None:
        return float(lost.square().sum())
    return float(((lost @ moments.second) * lost).sum())


def leaves(leaf: nn.Module, factors: Factors) -> list[nn.Module]:
    """The layers that take the place of `leaf`, on the CPU, in float32."""
    last = len(factors.kernels) - 1
    biases = [factors.bias if number == last else None for number in range(last + 1)]
    if isinstance(leaf, nn.Conv2d):
        return [_convolution(leaf, factors.kernels, number, bias) for number, bias in enumerate(biases)]
    return [
        _filled(nn.Linear(kernel.shape[1], kernel.shape[0], bias is not None), kernel[..., 0, 0], bias)
        for kernel, bias in zip(factors.kernels, biases, strict=True)
    ]


def _convolution(leaf: nn.Conv2d, kernels: tuple[Tensor, ...], number: int, bias: Tensor | None) -> nn.Module:
    """The factor `number`. Stride, padding and dilation along an axis are those of the factor that is long there."""
    kernel, padding = kernels[number], padding_of(leaf)
    owner = [next((k for k, other in enumerate(kernels) if other.shape[axis] > 1), 0) for axis in (2, 3)]

    def along(sizes: Sequence[int], else_: int) -> tuple[int, int]:
        return (sizes[0] if owner[0] == number else else_, sizes[1] if owner[1] == number else else_)

    made = nn.Conv2d(
        kernel.shape[1],
        kernel.shape[0],
        (kernel.shape[2], kernel.shape[3]),
        stride=along(leaf.stride, 1),
        padding=along([before for before, _ in padding], 0),
        dilation=along(leaf.dilation, 1),
        bias=bias is not None,
    )
    return _filled(made, kernel, bias)


def _filled(leaf: nn.Module, weight: Tensor, bias: Tensor | None) -> nn.Module:
    leaf.weight = nn.Parameter(weight.float().contiguous())
    if bias is not None:
        leaf.bias = nn.Parameter(bias.float())
    return leaf.eval()


def _channel(weight: Tensor, outputs: Tensor, rank: int) -> tuple[Tensor, ...]:
    directions = _first(outputs, rank)
    first = (directions.T @ weight.flatten(1)).reshape(rank, *weight.shape[1:])
    return first, directions[:, :, None, None]


def _spatial(weight: Tensor, second: Tensor | None, rank: int) -> tuple[Tensor, ...]:
    count, channels, height, width = weight.shape
    matrix = weight.permute(1, 2, 0, 3).reshape(channels * height, count * width)
    left, scales, right = torch.linalg.svd(matrix, full_matrices=False)
    roots = scales[:rank].sqrt()
    down = (left[:, :rank] * roots).T.reshape(rank, channels, height, 1)
    across = (right[:rank] * roots[:, None]).reshape(rank, count, width).permute(1, 0, 2)[:, :, None]
    if second is None:
        return down, across
    features = torch.einsum("rih,wv->rwihv", down[..., 0], torch.eye(width, dtype=weight.dtype))
    found = _regressed(weight.flatten(1), features.reshape(rank * width, -1), second)
    return down, found.reshape(count, rank, 1, width)


def _tucker2(weight: Tensor, second: Tensor | None, rank: int, inner: int) -> tuple[Tensor, ...]:
    _, channels, height, width = weight.shape
    root, inverse = _channel_roots(second, channels, height * width)
    whitened = torch.einsum("oihw,ij->ojhw", weight, root)
    inputs = _orthogonal_iteration(whitened, rank, inner)
    reduce = inputs.T @ inverse  # inner × I
    eye = torch.eye(height * width, dtype=weight.dtype)
    features = torch.einsum("ri,pq->rpiq", reduce, eye).reshape(inner * height * width, -1)
    if second is None:
        kernel, moment = torch.einsum("oihw,ji->ojhw", weight, reduce).flatten(1), None
    else:
        kernel = _regressed(weight.flatten(1), features, second)
        moment = features @ second @ features.T
    outputs = kernel @ kernel.T if moment is None else kernel @ moment @ kernel.T
    directions = _first(outputs, rank)
    core = (directions.T @ kernel).reshape(rank, inner, height, width)
    return reduce[:, :, None, None], core, directions[:, :, None, None]


def _orthogonal_iteration(weight: Tensor, rank: int, inner: int) -> Tensor:
    """The I × `inner` orthonormal factor of the Tucker-2 decomposition of O × I × h × w that loses least."""
    inputs = _first(_mode(weight, 1), inner)
    for _ in range(SWEEPS):
        before = inputs
        outputs = _first(_mode(torch.einsum("oihw,ij->ojhw", weight, inputs), 0), rank)
        inputs = _first(_mode(torch.einsum("oihw,oj->jihw", weight, outputs), 1), inner)
        if float((inputs @ (inputs.T @ before) - before).norm()) < 1e-9:
            break
    return inputs


def _mode(tensor: Tensor, axis: int) -> Tensor:
    """The Gram matrix of the slices along `axis`."""
    flat = tensor.movedim(axis, 0).flatten(1)
    return flat @ flat.T


def _first(gram: Tensor, count: int) -> Tensor:
    """The eigenvectors of the `count` largest eigenvalues, as columns."""
    vectors: Tensor = torch.linalg.eigh(gram)[1]
    return vectors.flip(1)[:, :count]


def _channel_roots(second: Tensor | None, channels: int, places: int) -> tuple[Tensor, Tensor]:
    """A square root of the input channels' second moment (mean over the places of a patch), and its inverse."""
    if second is None:
        eye = torch.eye(channels, dtype=torch.float64)
        return eye, eye
    blocks = second.reshape(channels, places, channels, places)
    moment = torch.einsum("ipjp->ij", blocks) / places
    values, vectors = torch.linalg.eigh(moment)
    # Their scale cancels out; without it, inputs that hardly vary would have weights beyond all measure.
    values = (values / values.max().clamp_min(1e-300)).clamp_min(1e-6)
    return vectors * values.sqrt() @ vectors.T, vectors / values.sqrt() @ vectors.T


def _regressed(weight: Tensor, features: Tensor, second: Tensor) -> Tensor:
    """B with the least E‖W x − B F x‖²: W G Fᵀ (F G Fᵀ)⁻¹."""
    gram = features @ second @ features.T
    gram += torch.eye(len(gram), dtype=gram.dtype) * (DAMPING * float(gram.diagonal().mean()) + 1e-30)
    solved: Tensor = torch.linalg.solve(gram, features @ second @ weight.T)
    return solved.T
