"""Parameters as their encodings have them, in an `.onnx` file: small integers and what they stand for.

A codebook is Gather(values, Cast(codes)) with codes of 8 or 16 bits, a grid Mul(Cast(levels), step), floats of two
bytes are Cast(floats). ONNX Runtime computes them once, when a session is made, so that a run takes no longer.
`DequantizeLinear` would be the operator made for a grid, but ONNX Runtime keeps it for fusions of its own and, where
there are none, runs it each time: measured at three times the latency of the plain matrix (docs/benchmarks.md).

The exporter may have changed a parameter: scaled its channels (a folded BatchNorm) or transposed it. Both are found by
comparing numbers, and undone by a factor for each channel or by transposing the integers. Anything else stays plain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from compression.encodings import Codebook, Encoding, Float16, Grid, Half

Floats = NDArray[np.float32]
ROUNDING = 4e-7
"""Relative: what a product in float32 may be off by."""


@dataclass(frozen=True)
class Coded:
    """A parameter as small integers: `table[integers]`, or `integers * table` if `scaled`; `table` is a vector, a
    number, or has a length for the integers' first axis and 1 for the others."""

    integers: NDArray[np.integer]
    table: Floats
    scaled: bool

    def value(self) -> Floats:
        return self.integers.astype(np.float32) * self.table if self.scaled else self.table[self.integers]

    def transposed(self) -> Coded:
        table = self.table.T if self.scaled and self.table.ndim else self.table
        return Coded(self.integers.T, table, self.scaled)


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
        stored, coded, factor = found
        nodes, tensors = _decoder(stored.name, coded, factor)
        if sum(node.ByteSize() for node in nodes) + sum(t.ByteSize() for t in tensors) >= stored.ByteSize():
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
        zeros = bool((encoding.codes < 0).any())
        free = encoding.free(value)
        table = np.concatenate([np.zeros(int(zeros), np.float32), free.numpy()])
        return _packed(encoding.places().numpy() + int(zeros), table, scaled=False)
    if isinstance(encoding, Grid):
        step = encoding.step.reshape(-1, *[1] * (value.dim() - 1)) if encoding.step.dim() else encoding.step
        return _packed(encoding.levels(value).numpy(), step.numpy(), scaled=True)
    raise TypeError(f"no way to write a {encoding.kind}")


def _packed(integers: NDArray[np.generic], table: Floats, *, scaled: bool) -> Coded | str:
    low, high = (int(integers.min()), int(integers.max())) if integers.size else (0, 0)
    for kind in (np.int8 if scaled else np.uint8, np.int16):
        limits = np.iinfo(kind)
        if limits.min <= low and high <= limits.max:
            return Coded(integers.astype(kind), table, scaled)
    return "its integers need more than 16 bits"


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
    integers, wide, table = f"{name}/integers", f"{name}/wide", f"{name}/values"
    tensors = [numpy_helper.from_array(np.ascontiguousarray(coded.integers), integers)]
    nodes = [helper.make_node("Cast", [integers], [wide], f"{name}/Cast")]
    if coded.scaled:
        nodes[0].attribute.append(helper.make_attribute("to", TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", [wide, table], [name], f"{name}/Mul"))
        step = coded.table if factor is None else coded.table * factor
        return nodes, [*tensors, numpy_helper.from_array(np.ascontiguousarray(step), table)]
    nodes[0].attribute.append(helper.make_attribute("to", TensorProto.INT32))
    taken = name if factor is None else f"{name}/unscaled"
    nodes.append(helper.make_node("Gather", [table, wide], [taken], f"{name}/Gather"))
    tensors.append(numpy_helper.from_array(coded.table, table))
    if factor is not None:
        nodes.append(helper.make_node("Mul", [taken, f"{name}/factor"], [name], f"{name}/Mul"))
        tensors.append(numpy_helper.from_array(factor, f"{name}/factor"))
    return nodes, tensors
