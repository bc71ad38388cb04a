"""A checked ONNX model → a graph of the vocabulary, node by node in the file's order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from onnx import GraphProto, ModelProto, NodeProto
from torch import fx

from compression.errors import IntakeError
from compression.intake.onnx import (
    rules_arithmetic,
    rules_blocks,
    rules_convolutions,
    rules_norms,
    rules_pooling,
    rules_products,
    rules_reductions,
    rules_resize,
    rules_sequences,
    rules_shapes,
)
from compression.intake.onnx.call import Call, Rule, attributes_of, tensor_of
from compression.intake.onnx.signature import Declared
from compression.intake.onnx.structure import STANDARD, node_name
from compression.intake.onnx.trace import Trace
from compression.intake.onnx.value import CannotLift, Value
from compression.intake.shapes import RUN_ERRORS

RULES: Mapping[str, Rule] = {
    **rules_arithmetic.RULES,
    **rules_blocks.RULES,
    **rules_convolutions.RULES,
    **rules_norms.RULES,
    **rules_pooling.RULES,
    **rules_products.RULES,
    **rules_shapes.RULES,
    **rules_resize.RULES,
    **rules_reductions.RULES,
    **rules_sequences.RULES,
}
_CONSTANTS = {
    "value_float": torch.float32,
    "value_floats": torch.float32,
    "value_int": torch.int64,
    "value_ints": torch.int64,
}
_SHORT = frozenset({torch.float16, torch.bfloat16})
"""Stored in these, numbers may be widened and nothing else."""
OPERATORS = frozenset({*(name.rpartition(".")[2] for name in RULES), "Constant", "If"})
"""Every operator that is lifted, in the forms that docs/intake.md tells."""


@dataclass(frozen=True)
class Stop(Exception):
    """What kept a model from being lifted: an operator of a node, or "" for the model as a whole."""

    operator: str
    node: str
    why: str

    def as_dict(self) -> dict[str, str]:
        return {"operator": self.operator, "node": self.node, "why": self.why}


def import_graph(model: ModelProto, opset: int, declared: Declared, batches: tuple[int, int]) -> Trace:
    """The trace of a whole model, its output node included. Stop: an operator can't be lifted. IntakeError: unsafe."""
    trace = Trace(batches, static=declared.static_batch is not None)
    values: dict[str, Value | None] = {"": None}
    for entry in declared.inputs:
        values[entry.stored_name] = trace.placeholder(entry.name, entry.shape, getattr(torch, entry.dtype))
    _Import(trace, opset).graph(model.graph, values)
    trace.graph.output(_outputs(trace, model, values))
    return trace


def _outputs(trace: Trace, model: ModelProto, values: Mapping[str, Value | None]) -> Any:
    nodes: list[fx.Node] = []
    for entry in model.graph.output:
        value = values[entry.name]
        if value is None or value.node is None:
            raise Stop("", entry.name[:200], "an output does not depend on the inputs")
        if not all(shape and shape[0] == batch for shape, batch in zip(value.shapes, trace.batches, strict=True)):
            raise Stop("", entry.name[:200], "an output has no batch axis in front")
        nodes.append(value.node)
    return nodes[0] if len(nodes) == 1 else tuple(nodes)


class _Import:
    def __init__(self, trace: Trace, opset: int) -> None:
        self.trace = trace
        self.opset = opset

    def graph(self, graph: GraphProto, values: dict[str, Value | None]) -> None:
        """Adds every value of `graph` to `values`, which holds those that it may use already."""
        for tensor in graph.initializer:
            if tensor.name not in values:
                try:
                    values[tensor.name] = self.trace.constant(tensor_of(tensor), tensor.name)
                except CannotLift as error:
                    raise Stop("", tensor.name[:200], error.why) from error
        for node in graph.node:
            try:
                self.node(node, values)
            except CannotLift as error:
                raise Stop(node.op_type[:100], node_name(node), error.why) from error
            except IntakeError as error:
                raise IntakeError(error.message, error.where or node_name(node), error.kind) from error
            except Stop:
                raise
            except RUN_ERRORS as error:
                # Attributes of the wrong kind or count: the rules read them as the standard says they are.
                raise Stop(
                    node.op_type[:100], node_name(node), f"its attributes don't fit: {str(error)[:200]}"
                ) from error

    def node(self, node: NodeProto, values: dict[str, Value | None]) -> None:
        attributes = attributes_of(node)
        operator = node.op_type if node.domain in STANDARD else f"{node.domain}.{node.op_type}"
        if operator == "Constant":
            results: Sequence[Value] = (self._constant(node, attributes),)
        elif operator == "If":
            results = self._branch(node, attributes, values)
        elif operator in RULES:
            inputs = [values[name] for name in node.input]
            short = [entry.dtype for entry in inputs if entry is not None and entry.dtype in _SHORT]
            if short and node.op_type != "Cast":
                raise CannotLift(f"it computes in {str(short[0]).removeprefix('torch.')}")
            result = RULES[operator](Call(node, inputs, attributes, self.opset, self.trace))
            results = (result,) if isinstance(result, Value) else result
        else:
            raise CannotLift("the operator is not among those that are lifted")
        values |= {name: result for name, result in zip(node.output, results, strict=False) if name}
        missing = [name for name in node.output if name and name not in values]
        if missing:
            raise CannotLift(f"its output {missing[0][:100]} is none that is lifted")

    def _constant(self, node: NodeProto, attributes: Mapping[str, Any]) -> Value:
        name = next(iter(node.output), "")
        if "value" in attributes:
            return self.trace.constant(tensor_of(attributes["value"]), attributes["value"].name or name)
        for kind, dtype in _CONSTANTS.items():
            if kind in attributes:
                return self.trace.constant(torch.tensor(attributes[kind], dtype=dtype), name)
        raise CannotLift("a constant that is no tensor of numbers")

    def _branch(
        self, node: NodeProto, attributes: Mapping[str, Any], values: dict[str, Value | None]
    ) -> Sequence[Value]:
        """A branch whose condition is known (exporters write one around a squeeze): its graph stands in its place."""
        condition = values[node.input[0]]
        if condition is None or not condition.constant:
            raise CannotLift("its condition is computed from the input")
        branch = attributes["then_branch" if bool(condition.number()) else "else_branch"]
        inner = dict(values)
        self.graph(branch, inner)
        results = [inner[entry.name] for entry in branch.output]
        if any(result is None for result in results):
            raise CannotLift("a branch without a result")
        return [result for result in results if result is not None]
