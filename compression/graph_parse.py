"""Reads a graph's JSON. Nothing in it is trusted: it becomes a graph of the vocabulary, or an IntakeError."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, fx, nn

from compression.errors import IntakeError
from compression.vocabulary import FUNCTIONS, KINDS, MODULES, aten, is_identifier, is_path, state, takes

Json: TypeAlias = Any
Argument: TypeAlias = Any  # of an fx node: a node, a number, a tuple of such …

_LARGEST = 2**31
_LENGTHS = {
    "in_channels", "out_channels", "in_features", "out_features", "num_features", "num_channels", "num_embeddings",
    "embedding_dim", "num_parameters", "groups", "num_groups", "normalized_shape", "kernel_size",
}  # fmt: skip
_MEMORY_FORMATS = {"contiguous_format", "channels_last", "channels_last_3d", "preserve_format"}
_DTYPES = {"bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _NodeDocument(_Strict):
    name: str
    op: Literal["placeholder", "get_attr", "call_module", "call_function", "output"]
    target: str
    args: list[Any] = Field(max_length=16)
    kwargs: dict[str, Any] = Field(max_length=16)


class _LeafDocument(_Strict):
    kind: str
    arguments: dict[str, Any]


Names = Annotated[list[str], Field(max_length=100_000)]


class _GraphDocument(_Strict):
    nodes: list[_NodeDocument] = Field(min_length=2, max_length=200_000)
    modules: dict[str, _LeafDocument] = Field(max_length=100_000)
    parameters: Names
    buffers: Names
    aliases: dict[str, str] = Field(max_length=100_000)


def graph_from_json(document: Json, tensors: Mapping[str, Tensor]) -> fx.GraphModule:
    """The graph that `graph_to_json` wrote, in eval mode; `tensors` are its parameters and buffers by their first name
    (`used_tensors`), which it takes over. Nothing in `document` is trusted: every fault is an IntakeError."""
    try:
        parsed = _GraphDocument.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise IntakeError(
            f"the graph is malformed: {first['msg']}", ".".join(str(part) for part in first["loc"])
        ) from error
    if any(original in parsed.aliases for original in parsed.aliases.values()):
        raise IntakeError("an alias of an alias", "aliases")
    root = _Root(tensors, parsed.aliases)
    for name, leaf in parsed.modules.items():
        root.attach(name, root.leaf(name, leaf))
    for name in parsed.parameters:
        root.attach(name, root.tensor(name, parameter=True))
    for name in parsed.buffers:
        root.attach(name, root.tensor(name, parameter=False))
    for name, original in parsed.aliases.items():
        if original in parsed.modules:
            root.attach(name, root.module.get_submodule(original))
        elif name not in root.asked:
            root.attach(name, root.tensor(name, parameter=original in parsed.parameters))
    unused = set(tensors) - set(root.values)
    if unused:
        raise IntakeError("a tensor that the graph does not use", min(unused))
    return fx.GraphModule(root.module, _graph(parsed.nodes, root.module)).eval()


class _Root:
    """The module in which the graph's names are looked up; `values` holds each of its tensors by its first name."""

    def __init__(self, tensors: Mapping[str, Tensor], aliases: Mapping[str, str]) -> None:
        self.module = nn.Module()
        self.tensors = tensors
        self.aliases = aliases
        self.values: dict[str, Tensor] = {}
        self.asked: set[str] = set()

    def leaf(self, name: str, document: _LeafDocument) -> nn.Module:
        cls = KINDS.get(document.kind)
        if cls is None or set(document.arguments) != set(MODULES[cls]):
            raise IntakeError(f"not a module of the vocabulary: {document.kind[:50]}", name)
        arguments = {key: _module_argument(value, name) for key, value in document.arguments.items()}
        for key in _LENGTHS & set(arguments):
            lengths = arguments[key] if isinstance(arguments[key], tuple) else (arguments[key],)
            if not all(type(length) is int and length > 0 for length in lengths):
                raise IntakeError(f"{key} must be positive", name)
        try:
            with torch.device("meta"):  # nothing is allocated, whatever the arguments say
                leaf = cls(**arguments)
        except (TypeError, ValueError, RuntimeError, LookupError, ArithmeticError, AssertionError) as error:
            raise IntakeError(f"{document.kind} can't be made with its arguments", name) from error
        for part, wanted in state(leaf).items():
            parameter = isinstance(wanted, nn.Parameter)
            setattr(leaf, part, self.tensor(f"{name}.{part}", parameter=parameter, like=wanted))
        return leaf

    def tensor(self, name: str, *, parameter: bool, like: Tensor | None = None) -> Tensor:
        first = self.aliases.get(name, name)
        if first not in self.tensors:
            raise IntakeError("a tensor that the file does not hold", name)
        tensor = self.tensors[first]
        if name in self.asked:
            raise IntakeError("a tensor that is named twice", name)
        if like is not None and (tensor.shape != like.shape or tensor.dtype != like.dtype):
            raise IntakeError(f"is {_form(tensor)}, but its module takes {_form(like)}", name)
        if parameter and tensor.dtype != torch.float32:
            raise IntakeError("a parameter must be float32", name)
        self.asked.add(name)
        made: Tensor = nn.Parameter(tensor) if parameter else tensor
        value = self.values.setdefault(first, made)
        if isinstance(value, nn.Parameter) != parameter:
            raise IntakeError("a tensor that is both parameter and buffer", name)
        return value

    def attach(self, path: str, value: nn.Module | Tensor) -> None:
        """Puts a leaf module or a tensor at its dotted path, through plain `nn.Module` containers."""
        if not is_path(path):
            raise IntakeError("not a name that a part of a network can have", path[:100])
        holder, (*containers, name) = self.module, path.split(".")
        for part in containers:
            if not hasattr(holder, part):
                holder.add_module(part, nn.Module())
            inner = getattr(holder, part)
            if type(inner) is not nn.Module:
                raise IntakeError("a name inside of something that is not a container", path)
            holder = inner
        if hasattr(holder, name):
            raise IntakeError("two parts have one name", path)
        if isinstance(value, nn.Parameter | nn.Module):
            setattr(holder, name, value)
        else:
            holder.register_buffer(name, value)


def _form(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _module_argument(value: Json, name: str) -> Argument:
    if isinstance(value, dict) and set(value) == {"tuple"} and isinstance(value["tuple"], list):
        if any(isinstance(item, dict) for item in value["tuple"]):
            raise IntakeError("an argument is nested", name)
        return tuple(_module_argument(item, name) for item in value["tuple"])
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise IntakeError("an argument is out of range", name)
    if value is None or isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) < 20):
        return value
    raise IntakeError("an argument of a kind that no module takes", name)


def _graph(nodes: list[_NodeDocument], root: nn.Module) -> fx.Graph:
    graph = fx.Graph()
    known: dict[str, fx.Node] = {}
    for index, document in enumerate(nodes):
        if (document.op == "output") != (index == len(nodes) - 1):
            raise IntakeError("a graph ends with its one output", document.name[:100])
        args = tuple(_decode(value, known) for value in document.args)
        kwargs = {key: _decode(value, known) for key, value in document.kwargs.items()}
        target = _target(document, args, kwargs, root)
        node = graph.create_node(document.op, target, args, kwargs, name=document.name[:300])
        if node.name != document.name:  # not an identifier, a keyword, or a name that is taken
            raise IntakeError("not a name that a node can have, or taken", document.name[:100])
        known[node.name] = node
    return graph


def _target(document: _NodeDocument, args: tuple[Any, ...], kwargs: dict[str, Any], root: nn.Module) -> Argument:
    """The node's target, once its arguments fit it."""
    target = document.target
    if document.op == "call_function":
        _check_call(target, args, kwargs)
        return aten(target) or FUNCTIONS[target].call
    wanted = {"placeholder": 0, "get_attr": 0, "call_module": 1, "output": 1}[document.op]
    if len(args) != wanted or kwargs:
        raise IntakeError(f"{document.op} takes {wanted} arguments", document.name[:100])
    if document.op == "placeholder" and not is_identifier(target):
        raise IntakeError("not a name that an input can have", target[:100])
    if document.op == "output" and (target != "output" or not all(isinstance(n, fx.Node) for n in _outputs(args[0]))):
        raise IntakeError("the output must be one node or a tuple of nodes", document.name[:100])
    if document.op in {"get_attr", "call_module"}:
        value: Any = root
        for part in target.split(".") if is_path(target) else [""]:
            value = getattr(value, part, None)
        if not isinstance(value, Tensor if document.op == "get_attr" else tuple(MODULES)):
            raise IntakeError(f"{document.op} of something that is not there: {target[:100]}", document.name[:100])
        if document.op == "call_module" and not isinstance(args[0], fx.Node):
            raise IntakeError("a module takes a node", document.name[:100])
    return target


def _outputs(value: Argument) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) and value else (value,)


def _check_call(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    overload = aten(name)
    if overload is not None:
        fits = takes(overload, len(args), kwargs)
    elif name in FUNCTIONS:
        function = FUNCTIONS[name]
        fits = function.least <= len(args) <= function.most and set(kwargs) <= function.keywords
        if name == "getitem":  # fx writes it as brackets, which Python warns of after a number or None
            fits = fits and isinstance(args[0], fx.Node)
    else:
        raise IntakeError("not in the vocabulary", name[:100], kind="operator-unsupported")
    if not fits:
        raise IntakeError("called with arguments that it does not take", name)


def _decode(value: Json, known: Mapping[str, fx.Node], depth: int = 0) -> Argument:
    if depth > 6:
        raise IntakeError("an argument is nested too deeply", "nodes")
    if value is None or isinstance(value, bool | float | str):
        return value
    if isinstance(value, int) and abs(value) <= 2**63 - 1:
        return value
    if isinstance(value, list):
        return [_decode(item, known, depth + 1) for item in value]
    if isinstance(value, dict) and len(value) == 1:
        ((kind, content),) = value.items()
        return _decode_object(kind, content, known, depth)
    raise IntakeError("an argument of an unknown kind", "nodes")


def _decode_object(kind: str, content: Json, known: Mapping[str, fx.Node], depth: int) -> Argument:
    if kind in {"tuple", "slice"} and isinstance(content, list):
        items = tuple(_decode(item, known, depth + 1) for item in content)
        if kind == "tuple":
            return items
        if len(items) == 3:
            return slice(*items)
    if kind == "ellipsis" and content is True:
        return Ellipsis
    if isinstance(content, str):
        if kind == "node" and content in known:
            return known[content]
        if kind == "float" and content in {"inf", "-inf", "nan"}:
            return float(content)
        if content in {"dtype": _DTYPES, "memory_format": _MEMORY_FORMATS}.get(kind, set()):
            return getattr(torch, content)
        if (kind, content) == ("device", "cpu"):
            return torch.device("cpu")
        if (kind, content) == ("layout", "strided"):
            return torch.strided
    raise IntakeError(f"an argument that is not there or of an unknown kind: {kind[:50]}", "nodes")
