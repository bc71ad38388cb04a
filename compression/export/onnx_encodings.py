"""Parameters as their encodings have them, in an `.onnx` file: small integers and what they stand for.

A codebook is Gather(values, Cast(codes)), a grid Mul(Cast(levels), step), floats of two bytes are Cast(floats). Codes
and levels have 8 or 16 bits, or lie in 1, 2 or 4 (`onnx_bits.py`); where there are several codebooks, codes are counted
from where each begins. ONNX Runtime computes all this once, when a session is made, so that a run takes no longer.
`DequantizeLinear` would be the operator made for a grid, but ONNX Runtime keeps it for fusions of its own and, where
there are none, runs it each time: measured at three times the latency of the plain matrix (docs/benchmarks.md). Blocks
of four bits are part of the product itself (`onnx_blocks.py`).

The exporter may have changed a parameter: scaled its channels (a folded BatchNorm) or transposed it. Both are found by
comparing numbers, and undone by a factor for each channel or by transposing the integers. Anything else stays plain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from compression.encodings import Blocks, Codebook, Encoding, Float16, Grid, Half
from compression.export.onnx_bits import unpacking, width_of
from compression.export.onnx_blocks import multiply_packed

Floats = NDArray[np.float32]
ROUNDING = 4e-7
"""Relative: what a product in float32 may be off by."""
TOO_WIDE = "its integers need more than 16 bits"


@dataclass(frozen=True)
class Coded:
    """A parameter as small integers: `table[integers + first]`, or `integers * table` if `scaled`; `table` is a vector,
    a number, or has a length for the integers' first axis and 1 for the others, as `first` has (int32, None: 0)."""

    integers: NDArray[np.integer]
    table: Floats
    scaled: bool
    first: NDArray[np.int32] | None = None

    def value(self) -> Floats:
        if self.scaled:
            return self.integers.astype(np.float32) * self.table
        places = self.integers if self.first is None else self.integers + self.first
        values: Floats = self.table[places]
        return values

    def transposed(self) -> Coded:
        table = self.table.T if self.scaled and self.table.ndim else self.table
        return Coded(self.integers.T, table, self.scaled, None if self.first is None else self.first.T)


@dataclass(frozen=True)
class Short:
    """A parameter as floats of two bytes: `bits` (uint16), those of a float16 or a bfloat16."""

    bits: NDArray[np.uint16]
    bfloat16: bool

    def value(self) -> Floats:
        if self.bfloat16:
            return (self.bits.astype(np.uint32) << 16).view(np.float32)
        return self.bits.view(np.float16).astype(np.float32)

    def transposed(self) -> Short:
        return Short(self.bits.T, self.bfloat16)


def encode_parameters(
    model: onnx.ModelProto, parameters: Mapping[str, Tensor], encodings: Mapping[str, Encoding]
) -> dict[str, str]:
    """Replaces initializers of `model`, in place, by nodes that compute them from fewer bytes. The parameters whose
    codebook, grid or short floats the file doesn't hold, each with the reason."""
    initializers = {entry.name: entry for entry in model.graph.initializer}
    decoders: list[onnx.NodeProto] = []
    plain = {}
    for name, encoding in encodings.items():
        if encoding.kind == "mask":
            continue  # a plain tensor holds its zeros
        coded = coded_parameter(parameters[name].detach(), encoding)
        if isinstance(coded, str):
            plain[name] = coded
            continue
        found = _find(coded, name, initializers)
        if found is None:
            plain[name] = "the exporter made another tensor of it"
            continue
        if isinstance(encoding, Blocks) and isinstance(coded, Coded):
            turned = found[1] is not coded
            reason = multiply_packed(model, found[0], encoding, coded.integers, found[2], turned=turned)
            plain |= {} if reason is None else {name: reason}
            initializers = {entry.name: entry for entry in model.graph.initializer}
            continue
        stored, coded, factor = found
        nodes, tensors = _decoder(stored.name, coded, factor)
        if _bytes(nodes, tensors) >= stored.ByteSize():
            plain[name] = "it takes no more bytes as it is"
            continue
        model.graph.initializer.remove(stored)
        del initializers[stored.name]
        model.graph.initializer.extend(tensors)
        decoders += nodes
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*decoders, *rest])
    return plain


def coded_parameter(value: Tensor, encoding: Encoding) -> Coded | Short | str:
    """The parameter `value` by its codebook or grid, or as short floats; or why its integers take too many bits."""
    if isinstance(encoding, Half):
        bits = value.to(encoding.dtype).contiguous().view(torch.int16).numpy().view(np.uint16)
        return Short(bits, not isinstance(encoding, Float16))
    if isinstance(encoding, Codebook):
        return _shared(encoding, value)
    if isinstance(encoding, Grid):
        step = encoding.step.reshape(-1, *[1] * (value.dim() - 1)) if encoding.step.dim() else encoding.step
        levels = _smallest(encoding.levels(value).numpy(), (np.int8, np.int16))
        return TOO_WIDE if levels is None else Coded(levels, step.numpy(), scaled=True)
    if isinstance(encoding, Blocks):
        return Coded(encoding.levels(value).numpy().astype(np.int8), encoding.steps(value).numpy(), scaled=True)
    raise TypeError(f"no way to write a {encoding.kind}")


def _shared(encoding: Codebook, value: Tensor) -> Coded | str:
    """Each codebook begins with a zero, if there are any."""
    zeros = int(bool((encoding.codes < 0).any()))
    table = np.pad(encoding.free(value).numpy().reshape(encoding.count(), -1), ((0, 0), (zeros, 0)))
    codes = _smallest(encoding.codes.numpy() + zeros, (np.uint8, np.int16))
    if codes is None:
        return TOO_WIDE
    first = None
    if encoding.rows is not None:
        first = (encoding.rows.numpy() * table.shape[1]).astype(np.int32).reshape(-1, *[1] * (value.dim() - 1))
    return Coded(codes, table.reshape(-1), scaled=False, first=first)


def _smallest(integers: NDArray[np.generic], kinds: Sequence[type[np.integer]]) -> NDArray[np.integer] | None:
    low, high = (int(integers.min()), int(integers.max())) if integers.size else (0, 0)
    fitting = (kind for kind in kinds if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
    kind = next(fitting, None)
    return None if kind is None else integers.astype(kind)


def _find(
    coded: Coded | Short, name: str, initializers: Mapping[str, TensorProto]
) -> tuple[TensorProto, Coded | Short, Floats | None] | None:
    """The initializer that the parameter became, the numbers in its layout, and the factor of each channel."""
    if name in initializers:
        stored = numpy_helper.to_array(initializers[name])
        for axis in (None, 0, 1):
            factor = _factor(coded.value(), stored, axis)
            if factor is not None:
                return initializers[name], coded, factor if factor.size else None
        return None
    turned = coded.transposed()
    wanted = turned.value()
    if wanted.ndim != 2:
        return None
    shape = list(wanted.shape)
    alike = [entry for entry in initializers.values() if list(entry.dims) == shape]
    found = (entry for entry in alike if np.array_equal(numpy_helper.to_array(entry), wanted))
    entry = next(found, None)
    return None if entry is None else (entry, turned, None)


def _factor(value: Floats, stored: NDArray[np.generic], axis: int | None) -> Floats | None:
    """What `value` has to be multiplied by along `axis` to be what is stored; empty: by nothing. None: it can't."""
    if stored.dtype != np.float32 or stored.shape != value.shape:
        return None
    if axis is None:
        return np.zeros(0, np.float32) if np.array_equal(stored, value) else None
    if value.ndim <= axis:
        return None
    others = tuple(index for index in range(value.ndim) if index != axis)
    power = (value.astype(np.float64) ** 2).sum(others, keepdims=True)
    shared = (value.astype(np.float64) * stored.astype(np.float64)).sum(others, keepdims=True)
    factor = np.divide(shared, power, out=np.ones_like(power), where=power > 0).astype(np.float32)
    return factor if bool((np.abs(value * factor - stored) <= ROUNDING * np.abs(stored)).all()) else None


def _widened(name: str, short: Short, factor: Floats | None) -> tuple[list[onnx.NodeProto], list[TensorProto]]:
    """Nodes and tensors that give the value `name`."""
    wide = name if factor is None else f"{name}/wide"
    kind = TensorProto.BFLOAT16 if short.bfloat16 else TensorProto.FLOAT16
    stored = TensorProto(data_type=kind, dims=short.bits.shape, name=f"{name}/short")
    stored.raw_data = short.bits.astype("<u2").tobytes()
    nodes = [helper.make_node("Cast", [stored.name], [wide], f"{name}/Cast", to=TensorProto.FLOAT)]
    if factor is None:
        return nodes, [stored]
    nodes.append(helper.make_node("Mul", [wide, f"{name}/factor"], [name], f"{name}/Mul"))
    return nodes, [stored, numpy_helper.from_array(factor, f"{name}/factor")]


def _decoder(name: str, coded: Coded | Short, factor: Floats | None) -> tuple[list[onnx.NodeProto], list[TensorProto]]:
    """Nodes and tensors that give the value `name`."""
    if isinstance(coded, Short):
        return _widened(name, coded, factor)
    wide, table = f"{name}/wide", f"{name}/values"
    nodes, tensors = _integers(name, coded, wide)
    if coded.scaled:
        nodes.append(helper.make_node("Mul", [wide, table], [name], f"{name}/Mul"))
        step = coded.table if factor is None else coded.table * factor
        return nodes, [*tensors, numpy_helper.from_array(np.ascontiguousarray(step), table)]
    if coded.first is not None:
        nodes.append(helper.make_node("Add", [wide, f"{name}/first"], [f"{name}/places"], f"{name}/Add"))
        tensors.append(numpy_helper.from_array(np.ascontiguousarray(coded.first), f"{name}/first"))
        wide = f"{name}/places"
    taken = name if factor is None else f"{name}/unscaled"
    nodes.append(helper.make_node("Gather", [table, wide], [taken], f"{name}/Gather"))
    tensors.append(numpy_helper.from_array(coded.table, table))
    if factor is not None:
        nodes.append(helper.make_node("Mul", [taken, f"{name}/factor"], [name], f"{name}/Mul"))
        tensors.append(numpy_helper.from_array(factor, f"{name}/factor"))
    return nodes, tensors


def _integers(name: str, coded: Coded, wide: str) -> tuple[list[onnx.NodeProto], list[TensorProto]]:
    """Nodes and tensors that give the integers under the name `wide`, as int32, or as floats where they are scaled: of
    whole bytes or of a few bits, whichever take less."""
    kind, stored = (TensorProto.FLOAT if coded.scaled else TensorProto.INT32), f"{name}/integers"
    tensors = [numpy_helper.from_array(np.ascontiguousarray(coded.integers), stored)]
    nodes = [helper.make_node("Cast", [stored], [wide], f"{name}/Cast", to=kind)]
    width = width_of(coded.integers)
    if width is None or not coded.integers.size:
        return nodes, tensors
    few, packed = unpacking(name, coded.integers, width, stored if coded.scaled else wide)
    if coded.scaled:
        few.append(nodes[0])
    return min((few, packed), (nodes, tensors), key=lambda way: _bytes(*way))


def _bytes(nodes: Sequence[onnx.NodeProto], tensors: Sequence[TensorProto]) -> int:
    return sum(int(node.ByteSize()) for node in nodes) + sum(int(tensor.ByteSize()) for tensor in tensors)
