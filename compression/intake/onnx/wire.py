"""The bytes of a protobuf message, walked before protobuf parses them.

Protobuf makes an object of each empty submessage, two bytes on the wire: some fifty times what the file has. It also
merges a message that comes twice. So the fields are counted, the nesting measured, and doubles refused first.
Wire format: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from google.protobuf.descriptor import FieldDescriptor  # type: ignore[import-untyped]
from onnx import ModelProto

from compression.errors import IntakeError

MOST_FIELDS = 2_000_000
MOST_VARINT_BYTES = 32 << 20
"""Bytes of tensors written as packed varints, each of which takes eight times its size in memory."""
DEEPEST = 32
"""Messages inside messages; a subgraph inside a subgraph takes three."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class _Field:
    name: str
    message: Any  # the descriptor of a submessage, or None
    repeated: bool
    packed: int | None  # the wire type of the numbers that may be packed


@dataclass
class _Walk:
    fields: int = 0
    varints: int = 0


def check_wire(data: memoryview) -> None:
    """Walks `data` as a ModelProto. IntakeError: model-unreadable or model-unsafe."""
    walk = _Walk()
    open_messages: list[tuple[Any, int, set[int]]] = [(ModelProto.DESCRIPTOR, len(data), set())]
    at = 0
    while open_messages:
        descriptor, end, seen = open_messages[-1]
        if at == end:
            open_messages.pop()
            continue
        walk.fields += 1
        if walk.fields > MOST_FIELDS:
            raise IntakeError(f"more than {MOST_FIELDS} fields", kind="model-unsafe")
        tag, at = _varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        field = _fields(descriptor).get(number)
        start, at = _value(data, at, end, wire)
        if field is None:
            continue  # of a later version of the format
        _check_field(field, number, wire, seen, walk, at - start)
        if field.message is not None:
            if len(open_messages) >= DEEPEST:
                raise IntakeError(f"messages nested more than {DEEPEST} deep", field.name, "model-unsafe")
            open_messages.append((field.message, at, set()))
            at = start


def _check_field(field: _Field, number: int, wire: int, seen: set[int], walk: _Walk, length: int) -> None:
    if not field.repeated:
        if number in seen:
            raise _unreadable("a field that may come once comes twice", field.name)
        seen.add(number)
    if field.message is not None and wire != _BYTES:
        raise _unreadable("a field of the wrong kind", field.name)
    if wire == _BYTES and field.packed == _VARINT:
        walk.varints += length
        if walk.varints > MOST_VARINT_BYTES:
            raise IntakeError("too many numbers outside of raw_data", field.name, "model-unsafe")


@cache
def _fields(descriptor: Any) -> dict[int, _Field]:
    wires = {FieldDescriptor.TYPE_FLOAT: _FIXED32, FieldDescriptor.TYPE_DOUBLE: _FIXED64}
    return {
        field.number: _Field(
            field.name,
            field.message_type,
            field.is_repeated,
            None
            if field.type in {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_MESSAGE}
            else wires.get(field.type, _VARINT),
        )
        for field in descriptor.fields
    }


def _value(data: memoryview, at: int, end: int, wire: int) -> tuple[int, int]:
    """Where a field's value starts and ends."""
    if wire == _VARINT:
        return at, _varint(data, at, end)[1]
    if wire == _BYTES:
        length, at = _varint(data, at, end)
        stop = at + length
    elif wire in {_FIXED32, _FIXED64}:
        stop = at + (4 if wire == _FIXED32 else 8)
    else:
        raise _unreadable("a wire type that ONNX does not use")
    if stop > end:
        raise _unreadable("the file is cut short or damaged")
    return at, stop


def _varint(data: memoryview, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise _unreadable("a number of more than 64 bits")
    raise _unreadable("the file is cut short or damaged")


def _unreadable(message: str, where: str = "") -> IntakeError:
    return IntakeError(f"not a sound ONNX file: {message}", where)
