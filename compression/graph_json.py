"""A graph as JSON: how checkpoints and delivered files keep one. `compression.graph_parse` reads it back."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import torch
from torch import fx, nn

from compression.vocabulary import called, function_name, module_arguments, state, tensor_names

Json: TypeAlias = Any
Argument: TypeAlias = Any  # of an fx node: a node, a number, a tuple of such …


def graph_to_json(module: fx.GraphModule) -> dict[str, Any]:
    """The graph as JSON values: nodes, leaf modules with their constructor arguments, the names of tensors that stand
    alone, and `aliases`: further names of a shared tensor or module. Modules that the graph doesn't call are left out.
    ValueError: something isn't in the vocabulary."""
    tensors = tensor_names(module)
    modules: dict[str, Any] = {}
    aliases = {name: first for name, (_, first) in tensors.items() if name != first}
    first: dict[int, str] = {}
    for name in called(module):
        leaf = module.get_submodule(name)
        original = first.setdefault(id(leaf), name)
        if original == name:
            arguments = {key: _encode(value) for key, value in module_arguments(leaf).items()}
            modules[name] = {"kind": type(leaf).__name__, "arguments": arguments}
        else:
            aliases = {key: to for key, to in aliases.items() if not key.startswith(f"{name}.")} | {name: original}
    leaves = {f"{name}.{part}" for name in called(module) for part in state(module.get_submodule(name))}
    alone = [name for name in tensors if name not in leaves and name not in aliases]
    return {
        "nodes": [_node_to_json(node) for node in module.graph.nodes],
        "modules": modules,
        "parameters": [name for name in alone if isinstance(tensors[name][0], nn.Parameter)],
        "buffers": [name for name in alone if not isinstance(tensors[name][0], nn.Parameter)],
        "aliases": aliases,
    }


def _node_to_json(node: fx.Node) -> dict[str, Any]:
    if node.op == "call_method":
        raise ValueError(f"{node.name} calls a method: not in the vocabulary")
    target = function_name(node.target) if node.op == "call_function" else str(node.target)
    kwargs = {key: _encode(value) for key, value in node.kwargs.items()}
    return {
        "name": node.name,
        "op": node.op,
        "target": target,
        "args": [_encode(a) for a in node.args],
        "kwargs": kwargs,
    }


def _encode(value: Argument) -> Json:
    """JSON for an argument: numbers, strings and lists as they are, everything else as an object with one key."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if isinstance(value, tuple):
        return {"tuple": [_encode(item) for item in value]}
    if isinstance(value, list):
        return [_encode(item) for item in value]
    if isinstance(value, slice):
        return {"slice": [_encode(value.start), _encode(value.stop), _encode(value.step)]}
    if value is Ellipsis:
        return {"ellipsis": True}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, torch.memory_format):
        return {"memory_format": str(value).removeprefix("torch.")}
    if isinstance(value, torch.device) and value.type == "cpu":
        return {"device": "cpu"}
    if value is torch.strided:
        return {"layout": "strided"}
    raise ValueError(f"an argument of type {type(value).__name__} is not in the vocabulary")
