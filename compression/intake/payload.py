"""The raw tensors of a torch.export archive: every view is checked against its bytes before it is made."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from compression.errors import IntakeError
from compression.intake.archive import Archive
from compression.intake.program_schema import Layout, PayloadConfig

STRIDED = 7
SLACK = 64 << 20


class Payloads:
    """Tensors by the name that the archive's configs give them; views of the same bytes are the same object.

    Together they may be twice as large as the bytes behind them (a buffer can be an expanded view), not more, and all
    bytes may be read four times over."""

    def __init__(self, archive: Archive, dtypes: Mapping[int, torch.dtype]) -> None:
        self._archive = archive
        self._dtypes = dtypes
        self._entries: dict[str, tuple[str, Layout]] = {}
        self._made: dict[tuple[str, str, bool], Tensor] = {}
        self._budget = SLACK
        self._reading = SLACK
        self._last = ("", bytearray())

    def declare(self, folder: str, config: PayloadConfig) -> None:
        members = {folder + payload.path_name for payload in config.config.values()}
        held = sum(self._archive.size(member) for member in members)
        self._budget += 2 * held
        self._reading += 4 * held
        for name, payload in config.config.items():
            if name in self._entries:
                raise IntakeError("a tensor that is declared twice", name)
            self._entries[name] = (folder + payload.path_name, payload.tensor_meta)

    def read(self, name: str, *, parameter: bool) -> Tensor:
        """The tensor `name`, in memory of its own; a parameter must be float32 and finite."""
        if name not in self._entries:
            raise IntakeError("the archive holds no bytes for this tensor", name)
        member, layout = self._entries[name]
        key = (member, layout.model_dump_json(), parameter)
        if key not in self._made:
            tensor = self._view(name, member, layout)
            if parameter and (tensor.dtype != torch.float32 or not bool(tensor.isfinite().all())):
                raise IntakeError("a parameter must be float32 and finite; export the model after model.float()", name)
            self._made[key] = nn.Parameter(tensor) if parameter else tensor
        return self._made[key]

    def _view(self, name: str, member: str, layout: Layout) -> Tensor:
        sizes = [size.as_int for size in layout.sizes]
        strides = [stride.as_int for stride in layout.strides]
        numbers = [*sizes, *strides, layout.storage_offset.as_int]
        dtype = self._dtypes.get(layout.dtype)
        if dtype is None or layout.layout != STRIDED or len(sizes) != len(strides):
            raise IntakeError("a tensor of an unknown type or layout", name)
        if any(number is None or number < 0 for number in numbers) or 0 in sizes:
            raise IntakeError("a tensor with an empty, negative or symbolic axis", name)
        shape = [size for size in sizes if size is not None]
        steps = [stride if size != 1 else 1 for size, stride in zip(shape, strides, strict=True) if stride is not None]
        offset = layout.storage_offset.as_int or 0
        held, rest = divmod(self._archive.size(member), dtype.itemsize)
        last = offset + sum((size - 1) * step for size, step in zip(shape, steps, strict=True))
        if rest or last >= held:
            raise IntakeError("a tensor that reaches beyond its bytes", name, kind="model-unsafe")
        self._budget -= math.prod(shape) * dtype.itemsize
        if self._budget < 0:
            raise IntakeError("the tensors are far larger than the bytes behind them", name, kind="model-unsafe")
        return (
            torch.frombuffer(self._bytes(name, member), dtype=dtype)
            .as_strided(shape, steps, offset)
            .clone(memory_format=torch.contiguous_format)
        )

    def _bytes(self, name: str, member: str) -> bytearray:
        """A member's bytes; tensors that are views of the same ones mostly come in a row."""
        if self._last[0] != member:
            self._reading -= self._archive.size(member)
            if self._reading < 0:
                raise IntakeError("the same bytes are used again and again", name, kind="model-unsafe")
            self._last = (member, bytearray(self._archive.read(member, at_most=self._archive.size(member))))
        return self._last[1]
