"""One call of an ATen operator, with its arguments by name: what the rules of lifting look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx
from torch._ops import OpOverload

from compression.vocabulary import schema

Value: TypeAlias = Any  # an argument: a node, a number, a list of such …


@dataclass(frozen=True)
class AtenCall:
    """`operator` is the name without the underscore of in-place forms; `arguments` has the schema's defaults filled in;
    `shapes` are the values of all nodes (fake tensors), once per tried batch."""

    node: fx.Node
    operator: str
    arguments: Mapping[str, Value]
    shapes: tuple[Mapping[fx.Node, Value], ...]

    def __getitem__(self, name: str) -> Value:
        return self.arguments[name]

    def attribute(self, name: str) -> Tensor | None:
        """The parameter or buffer behind an argument, None where it's absent. LookupError: it is computed."""
        node = self.arguments[name]
        if node is None:
            return None
        if not isinstance(node, fx.Node) or node.op != "get_attr":
            raise LookupError(f"{name} is computed")
        value: Tensor = getattr(node.graph.owning_module, str(node.target))
        return value

    def shape(self, node: fx.Node, trial: int = 0) -> tuple[int, ...]:
        return tuple(self.shapes[trial][node].shape)

    def dtype(self, node: fx.Node) -> torch.dtype:
        found: torch.dtype = self.shapes[0][node].dtype
        return found


def aten_call(node: fx.Node, shapes: tuple[Mapping[fx.Node, Value], ...]) -> AtenCall:
    overload = node.target
    if not isinstance(overload, OpOverload):
        raise TypeError(f"{node.name} calls no ATen operator")
    arguments: dict[str, Value] = {}
    for index, argument in enumerate(schema(overload).arguments):
        if not argument.kwarg_only and index < len(node.args):
            arguments[argument.name] = node.args[index]
        elif argument.name in node.kwargs:
            arguments[argument.name] = node.kwargs[argument.name]
        elif argument.has_default_value():
            arguments[argument.name] = argument.default_value
    name = overload.overloadpacket.__name__
    return AtenCall(node, name.removesuffix("_"), arguments, shapes)
