"""A model's inputs and outputs as the file declares them, and as a `Signature` where that can hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnx import GraphProto, ModelProto, ValueInfoProto

from compression.errors import IntakeError, SpecError
from compression.intake.onnx.naming import identifiers
from compression.intake.onnx.tensors import TYPES, check_shape
from compression.intake.onnx.value import LARGEST_VALUE
from compression.network import Input

DTYPES = frozenset({"float32", "int64", "int32", "bool"})
"""What a network's inputs may be made of."""
MOST_VALUES = 64
"""Inputs, or outputs, of a network."""
Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class DeclaredInput:
    """`stored_name` in the file; `shape` without the batch, its free axes fixed."""

    name: str
    stored_name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Declared:
    """What a lifted network is to have. `static_batch`: written in the file as a number; `fixed_axes`: free in the
    file, and given the length that is told; `unused`: inputs that no node reads, left out (`shape` is whole here)."""

    inputs: tuple[DeclaredInput, ...]
    outputs: tuple[str, ...]
    static_batch: int | None
    fixed_axes: tuple[str, ...]
    unused: tuple[DeclaredInput, ...] = ()


class Undeclared(Exception):
    """A network's signature can't hold what the file declares; `where` is the input."""

    def __init__(self, why: str, where: str) -> None:
        super().__init__(why)
        self.why, self.where = why, where


def real_inputs(model: ModelProto) -> list[ValueInfoProto]:
    """The inputs without those that are stored (files of old versions list every weight as an input)."""
    stored = {tensor.name for tensor in model.graph.initializer}
    return [entry for entry in model.graph.input if entry.name not in stored]


def declared_shape(entry: ValueInfoProto) -> Shape | None:
    """Lengths, None for a free one; None as a whole where no shape is declared."""
    if not entry.type.tensor_type.HasField("shape"):
        return None
    return tuple(
        int(dim.dim_value) if dim.HasField("dim_value") and dim.dim_value > 0 else None
        for dim in entry.type.tensor_type.shape.dim
    )


def declared_dtype(entry: ValueInfoProto) -> str:
    """IntakeError: the input is no tensor of numbers."""
    kind = TYPES.get(entry.type.tensor_type.elem_type) if entry.type.HasField("tensor_type") else None
    if kind is None or kind.dtype is None:
        raise IntakeError("an input that is no tensor of numbers", entry.name[:200], "model-unsupported")
    return kind.dtype


def default_length(rank: int) -> int:
    """What a free axis is given where nobody says more: that of images, or of sequences."""
    return 224 if rank == 4 else 32


def declare(model: ModelProto, chosen: Mapping[str, Sequence[int]]) -> Declared:
    """The signature of a network lifted from `model`. `chosen` gives shapes without the batch by input name; free axes
    that it doesn't name get `default_length`. Undeclared: it can't be told as one. SpecError: `chosen` doesn't fit."""
    read = _read(model.graph) | {entry.name for entry in model.graph.output}
    every = real_inputs(model)
    entries = [entry for entry in every if entry.name in read] or every
    kept = {entry.name for entry in entries}
    unused = tuple(_unused(entry) for entry in every if entry.name not in kept)
    if not entries:
        raise Undeclared("it has no inputs", "graph")
    if max(len(entries) + len(unused), len(model.graph.output)) > MOST_VALUES:
        raise Undeclared(f"more than {MOST_VALUES} inputs or outputs", "graph")
    names = identifiers(entry.name for entry in entries)
    unknown = set(chosen) - set(names) - {entry.name for entry in entries}
    if unknown:
        first = min(unknown)
        why = "no operator reads the input" if first in {entry.name for entry in unused} else "the model has no input"
        raise SpecError(f"{why} {first}; it has {', '.join(names)}", "/architecture/inputs")
    inputs, fixed, batches = [], [], dict[int | None, str]()
    for entry, name in zip(entries, names, strict=True):
        shape, dtype = declared_shape(entry), declared_dtype(entry)
        if not shape:
            raise Undeclared("the input has no batch axis", name)
        if dtype not in DTYPES:
            raise Undeclared(f"an input of the type {dtype}", name)
        wanted = chosen.get(name, chosen.get(entry.name))
        lengths = _fixed(shape[1:], wanted, name)
        check_shape(list(lengths), name)
        fixed += [
            f"{name}: axis {axis + 1} = {lengths[axis]}" for axis, length in enumerate(shape[1:]) if length is None
        ]
        batches.setdefault(shape[0], name)
        inputs.append(DeclaredInput(name, entry.name, lengths, dtype))
    if len(batches) > 1:
        raise Undeclared(_DISAGREE, list(batches.values())[1])
    outputs = identifiers((entry.name for entry in model.graph.output), names)
    return Declared(tuple(inputs), outputs, next(iter(batches)), tuple(fixed), unused)


_DISAGREE = """\
its inputs disagree on the batch. Keras' own export makes an input of a constant that a layer holds (Normalization): \
write the file with model.export("FOLDER") and python -m tf2onnx.convert --saved-model FOLDER --output model.onnx"""


def _read(graph: GraphProto) -> set[str]:
    """The names that nodes read, those of subgraphs too."""
    found = set()
    for node in graph.node:
        found.update(node.input)
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                found |= _read(inner) | {entry.name for entry in inner.output}
    return found


def _unused(entry: ValueInfoProto) -> DeclaredInput:
    shape = tuple(1 if length is None else length for length in declared_shape(entry) or ())
    if check_shape(list(shape), entry.name[:200]) > LARGEST_VALUE:
        raise IntakeError(f"an input of the shape {list(shape)}: too large", entry.name[:200], "model-unsafe")
    return DeclaredInput(entry.name, entry.name, shape, declared_dtype(entry))


def _fixed(shape: Shape, wanted: Sequence[int] | None, name: str) -> tuple[int, ...]:
    if wanted is None:
        return tuple(default_length(len(shape) + 1) if length is None else length for length in shape)
    fits = len(wanted) == len(shape) and all(
        type(size) is int and size > 0 and length in (None, size) for size, length in zip(wanted, shape, strict=True)
    )
    if not fits:
        told = [("free" if length is None else length) for length in shape]
        raise SpecError(f"the input {name} has the shape {told} (without its batch)", "/architecture/inputs")
    return tuple(wanted)


def network_inputs(declared: Declared) -> tuple[Input, ...]:
    return tuple(Input(entry.name, entry.shape, entry.dtype) for entry in declared.inputs)
