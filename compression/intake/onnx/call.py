"""One node of an ONNX graph with its values: what the rules look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from onnx import AttributeProto, NodeProto, TensorProto

from compression.intake.onnx.naming import module_path
from compression.intake.onnx.tensors import TYPES, to_array
from compression.intake.onnx.trace import Trace
from compression.intake.onnx.value import CannotLift, Length, Value

Rule: TypeAlias = "Callable[[Call], Value | Sequence[Value]]"


@dataclass(frozen=True)
class Call:
    """`inputs` are None where they were left out; `outputs` is how many of the node's outputs have a name."""

    node: NodeProto
    inputs: Sequence[Value | None]
    attributes: Mapping[str, Any]
    opset: int
    trace: Trace

    @property
    def operator(self) -> str:
        return self.node.op_type

    def given(self, index: int) -> Value | None:
        return self.inputs[index] if index < len(self.inputs) else None

    def value(self, index: int = 0) -> Value:
        """An input that must be there."""
        found = self.given(index)
        if found is None:
            raise CannotLift(f"its input {index} is missing")
        return found

    def constant(self, index: int, what: str) -> torch.Tensor:
        """The numbers of an input that is stored or follows from what is stored."""
        found = self.value(index)
        if not found.constant:
            raise CannotLift(f"its {what} is computed from the network's inputs")
        return found.trials[0]

    def number(self, index: int, default: float | None = None) -> Any:
        found = self.given(index)
        return default if found is None else found.number()

    def lengths(self, index: int) -> list[Length] | None:
        """An input of whole numbers (a shape, axes), None where it was left out."""
        found = self.given(index)
        return None if found is None else self.trace.read_lengths(found)

    def numbers(self, name: str, index: int) -> list[int] | None:
        """Whole numbers that don't depend on the batch: an attribute in older opsets, an input in newer ones."""
        if name in self.attributes:
            return [int(entry) for entry in self.attributes[name]]
        found = self.lengths(index)
        if found is None:
            return None
        if any(len(set(entry.at)) > 1 for entry in found):
            raise CannotLift(f"its {name} depend on the batch")
        return [entry.at[0] for entry in found]

    def get(self, name: str, default: Any = None) -> Any:
        return self.attributes.get(name, default)

    def axis(self, default: int | None = None, rank: int | None = None) -> int:
        """The attribute "axis" as a number from 0."""
        rank = self.value().rank if rank is None else rank
        axis = self.attributes.get("axis", default)
        if axis is None or not -rank <= axis < max(rank, 1):
            raise CannotLift(f"it has no axis {axis}")
        return int(axis) % max(rank, 1)

    def path(self, weight: int | None = None) -> str:
        """What a leaf module of this node is called; `weight` is the input that names it."""
        owner = "" if weight is None else self.value(weight).name
        return module_path(owner, self.node.name, self.operator)


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """By name: numbers, text, lists of them, tensors and graphs."""
    return {attribute.name: _attribute(attribute) for attribute in node.attribute}


def _attribute(attribute: AttributeProto) -> Any:
    kinds = AttributeProto
    if attribute.type == kinds.STRING:
        return attribute.s.decode("utf-8", "replace")
    if attribute.type == kinds.STRINGS:
        return [entry.decode("utf-8", "replace") for entry in attribute.strings]
    simple = {kinds.FLOAT: "f", kinds.INT: "i", kinds.TENSOR: "t", kinds.GRAPH: "g"}
    several = {kinds.FLOATS: "floats", kinds.INTS: "ints"}
    if attribute.type in simple:
        return getattr(attribute, simple[attribute.type])
    return list(getattr(attribute, several[attribute.type])) if attribute.type in several else attribute


def tensor_of(stored: TensorProto) -> torch.Tensor:
    """A stored tensor's numbers; floats of two bytes too, which are there to be widened. CannotLift: of a type that
    isn't computed with."""
    array = to_array(stored)
    dtype = TYPES[stored.data_type].dtype
    if stored.data_type == TensorProto.BFLOAT16:
        return _bfloat16(stored)
    if array is None or dtype not in {*_DTYPES, "float16"}:
        raise CannotLift(f"it holds numbers of the type {dtype or TensorProto.DataType.Name(stored.data_type)}")
    return torch.from_numpy(array)


def _bfloat16(stored: TensorProto) -> torch.Tensor:
    raw = stored.raw_data
    bits = np.frombuffer(raw, "<u2") if stored.HasField("raw_data") else np.array(stored.int32_data, np.int64)
    return torch.from_numpy(bits.astype(np.uint16).view(np.int16).reshape(tuple(stored.dims))).view(torch.bfloat16)


_DTYPES = frozenset({"float32", "float64", "uint8", "int8", "int16", "int32", "int64", "bool"})


def dtype_of(kind: int) -> torch.dtype:
    """The type that a Cast makes. CannotLift: one that isn't computed with."""
    name = TYPES[kind].dtype if kind in TYPES else None
    if name not in _DTYPES:
        raise CannotLift(f"numbers of the type {name or kind}")
    dtype: torch.dtype = getattr(torch, name)
    return dtype
