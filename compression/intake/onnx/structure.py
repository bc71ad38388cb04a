"""Whether a model is sound and of the kind that is read: every graph, node and tensor, before anything is computed."""

from __future__ import annotations

from collections.abc import Iterable

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, ValueInfoProto

from compression.errors import IntakeError
from compression.intake.onnx import NEWEST_OPSET, OLDEST_OPSET
from compression.intake.onnx.packed_product import check_packed_product, is_packed_product
from compression.intake.onnx.tensors import TYPES, check_shape, check_tensor

MOST_NODES = 20_000
MOST_DEEP = 8
"""Subgraphs inside subgraphs."""
STANDARD = ("", "ai.onnx")
_A = AttributeProto
_VALUE_FIELDS = {
    _A.FLOAT: "f", _A.INT: "i", _A.STRING: "s", _A.TENSOR: "t", _A.GRAPH: "g", _A.FLOATS: "floats", _A.INTS: "ints",
    _A.STRINGS: "strings", _A.TENSORS: "tensors", _A.GRAPHS: "graphs", _A.TYPE_PROTO: "tp",
    _A.TYPE_PROTOS: "type_protos",
}  # fmt: skip


def check_model(model: ModelProto) -> int:
    """The opset of the standard domain. IntakeError: what is wrong with the model, and where."""
    if model.training_info:
        raise IntakeError("training information; export the model for inference", "training_info", "model-unsupported")
    if model.functions:
        name = f"{model.functions[0].domain}.{model.functions[0].name}"
        message = "functions of the model's own; inline them with onnx.inliner.inline_local_functions(model)"
        raise IntakeError(message, name[:200], "model-unsupported")
    versions = [entry.version for entry in model.opset_import if entry.domain in STANDARD]
    if len(versions) != 1:
        raise IntakeError("a model has one version of the standard operators", "opset_import")
    if not OLDEST_OPSET <= versions[0] <= NEWEST_OPSET:
        message = f"opset {versions[0]}: export the model with opset {OLDEST_OPSET} to {NEWEST_OPSET} (opset_version=)"
        raise IntakeError(message, "opset_import", "model-unsupported")
    if not model.graph.output or not model.graph.input:
        raise IntakeError("a model has inputs and outputs", "graph")
    _Check().graph(model.graph, set(), 0)
    return int(versions[0])


def node_name(node: NodeProto) -> str:
    """How messages call a node: its name, or its operator and first output."""
    return (node.name or f"{node.op_type} → {next(iter(node.output), '')}")[:200]


class _Check:
    def __init__(self) -> None:
        self.nodes = 0
        self.stored: dict[str, TensorProto] = {}  # of the graph that is looked at, those that no input replaces

    def graph(self, graph: GraphProto, known: set[str], depth: int) -> None:
        """`known`: the names that can be used at this place; those of the graph itself are gone again afterwards."""
        if depth > MOST_DEEP:
            raise IntakeError(f"graphs nested more than {MOST_DEEP} deep", graph.name[:200], "model-unsafe")
        if graph.sparse_initializer:
            raise IntakeError("a sparse tensor", graph.sparse_initializer[0].values.name[:200], "model-unsupported")
        inputs = [_checked(entry) for entry in graph.input]
        stored = [tensor.name for tensor in graph.initializer]
        for tensor in graph.initializer:
            check_tensor(tensor, tensor.name[:200])
        own = list(dict.fromkeys([*inputs, *stored]))  # an input may have a default
        if len(set(inputs)) != len(inputs):
            raise IntakeError("two inputs have one name", next(n for n in inputs if inputs.count(n) > 1)[:200])
        _add(known, own)
        if len(set(stored)) != len(stored):
            raise IntakeError("a tensor comes twice", next(name for name in stored if stored.count(name) > 1)[:200])
        for entry in graph.value_info:
            _checked(entry)
        made = [name for node in graph.node for name in node.output if name]
        later, outer = set(made), self.stored
        self.stored = {tensor.name: tensor for tensor in graph.initializer if tensor.name not in inputs}
        for node in graph.node:
            self._node(node, known, later, depth)
        self.stored = outer
        for entry in graph.output:
            _checked(entry)
            if entry.name not in known:
                raise IntakeError("an output that nothing makes", entry.name[:200])
        known.difference_update(own, made)

    def _node(self, node: NodeProto, known: set[str], later: set[str], depth: int) -> None:
        self.nodes += 1
        where = node_name(node)
        if self.nodes > MOST_NODES:
            raise IntakeError(f"more than {MOST_NODES} nodes", where, "model-unsafe")
        if is_packed_product(node):
            check_packed_product(node, self.stored, where)
        elif node.domain not in STANDARD:
            message = f"{node.op_type[:100]} of the domain {node.domain[:100]}: only the standard domain is read"
            raise IntakeError(message, where, "model-unsupported")
        for name in node.input:
            if name and name not in known:
                hint = "before it is made: a cycle, or nodes out of order" if name in later else "that nothing makes"
                raise IntakeError(f"the value {name[:100]} is used {hint}", where)
        names = [attribute.name for attribute in node.attribute]
        if len(set(names)) != len(names):
            raise IntakeError("an attribute comes twice", where)
        for attribute in node.attribute:
            self._attribute(attribute, where, known, depth)
        _add(known, [name for name in node.output if name], where)

    def _attribute(self, attribute: AttributeProto, where: str, known: set[str], depth: int) -> None:
        field = _VALUE_FIELDS.get(attribute.type)
        if attribute.ref_attr_name or field is None:
            raise IntakeError(f"the attribute {attribute.name[:100]} has no type that can be read", where)
        for other in _VALUE_FIELDS.values():
            repeated = other in {"floats", "ints", "strings", "tensors", "graphs", "type_protos"}
            if other != field and (len(getattr(attribute, other)) if repeated else attribute.HasField(other)):
                raise IntakeError(f"the attribute {attribute.name[:100]} has two values", where)
        if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
            raise IntakeError("a sparse tensor", where, "model-unsupported")
        for tensor in (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors):
            check_tensor(tensor, where)
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            self.graph(graph, known, depth + 1)


def _checked(entry: ValueInfoProto) -> str:
    """The name of an input, output or annotated value whose declared shape is possible."""
    if not entry.name:
        raise IntakeError("a value without a name", "graph")
    _check_type(entry.type, entry.name[:200])
    return entry.name


def _check_type(declared: TypeProto, where: str) -> None:
    if not declared.HasField("tensor_type"):
        return  # sequences and optionals: values inside an opaque model; as an input they are refused later
    tensor = declared.tensor_type
    if tensor.elem_type and tensor.elem_type not in TYPES and tensor.elem_type != 8:
        raise IntakeError(f"a value of the type {tensor.elem_type}", where, "model-unsupported")
    lengths = [1 if dim.dim_value == -1 else dim.dim_value for dim in tensor.shape.dim]  # Paddle's sign for free
    check_shape(lengths, where)


def _add(known: set[str], names: Iterable[str], where: str = "") -> None:
    for name in names:
        if name in known:
            raise IntakeError(f"the name {name[:100]} is made twice", where or name[:200])
        known.add(name)
