"""An ATen program: what reading a `.pt2` archive yields, and what lifting starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import fx

from compression.network import Input


@dataclass(frozen=True)
class Program:
    """`module` calls allow-listed ATen overloads (those that work in place among them) and operators on numbers. Its
    tensors are attributes with neutral names; `names` gives each one's name in the user's model. `static_batch` is the
    batch that was burnt in at export, None where it was left free."""

    module: fx.GraphModule
    names: Mapping[str, str]
    inputs: tuple[Input, ...]
    outputs: int
    static_batch: int | None
    torch_version: str
    fixed_axes: tuple[str, ...]  # axes besides the batch that were free at export: they keep their traced length
