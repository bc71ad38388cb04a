"""Edits of a traced graph: looking at what a node is made of, and putting something else in its place."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload

from compression.intake.onnx.trace import Trace
from compression.intake.onnx.value import CannotLift, Value

MOST_FACTORS = 8
"""No activation has more; a chain of products is not followed to its end from each of its links."""
Operand: TypeAlias = "fx.Node | float | int"


class Editor:
    """`rewrite` applies one rule to every node once, in order; a rule returns what stands for the node, or None."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.graph = trace.graph
        self.erased: set[fx.Node] = set()
        self.calls = Counter(node.target for node in trace.graph.nodes if node.op == "call_module")

    def rewrite(self, rule: Callable[[fx.Node], Value | None]) -> None:
        for node in list(self.graph.nodes):
            if node.op not in {"call_function", "call_module"} or node in self.erased:
                continue
            before = node.prev
            try:
                with self.graph.inserting_before(node):
                    value = rule(node)
            except CannotLift:
                value = None  # the pieces stay as they are
            if value is None:
                self._discard(before, node)
            if value is not None and value.node is not None and value.node is not node:
                node.replace_all_uses_with(value.node)
                self._sweep(node)

    def _discard(self, before: fx.Node, node: fx.Node) -> None:
        """Erases what a rule made in front of a node before it found that it doesn't apply."""
        made = node.prev
        while made is not before:
            earlier = made.prev
            if made.op in {"call_function", "call_module"} and not made.users:
                self.graph.erase_node(made)
            made = earlier

    def _sweep(self, node: fx.Node) -> None:
        """Erases a node without users, and what it alone used: users are counted by the rules."""
        waiting = [node]
        while waiting:
            dead = waiting.pop()
            if dead.users or dead.op in {"placeholder", "output"} or dead in self.erased:
                continue
            sources = dead.all_input_nodes
            self.graph.erase_node(dead)
            self.erased.add(dead)
            waiting += sources

    def value(self, node: fx.Node) -> Value:
        return Value(tuple(node.meta["trials"]), node)

    def leaf(self, node: Any, *kinds: type[nn.Module]) -> nn.Module | None:
        """The module that a node calls, if it is of one of these classes."""
        if not isinstance(node, fx.Node) or node.op != "call_module":
            return None
        module = self.trace.root.get_submodule(str(node.target))
        return module if type(module) in kinds else None

    def own_leaf(self, node: Any, *kinds: type[nn.Module]) -> nn.Module | None:
        """As `leaf`, where this is its one call, of which the result goes to one place: it may be changed."""
        module = self.leaf(node, *kinds)
        return module if module is not None and len(node.users) == 1 and self.calls[node.target] <= 1 else None

    def stored(self, node: Any) -> Tensor | None:
        """The tensor that a node stands for."""
        if not isinstance(node, fx.Node) or node.op != "get_attr":
            return None
        holder, _, name = str(node.target).rpartition(".")
        tensor: Tensor = getattr(self.trace.root.get_submodule(holder), name)
        return tensor.detach()

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        return tuple(node.meta["trials"][0].shape)


def is_call(node: Any, *targets: Any) -> bool:
    """Whether a node calls one of these functions or ATen packets."""
    if not isinstance(node, fx.Node) or node.op != "call_function":
        return False
    target: Any = node.target
    packet = target.overloadpacket if isinstance(target, OpOverload) else target
    return any(packet is wanted or target is wanted for wanted in targets)


def moved(editor: Editor, value: Value, order: tuple[int, ...]) -> Value:
    """A permutation as the plainest call."""
    places = [axis for axis, source in enumerate(order) if axis != source]
    if not places:
        return value
    if len(places) == 2:
        return editor.trace.call(torch.transpose, value, *places)
    return editor.trace.call(torch.permute, value, order)


def permutation(editor: Editor, node: Any) -> tuple[int, ...] | None:
    """The axes of its argument in the order in which a node has them, where it only moves them."""
    if is_call(node, torch.permute):
        return tuple(node.args[1])
    if is_call(node, torch.transpose):
        rank = len(editor.shape(node))
        order = list(range(rank))
        one, other = node.args[1] % rank, node.args[2] % rank
        order[one], order[other] = order[other], order[one]
        return tuple(order)
    return None


def operands(node: Any, function: Any) -> list[tuple[Operand, Operand]]:
    """Both orders of a sum's or a product's two operands; nothing where the node is none."""
    if not is_call(node, function):
        return []
    one, other = node.args
    return [(one, other), (other, one)]


def is_number(value: Any, wanted: float | None = None, tolerance: float = 1e-4) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return wanted is None or abs(value - wanted) <= tolerance * max(abs(wanted), 1e-12)


def plus(node: Any, wanted: float) -> fx.Node | None:
    """x, where the node is x + wanted."""
    for value, number in operands(node, operator.add):
        if is_number(number, wanted) and isinstance(value, fx.Node):
            return value
    return None


def squared(node: Any) -> fx.Node | None:
    """x, where the node is x²."""
    if is_call(node, torch.ops.aten.square):
        return node.args[0]  # type: ignore[no-any-return]
    if is_call(node, torch.ops.aten.pow) and is_number(node.args[1], 2.0):
        return node.args[0]  # type: ignore[no-any-return]
    return node.args[0] if is_call(node, operator.mul) and node.args[0] is node.args[1] else None


def product(node: Any) -> tuple[float, list[fx.Node]]:
    """The number and the other factors of a product, through products that nobody else uses, as far as MOST_FACTORS."""
    factor = 1.0
    found: list[fx.Node] = []
    waiting, first = [node], True
    while waiting:
        entry = waiting.pop()
        few = len(found) + len(waiting) < MOST_FACTORS
        inner = first or (few and isinstance(entry, fx.Node) and len(entry.users) == 1)
        first = False
        if is_number(entry):
            factor *= float(entry)
        elif inner and is_call(entry, operator.mul):
            waiting += list(entry.args)
        elif inner and is_call(entry, operator.truediv) and is_number(entry.args[1]) and entry.args[1] != 0:
            factor /= float(entry.args[1])
            waiting.append(entry.args[0])
        elif inner and is_call(entry, operator.neg):
            factor = -factor
            waiting.append(entry.args[0])
        else:
            found.append(entry)
    return factor, found
